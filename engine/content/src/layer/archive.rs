//! The members of a tar stream, one after the other, with their extended headers merged in.
//!
//! The `tar` crate knows the fields of a header; members are walked here, because its own walk reads extended
//! headers of any length into memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileExt;

use tar::{EntryType, Header};

use super::pax::Extended;
use super::sparse::{Form, Lines, Piece, pieces};
use super::{LayerError, Refused};

const BLOCK: usize = 512;
/// Longest extended header, in bytes; Go's archive/tar has the same limit.
const EXTENDED_MAX: u64 = 1 << 20;

/// One member.
#[derive(Debug)]
pub struct Member {
    /// What it is.
    pub kind: Kind,
    /// Its name, as the archive writes it.
    pub path: Vec<u8>,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds and nanoseconds since 1970 UTC.
    pub mtime: (i64, u32),
    /// Extended attributes: names and values.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a member is.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The words of tar(5) say it.
pub enum Kind {
    /// Its content follows; so long is the file, with its holes.
    File {
        size: u64,
    },
    Folder,
    HardLink {
        target: Vec<u8>,
    },
    Symlink {
        target: Vec<u8>,
    },
    Character {
        major: u32,
        minor: u32,
    },
    Block {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// A tar stream, member by member; itself the content of the present one.
pub struct Archive<R> {
    reader: R,
    /// Content and padding of the present member that were not read yet, in bytes.
    content: u64,
    padding: u64,
    /// Where in its file the unread content belongs.
    pieces: VecDeque<Piece>,
}

impl<R: Read> Archive<R> {
    /// At its start.
    pub fn new(reader: R) -> Archive<R> {
        Archive { reader, content: 0, padding: 0, pieces: VecDeque::new() }
    }

    /// The next member; what is left of the present one is skipped.
    pub fn next_member(&mut self) -> Result<Option<Member>, LayerError> {
        let mut extended = Extended::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header_size(&header)?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let data = self.extension(size)?;
                    extended.read(&data)?;
                }
                EntryType::GNULongName => extended.path = Some(until_null(self.extension(size)?)),
                EntryType::GNULongLink => extended.link = Some(until_null(self.extension(size)?)),
                // Docker ignores it too; it is where `git archive` writes its commit.
                EntryType::XGlobalHeader => self.begin(size),
                _ => return self.member(&header, extended).map(Some),
            }
        }
    }

    /// Writes the content of the present member, which is a file of that size. Its holes stay holes.
    ///
    /// # Errors
    /// The stream broke, or the disk is full.
    pub fn write_to(&mut self, file: &File, size: u64, buffer: &mut [u8]) -> Result<(), Refused> {
        let mut end = 0;
        while let Some(piece) = self.pieces.front_mut() {
            let most = usize::try_from(piece.length).unwrap_or(usize::MAX).min(buffer.len());
            let offset = piece.offset;
            let count = self.read(&mut buffer[..most])?;
            file.write_all_at(&buffer[..count], offset)?;
            end = offset + count as u64;
            self.advance(count as u64);
        }
        if end < size {
            file.set_len(size)?;
        }
        Ok(())
    }

    /// So much of the present piece was read.
    fn advance(&mut self, count: u64) {
        let Some(piece) = self.pieces.front_mut() else { return };
        (piece.offset, piece.length) = (piece.offset + count, piece.length - count);
        if piece.length == 0 {
            self.pieces.pop_front();
        }
    }

