//! Headers of a tar stream: POSIX ustar, with a PAX header in front where a field is too short (POSIX.1-2017, pax).

use std::io::{self, Write};

use tar::{EntryType, Header};

pub(super) const BLOCK: usize = 512;
/// Largest numbers of the octal fields of 12 and 8 bytes, each with its null.
const LONG_MAX: u64 = 0o77_777_777_777;
const SHORT_MAX: u32 = 0o7_777_777;

/// What a member is told to be.
#[derive(Debug)]
pub(super) struct Described<'a> {
    pub kind: EntryType,
    pub name: &'a [u8],
    /// Target of a hard or symbolic link.
    pub link: &'a [u8],
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes that follow; only of regular files.
    pub size: u64,
    /// Seconds since 1970 UTC.
    pub mtime: i64,
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Writes the header blocks of one member.
pub(super) fn write(out: &mut impl Write, member: &Described<'_>) -> io::Result<()> {
    let records = records(member);
    if !records.is_empty() {
        let mut pax = block(EntryType::XHeader, b"PaxHeaders.0/member", b"");
        number(&mut pax.as_old_mut().size, records.len() as u64);
        finish(out, pax)?;
        out.write_all(&records)?;
        pad(out, records.len() as u64)?;
    }
    let mut header = block(member.kind, member.name, member.link);
    let fields = header.as_old_mut();
    number(&mut fields.mode, u64::from(member.mode & 0o7777));
    number(&mut fields.uid, u64::from(member.uid.min(SHORT_MAX)));
    number(&mut fields.gid, u64::from(member.gid.min(SHORT_MAX)));
    number(&mut fields.size, member.size.min(LONG_MAX));
    number(&mut fields.mtime, u64::try_from(member.mtime).unwrap_or(0).min(LONG_MAX));
    if let Some(ustar) = header.as_ustar_mut() {
        number(&mut ustar.dev_major, u64::from(member.device.0.min(SHORT_MAX)));
        number(&mut ustar.dev_minor, u64::from(member.device.1.min(SHORT_MAX)));
    }
    finish(out, header)
}

/// Fills the last block of something `length` bytes long.
pub(super) fn pad(out: &mut impl Write, length: u64) -> io::Result<()> {
    let over = (length % BLOCK as u64) as usize;
    if over == 0 { Ok(()) } else { out.write_all(&[0; BLOCK][over..]) }
}

fn block(kind: EntryType, name: &[u8], link: &[u8]) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    let fields = header.as_old_mut();
    copy(&mut fields.name, name);
    copy(&mut fields.linkname, link);
    header
}

fn finish(out: &mut impl Write, mut header: Header) -> io::Result<()> {
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// What fits; the whole is in the PAX header then.
fn copy(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// Octal digits with zeros in front and a null behind.
fn number(field: &mut [u8], value: u64) {
    let text = format!("{value:0width$o}", width = field.len() - 1);
    field[..text.len()].copy_from_slice(text.as_bytes());
}

fn records(member: &Described<'_>) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| record(&mut records, key, value);
    if member.name.len() > 100 {
        add(b"path", member.name);
    }
    if member.link.len() > 100 {
        add(b"linkpath", member.link);
    }
    if member.size > LONG_MAX {
        add(b"size", member.size.to_string().as_bytes());
    }
    for (key, id) in [(b"uid", member.uid), (b"gid", member.gid)] {
        if id > SHORT_MAX {
            add(key, id.to_string().as_bytes());
        }
    }
    if !u64::try_from(member.mtime).is_ok_and(|mtime| mtime <= LONG_MAX) {
        add(b"mtime", member.mtime.to_string().as_bytes());
    }
    for (name, value) in &member.xattrs {
        add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    records
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Archive, Kind};
    use proptest::prelude::*;

    fn described<'a>(kind: EntryType, name: &'a [u8], link: &'a [u8]) -> Described<'a> {
        let (mode, uid, gid, size, mtime, device) = (0o4755, 0, 0, 0, 0, (0, 0));
        Described { kind, name, link, mode, uid, gid, size, mtime, device, xattrs: vec![] }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            name in "[a-zé]{1,300}", link in "[a-z/]{1,300}", uid in 0..u32::MAX, gid in 0..u32::MAX,
            mtime in any::<i64>(), mode in 0..0o10000u32,
            value in proptest::collection::vec(any::<u8>(), 1..2000),
        ) {
            let mut member = described(EntryType::Symlink, name.as_bytes(), link.as_bytes());
            (member.uid, member.gid, member.mtime, member.mode) = (uid, gid, mtime, mode);
            member.xattrs.push((b"user.x".to_vec(), value.clone()));
            let mut bytes = Vec::new();
            write(&mut bytes, &member).unwrap();
            prop_assert_eq!(bytes.len() % BLOCK, 0);
            let read = Archive::new(&bytes[..]).next_member().unwrap().unwrap();
            prop_assert_eq!(read.path, name.into_bytes());
            prop_assert_eq!(read.kind, Kind::Symlink { target: link.into_bytes() });
            prop_assert_eq!((read.uid, read.gid, read.mode, read.mtime), (uid, gid, mode, (mtime, 0)));
            prop_assert_eq!(read.xattrs, vec![(b"user.x".to_vec(), value)]);
        }
    }

    #[test]
    fn huge_files_are_announced_with_their_size() {
        let mut member = described(EntryType::Regular, b"huge", b"");
        member.size = 1 << 40;
        let mut bytes = Vec::new();
        write(&mut bytes, &member).unwrap();
        let read = Archive::new(&bytes[..]).next_member().unwrap().unwrap();
        assert_eq!(read.kind, Kind::File { size: 1 << 40 });
    }
}
