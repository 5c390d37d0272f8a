//! Files of a hostile container as a tar stream.
//!
//! A node is first opened without effect (`O_PATH`), looked at, and only then, when it is a regular file, opened
//! for reading through that very descriptor: a device or FIFO in its place is never opened.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use runtime::ids::IdMap;
use rustix::fs::{
    FileType, Mode, OFlags, Stat, fstat, getxattr, listxattr, major, minor, openat, readlinkat,
};
use rustix::io::Errno;
use tar::EntryType;

use super::header::{self, BLOCK, Described};
use super::walk::{Met, NAME_COST, Onward, PATH_MAX, walk};

/// Bytes on their way from a file.
const BUFFER: usize = 128 << 10;
/// Most bytes of names of files with several that are remembered; more are written once for each name.
const LINKS_MAX: usize = 32 << 20;
/// Longest extended attribute and longest list of their names: XATTR_SIZE_MAX and XATTR_LIST_MAX.
const XATTR_MAX: usize = 65536;

/// Writes members.
pub struct Packer<W: Write> {
    out: BufWriter<W>,
    /// Name under which a file with several names was written, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Bytes of their names.
    links_bytes: usize,
    /// Devices of the file systems whose content is the engine's or the kernel's own: when the way leads into
    /// one, only its folder is written.
    passed: Vec<u64>,
    /// How the container's ids, which are told, stand to the machine's.
    ids: IdMap,
    buffer: Vec<u8>,
}

impl<W: Write> Packer<W> {
    /// What lies on one of the devices `passed` is left out.
    pub fn new(out: W, passed: Vec<u64>, ids: IdMap) -> Packer<W> {
        let out = BufWriter::with_capacity(BUFFER, out);
        Packer { out, links: HashMap::new(), links_bytes: 0, passed, ids, buffer: vec![0; BUFFER] }
    }

    /// Writes one thing as `name`, and what is below it.
    pub fn top(&mut self, node: &OwnedFd, name: &[u8]) -> io::Result<()> {
        let stat = self.told(fstat(node)?);
        self.member(node.as_fd(), &stat, name)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            self.below(node, Some(name))?;
        }
        Ok(())
    }

    /// Writes what is below a folder; with a prefix the members are named `PREFIX/PATH`.
    pub fn below(&mut self, top: &OwnedFd, prefix: Option<&[u8]>) -> io::Result<()> {
        let own = fstat(top)?.st_dev;
        walk(top.as_fd(), |met| {
            let name = match prefix {
                Some(prefix) => [prefix, b"/", met.path].concat(),
                None => met.path.to_vec(),
            };
            self.met(&met, &name, own)
        })
    }

    /// The end mark.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()
    }

    fn met(&mut self, met: &Met<'_>, name: &[u8], own: u64) -> io::Result<Onward> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // What has gone meanwhile was not there; names that no path can reach are left out, as dockerd does.
        let Ok(node) = openat(met.folder, met.name, flags, Mode::empty()) else { return Ok(Onward::Past) };
        let stat = self.told(fstat(&node)?);
        if name.len() >= PATH_MAX {
            return Ok(Onward::Past);
        }
        self.member(node.as_fd(), &stat, name)?;
        let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let passed = stat.st_dev != own && self.passed.contains(&stat.st_dev);
        Ok(if folder && !passed { Onward::Into } else { Onward::Past })
    }

    /// With the owner as the container sees it.
    fn told(&self, mut stat: Stat) -> Stat {
        (stat.st_uid, stat.st_gid) = (self.ids.seen(stat.st_uid), self.ids.seen(stat.st_gid));
        stat
    }

    fn member(&mut self, node: BorrowedFd<'_>, stat: &Stat, name: &[u8]) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&inode) {
                let link = described(EntryType::Link, stat, name, first);
                return header::write(&mut self.out, &link);
            }
            if self.links_bytes < LINKS_MAX {
                self.links_bytes += name.len() + NAME_COST;
                self.links.insert(inode, name.to_vec());
            }
        }
        match kind {
            FileType::Directory => {
                let named = [name, b"/"].concat();
                self.plain(node, described(EntryType::Directory, stat, &named, b""))
            }
            FileType::Symlink => {
                let Ok(target) = readlinkat(node, "", Vec::new()) else { return Ok(()) };
                header::write(&mut self.out, &described(EntryType::Symlink, stat, name, target.as_bytes()))
            }
            FileType::RegularFile => self.file(node, stat, name),
            FileType::CharacterDevice => self.plain(node, described(EntryType::Char, stat, name, b"")),
            FileType::BlockDevice => self.plain(node, described(EntryType::Block, stat, name, b"")),
            FileType::Fifo => self.plain(node, described(EntryType::Fifo, stat, name, b"")),
            // A socket is nothing without its program; dockerd leaves them out as well.
            FileType::Socket | FileType::Unknown => Ok(()),
        }
    }

    fn plain(&mut self, node: BorrowedFd<'_>, mut member: Described<'_>) -> io::Result<()> {
        member.xattrs = xattrs(node);
        header::write(&mut self.out, &member)
    }

    fn file(&mut self, node: BorrowedFd<'_>, stat: &Stat, name: &[u8]) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = match rustix::fs::open(proc_path(node).as_slice(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(error) => {
                tracing::debug!(%error, "{} is left out of an archive", String::from_utf8_lossy(name));
                return Ok(());
            }
        };
        let mut member = described(EntryType::Regular, stat, name, b"");
        member.size = stat.st_size.cast_unsigned();
        member.xattrs = xattrs(node);
        header::write(&mut self.out, &member)?;
        self.content(&mut file, member.size)?;
        header::pad(&mut self.out, member.size)
    }

    /// Exactly as many bytes as were announced: a file that grows is cut, one that shrinks or fails ends in
    /// zeros, as with GNU tar.
    fn content(&mut self, file: &mut File, size: u64) -> io::Result<()> {
        let mut left = size;
        let mut whole = true;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER);
            let count = if whole { read(file, &mut self.buffer[..most]) } else { 0 };
            if count == 0 && whole {
                whole = false;
                self.buffer.fill(0);
            }
            let count = if count == 0 { most } else { count };
            self.out.write_all(&self.buffer[..count])?;
            left -= count as u64;
        }
        Ok(())
    }
}