    /// Reads content of the present member; 0 at its end.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let most = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.reader.read(&mut buffer[..most]).map_err(LayerError::Read)?;
        if count == 0 {
            return Err(LayerError::Read(ErrorKind::UnexpectedEof.into()));
        }
        self.content -= count as u64;
        Ok(count)
    }

    fn begin(&mut self, size: u64) {
        self.content = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// The next header block; `None` at the first block of zeros or where the stream ends.
    fn header(&mut self) -> Result<Option<Header>, LayerError> {
        let mut scratch = [0; 16 << 10];
        self.content = self.content.checked_add(self.padding).ok_or(BAD_SIZE)?;
        self.padding = 0;
        while self.read(&mut scratch)? > 0 {}
        let mut header = Header::new_old();
        let count = read_full(&mut self.reader, header.as_mut_bytes())?;
        if count == 0 || header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if count < BLOCK {
            return Err(LayerError::Read(ErrorKind::UnexpectedEof.into()));
        }
        check_sum(&header)?;
        Ok(Some(header))
    }

    /// The content of an extended header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        if size > EXTENDED_MAX {
            return Err(LayerError::Malformed("an extended header is longer than 1 MiB"));
        }
        self.begin(size);
        let mut data = vec![0; size as usize];
        let mut filled = 0;
        while filled < data.len() {
            filled += self.read(&mut data[filled..])?;
        }
        Ok(data)
    }

    /// Reads the map in front of the content of a sparse file.
    fn map(&mut self) -> Result<Vec<u64>, LayerError> {
        let (mut lines, mut block) = (Lines::default(), [0; BLOCK]);
        for _ in 0..EXTENDED_MAX / BLOCK as u64 {
            let mut filled = 0;
            while filled < BLOCK {
                match self.read(&mut block[filled..])? {
                    0 => return Err(LayerError::Malformed("a sparse file without its map")),
                    count => filled += count,
                }
            }
            if let Some(map) = lines.block(&block)? {
                return Ok(map);
            }
        }
        Err(LayerError::Malformed("the map of a sparse file is longer than 1 MiB"))
    }

    fn member(&mut self, header: &Header, extended: Extended) -> Result<Member, LayerError> {
        let old = header.as_old();
        let sparse = extended.sparse;
        let named = sparse.name.clone().or(extended.path);
        let path = named.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || header.link_name_bytes().map_or_else(Vec::new, |link| link.into_owned());
        let target = extended.link.unwrap_or_else(link);
        let size = extended.size.map_or_else(|| header_size(header), Ok)?;
        let mut kind = kind(header, &path, target, size)?;
        self.begin(if let Kind::File { size } = kind { size } else { 0 });
        self.pieces.clear();
        if let Kind::File { size } = &mut kind {
            let file_size = sparse.file_size().unwrap_or(*size);
            self.pieces = match sparse.form() {
                Form::Whole => pieces(&[0, *size], *size, *size)?,
                Form::Records => pieces(sparse.map()?, file_size, *size)?,
                Form::Content => pieces(&self.map()?, file_size, self.content)?,
            };
            if sparse.form() != Form::Whole {
                *size = file_size;
            }
        }
        Ok(Member {
            kind,
            path,
            mode: (numeric(&old.mode)? & 0o7777) as u32,
            uid: owner(extended.uid.map_or_else(|| numeric(&old.uid), Ok)?)?,
            gid: owner(extended.gid.map_or_else(|| numeric(&old.gid), Ok)?)?,
            mtime: extended.mtime.map_or_else(|| numeric(&old.mtime).map(|seconds| (seconds, 0)), Ok)?,
            xattrs: extended.xattrs,
        })
    }

    /// The reader, to drain what follows the end of the archive.
    pub fn into_inner(self) -> R {
        self.reader
    }
}

const BAD_NUMBER: LayerError = LayerError::Malformed("a number is broken");
const BAD_SIZE: LayerError = LayerError::Malformed("a size is impossible");

fn kind(header: &Header, path: &[u8], target: Vec<u8>, size: u64) -> Result<Kind, LayerError> {
    Ok(match header.entry_type() {
        // Before POSIX a folder was a file with a slash at the end of its name.
        EntryType::Regular if path.ends_with(b"/") => Kind::Folder,
        EntryType::Regular | EntryType::Continuous => Kind::File { size },
        EntryType::Directory => Kind::Folder,
        EntryType::Link => Kind::HardLink { target },
        EntryType::Symlink => Kind::Symlink { target },
        EntryType::Char => {
            let (major, minor) = device(header)?;
            Kind::Character { major, minor }
        }
        EntryType::Block => {
            let (major, minor) = device(header)?;
            Kind::Block { major, minor }
        }
        EntryType::Fifo => Kind::Fifo,
        other => {
            let path = String::from_utf8_lossy(path).into_owned();
            return Err(LayerError::Kind { path, kind: char::from(other.as_byte()) });
        }
    })
}

fn device(header: &Header) -> Result<(u32, u32), LayerError> {
    let Some(ustar) = header.as_ustar().map(|h| (&h.dev_major, &h.dev_minor)) else {
        let gnu = header.as_gnu().ok_or(LayerError::Malformed("a device without numbers"))?;
        return Ok((device_number(&gnu.dev_major)?, device_number(&gnu.dev_minor)?));
    };
    Ok((device_number(ustar.0)?, device_number(ustar.1)?))
}

fn device_number(field: &[u8]) -> Result<u32, LayerError> {
    u32::try_from(numeric(field)?).map_err(|_| BAD_NUMBER)
}

fn owner(id: i64) -> Result<u32, LayerError> {
    // (uid_t) -1 means "leave it" to chown(2) and belongs to nobody.
    u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(BAD_NUMBER)
}

fn header_size(header: &Header) -> Result<u64, LayerError> {
    u64::try_from(numeric(&header.as_old().size)?).map_err(|_| BAD_SIZE)
}

/// Octal digits between spaces and nulls, or (first bit set) a big-endian two's complement number as GNU and
/// star write it. An empty field is 0.
fn numeric(field: &[u8]) -> Result<i64, LayerError> {
    if field[0] & 0x80 != 0 {
        return binary(field);
    }
    let text = field.trim_ascii_start();
    let end = text.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(text.len());
    text[..end].iter().try_fold(0i64, |sum, byte| match byte {
        b'0'..=b'7' => sum.checked_mul(8).map(|sum| sum + i64::from(byte - b'0')).ok_or(BAD_NUMBER),
        _ => Err(BAD_NUMBER),
    })
}

fn binary(field: &[u8]) -> Result<i64, LayerError> {
    let mut bytes = field.to_vec();
    let negative = bytes[0] & 0x40 != 0;
    if !negative {
        bytes[0] &= 0x7f;
    }
    let (high, low) = bytes.split_last_chunk::<8>().ok_or(BAD_NUMBER)?;
    let number = i64::from_be_bytes(*low);
    let fill = if negative { 0xff } else { 0 };
    let fits = high.iter().all(|byte| *byte == fill) && (number < 0) == negative;
    if fits { Ok(number) } else { Err(BAD_NUMBER) }
}

/// The sum of all bytes with the sum's own field as spaces; old tars summed signed bytes.
fn check_sum(header: &Header) -> Result<(), LayerError> {
    let told = numeric(&header.as_old().cksum)?;
    let bytes = header.as_bytes().iter().enumerate();
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (at, byte) in bytes {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte as i8);
    }
    if told == unsigned || told == signed { Ok(()) } else { Err(LayerError::Malformed("wrong checksum")) }
}

fn until_null(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    text.truncate(end);
    text
}

fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize, LayerError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(LayerError::Read(error)),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read() {
        let check =
            |field: &[u8], expected: Option<i64>| assert_eq!(numeric(field).ok(), expected, "{field:?}");
        check(b"0000644\0", Some(0o644));
        check(b"   644 \0", Some(0o644));
        check(&[0; 8], Some(0));
        check(b"8\0", None);
        check(&[0x80, 0, 0, 0, 0, 0, 1, 0], Some(256));
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], Some(-2));
        check(&[0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], Some(1 << 56));
        check(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], None);
        check(&[0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], None);
        check(b"77777777777", Some(0o77777777777));
    }

    proptest! {
        #[test]
        fn any_stream_is_read_without_panic(mut data in proptest::collection::vec(any::<u8>(), 512..2048)) {
            let sum: u64 = data[..512].iter().enumerate()
                .map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte })).sum();
            data[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            let mut archive = Archive::new(&data[..]);
            while let Ok(Some(_)) = archive.next_member() {}
        }
    }
}