/// 0 at the end and where reading fails.
fn read(file: &mut File, buffer: &mut [u8]) -> usize {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.unwrap_or(0),
        }
    }
}

fn described<'a>(kind: EntryType, stat: &Stat, name: &'a [u8], link: &'a [u8]) -> Described<'a> {
    let device = matches!(kind, EntryType::Char | EntryType::Block);
    Described {
        kind,
        name,
        link,
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: 0,
        mtime: stat.st_mtime,
        device: if device { (major(stat.st_rdev), minor(stat.st_rdev)) } else { (0, 0) },
        xattrs: vec![],
    }
}

/// The attributes that mean something elsewhere: file capabilities and what users set.
fn xattrs(node: BorrowedFd<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let path = proc_path(node);
    let list = read_growing(|buffer| listxattr(path.as_slice(), buffer));
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let wanted = |name: &&[u8]| {
        *name == b"security.capability" || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
    };
    let value = |name: &[u8]| read_growing(|buffer| getxattr(path.as_slice(), name, buffer));
    names.filter(wanted).map(|name| (name.to_vec(), elsewhere(name, value(name)))).collect()
}

/// File capabilities that were set in a user namespace name its root (VFS_CAP_REVISION_3 of linux/capability.h), which
/// means nothing elsewhere: they are told as those of any root, as dockerd tells them.
fn elsewhere(name: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    const REVISION: usize = 3;
    const PLAIN: usize = 20;
    if name == b"security.capability" && value.len() > PLAIN && value[REVISION] == 3 {
        value[REVISION] = 2;
        value.truncate(PLAIN);
    }
    value
}

/// Most files have no attribute: the first try needs no memory.
pub(super) fn read_growing(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Vec<u8> {
    let mut small = [0; 256];
    match call(&mut small) {
        Ok(count) => return small[..count].to_vec(),
        Err(Errno::RANGE) => {}
        Err(_) => return Vec::new(),
    }
    let mut large = vec![0; XATTR_MAX];
    let count = call(&mut large).unwrap_or(0);
    large.truncate(count);
    large
}

/// Leads to what the descriptor has open, for calls that take no descriptor of this kind.
pub fn proc_path(node: BorrowedFd<'_>) -> Vec<u8> {
    format!("/proc/self/fd/{}", node.as_raw_fd()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn packed(dir: &std::path::Path, prefix: Option<&[u8]>) -> Vec<u8> {
        let top = OwnedFd::from(File::open(dir).unwrap());
        let mut bytes = Vec::new();
        let mut packer = Packer::new(&mut bytes, vec![], IdMap::default());
        match prefix {
            Some(prefix) => packer.top(&top, prefix).unwrap(),
            None => packer.below(&top, None).unwrap(),
        }
        packer.finish().unwrap();
        bytes
    }

    /// Name → (kind, link, content), read by another implementation than ours.
    fn listed(bytes: &[u8]) -> BTreeMap<String, (EntryType, String, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let link = entry.link_name_bytes().map(|l| String::from_utf8_lossy(&l).into_owned());
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (name, (entry.header().entry_type(), link.unwrap_or_default(), content))
        });
        entries.collect()
    }

    #[test]
    fn a_tree_is_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/file"), vec![7; 1000]).unwrap();
        std::fs::hard_link(dir.path().join("sub/file"), dir.path().join("sub/other")).unwrap();
        symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let long = "l".repeat(200);
        std::fs::write(dir.path().join(&long), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        let got = listed(&packed(dir.path(), Some(b"top")));
        let names: Vec<&str> = got.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["top/", "top/link", &*format!("top/{long}"), "top/sub/", "top/sub/file", "top/sub/other"]
        );
        assert_eq!(got["top/link"], (EntryType::Symlink, "/etc/passwd".to_owned(), vec![]));
        assert_eq!(got["top/sub/file"].2, vec![7; 1000]);
        assert_eq!(got["top/sub/other"], (EntryType::Link, "top/sub/file".to_owned(), vec![]));
        let bare = listed(&packed(dir.path(), None));
        assert!(bare.contains_key("sub/file") && !bare.contains_key("./"));
    }

    #[test]
    fn capabilities_of_a_mapped_root_are_told_as_any_roots() {
        let plain = [1, 0, 0, 2, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut rooted = plain.to_vec();
        rooted[3] = 3;
        rooted.extend(100_000u32.to_le_bytes());
        let name = b"security.capability";
        assert_eq!(elsewhere(name, rooted.clone()), plain);
        assert_eq!(elsewhere(name, plain.to_vec()), plain);
        assert_eq!(elsewhere(b"user.any", rooted.clone()), rooted);
    }

    #[test]
    fn owners_are_told_as_the_container_sees_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let own = std::fs::metadata(dir.path().join("file")).unwrap().uid();
        let check = |first: Option<u32>, expected: u64| {
            let mut bytes = Vec::new();
            let mut packer = Packer::new(&mut bytes, vec![], IdMap::from(first));
            packer.top(&OwnedFd::from(File::open(dir.path()).unwrap()), b"top").unwrap();
            packer.finish().unwrap();
            for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
                assert_eq!(entry.unwrap().header().uid().unwrap(), expected, "{first:?}");
            }
        };
        check(None, own.into());
        check(Some(own), 0);
        check(Some(own + 1), 65534);
    }

    #[test]
    fn a_file_has_the_announced_length_whatever_happens_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![1; 300_000]).unwrap();
        let node = rustix::fs::open(&path, OFlags::PATH, Mode::empty()).unwrap();
        let mut stat = fstat(&node).unwrap();
        let mut check = |size: i64, ones: usize| {
            stat.st_size = size;
            let mut bytes = Vec::new();
            let mut packer = Packer::new(&mut bytes, vec![], IdMap::default());
            packer.file(node.as_fd(), &stat, b"file").unwrap();
            packer.finish().unwrap();
            let content = listed(&bytes)["file"].2.clone();
            assert_eq!(content.len(), size as usize);
            assert_eq!(content.iter().filter(|byte| **byte == 1).count(), ones, "{size}");
        };
        check(300_000, 300_000);
        check(100, 100);
        check(700_000, 300_000);
    }

    #[test]
    fn other_file_systems_are_passed_where_they_are_not_the_containers() {
        let top = OwnedFd::from(File::open("/").unwrap());
        let proc = std::fs::metadata("/proc").unwrap().dev();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let mut packer = Packer::new(io::sink(), vec![proc], IdMap::default());
        let onward = |packer: &mut Packer<_>, name: &[u8]| {
            let met = Met { folder: top.as_fd(), name, path: name };
            packer.met(&met, name, fstat(&top).unwrap().st_dev).unwrap()
        };
        assert!(openat(&top, "proc", flags, Mode::empty()).is_ok());
        assert_eq!(onward(&mut packer, b"proc"), Onward::Past);
        assert_eq!(onward(&mut packer, b"etc"), Onward::Into);
    }
}
