//! A folder tree copied into an empty folder, with all that makes its files what they are: owners, modes, times, attributes,
//! hard and symbolic links, devices, holes.
//!
//! Either tree may be a hostile container's: a node is looked at before it is opened, and made anew by its last component.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timestamps, Uid, XattrFlags, chmod, chownat, copy_file_range,
    fstat, getxattr, linkat, listxattr, mkdirat, mknodat, openat, readlinkat, setxattr, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::pack::{proc_path, read_growing};
use super::walk::{Met, NAME_COST, Onward, below, walk};
use crate::layer::split;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NODE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Most bytes of names of files with several that are remembered; more become files of their own.
const LINKS_MAX: usize = 32 << 20;
/// Bytes on their way where the kernel does not copy by itself.
const BUFFER: usize = 128 << 10;

/// Copies what is below `from`, and what `from` itself is, to `to`. Returns whether there was anything below.
///
/// # Errors
/// The disk is full, or something cannot be read.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<bool> {
    let mut copier = Copier { to, open: None, links: HashMap::new(), links_bytes: 0, folders: Vec::new() };
    let mut any = false;
    walk(from, |met| {
        any = true;
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", String::from_utf8_lossy(met.path)))
        };
        copier.met(&met).map_err(named)
    })?;
    // Making what is in a folder changes its times: the inner ones first.
    for (path, times) in copier.folders.iter().rev() {
        let folder = below(to, path, FOLDER)?;
        utimensat(&folder, "", times, AtFlags::EMPTY_PATH)?;
    }
    let stat = fstat(from)?;
    itself(from, to, &stat)?;
    Ok(any)
}

struct Copier<'a> {
    to: BorrowedFd<'a>,
    /// The folder that was needed last.
    open: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Name under which a file with several names was made, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    links_bytes: usize,
    folders: Vec<(Vec<u8>, Timestamps)>,
}

impl Copier<'_> {
    fn met(&mut self, met: &Met<'_>) -> io::Result<Onward> {
        let node = openat(met.folder, met.name, NODE, Mode::empty())?;
        let stat = fstat(&node)?;
        let (parent, last) = split(met.path);
        let folder = self.folder(parent)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && self.is_linked(met.path, &stat, &folder, last)? {
            return Ok(Onward::Past);
        }
        match kind {
            FileType::Directory => {
                mkdirat(&folder, last, Mode::RWXU)?;
                let made = openat(&folder, last, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
                itself(node.as_fd(), made.as_fd(), &stat)?;
                self.folders.push((met.path.to_vec(), times(&stat)));
                return Ok(Onward::Into);
            }
            FileType::RegularFile => file(node.as_fd(), &stat, folder.as_fd(), last)?,
            FileType::Symlink => {
                symlinkat(readlinkat(&node, "", Vec::new())?, &folder, last)?;
            }
            // A socket is nothing without its program.
            FileType::Socket | FileType::Unknown => return Ok(Onward::Past),
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => {
                mknodat(&folder, last, kind, Mode::RUSR, stat.st_rdev)?;
            }
        }
        let made = openat(&folder, last, NODE, Mode::empty())?;
        itself(node.as_fd(), made.as_fd(), &stat)?;
        utimensat(&made, "", &times(&stat), AtFlags::EMPTY_PATH)?;
        Ok(Onward::Past)
    }

    /// Whether it is one more name of a file that was made already, which it gets here.
    fn is_linked(&mut self, path: &[u8], stat: &Stat, folder: &OwnedFd, last: &[u8]) -> io::Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let inode = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&inode) {
            let (parent, name) = split(first);
            let from = match parent {
                b"" => openat(self.to, ".", FOLDER, Mode::empty())?,
                parent => below(self.to, parent, FOLDER)?,
            };
            linkat(&from, name, folder, last, AtFlags::empty())?;
            return Ok(true);
        }
        if self.links_bytes < LINKS_MAX {
            self.links_bytes += path.len() + NAME_COST;
            self.links.insert(inode, path.to_vec());
        }
        Ok(false)
    }

    fn folder(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        if let Some((known, folder)) = &self.open
            && known == path
        {
            return Ok(folder.clone());
        }
        let folder = Rc::new(match path {
            b"" => openat(self.to, ".", FOLDER, Mode::empty())?,
            path => below(self.to, path, FOLDER)?,
        });
        self.open = Some((path.to_vec(), folder.clone()));
        Ok(folder)
    }
}

/// Owner, mode and attributes. The mode comes behind the owner, whose change takes set-user-ID bits away, and file
/// capabilities, too.
fn itself(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Ok(());
    }
    let (source, target) = (proc_path(from), proc_path(to));
    chmod(target.as_slice(), Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let list = read_growing(|buffer| listxattr(source.as_slice(), buffer));
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    for name in names.filter(|name| !name.starts_with(b"trusted.overlay.")) {
        let value = read_growing(|buffer| getxattr(source.as_slice(), name, buffer));
        match setxattr(target.as_slice(), name, &value, XattrFlags::empty()) {
            // A file system that has none of them.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanos| rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos as _ };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn file(node: BorrowedFd<'_>, stat: &Stat, folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut from = File::from(rustix::fs::open(proc_path(node).as_slice(), flags, Mode::empty())?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut to = File::from(openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?);
    let size = stat.st_size.cast_unsigned();
    let mut at = 0;
    while at < size {
        let Some((start, end)) = piece(&from, at, size)? else { break };
        content(&mut from, &mut to, start, end)?;
        at = end;
    }
    // With a hole at its end it is longer than what was written.
    to.set_len(size)
}

/// The next piece that is no hole.
fn piece(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    let start = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // The file system knows no holes.
        Err(Errno::INVAL) => return Ok(Some((at, size))),
        Err(error) => return Err(error.into()),
    };
    let end = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(start))?;
    Ok((start < size).then_some((start, end.min(size))))
}

/// One piece, by the kernel where it can: it may share blocks instead of copying them.
fn content(from: &mut File, to: &mut File, start: u64, end: u64) -> io::Result<()> {
    let (mut source, mut target) = (start, start);
    while source < end {
        let most = usize::try_from(end - source).unwrap_or(usize::MAX);
        match copy_file_range(&*from, Some(&mut source), &*to, Some(&mut target), most) {
            // It became shorter meanwhile.
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                from.seek(SeekFrom::Start(source))?;
                to.seek(SeekFrom::Start(target))?;
                return bytes(from, to, end - source);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn bytes(from: &mut File, to: &mut File, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut from = from.take(length);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_copy_is_what_the_original_is() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("a/deep")).unwrap();
        std::fs::create_dir(&to).unwrap();
        std::fs::write(from.join("a/file"), "text").unwrap();
        std::fs::hard_link(from.join("a/file"), from.join("a/hard")).unwrap();
        symlink("file", from.join("a/link")).unwrap();
        std::fs::set_permissions(from.join("a/file"), PermissionsExt::from_mode(0o4750)).unwrap();
        std::fs::set_permissions(&from, PermissionsExt::from_mode(0o2711)).unwrap();
        let mut holes = File::create(from.join("holes")).unwrap();
        holes.seek(SeekFrom::Start(8 << 20)).unwrap();
        holes.write_all(b"end").unwrap();
        holes.set_len(16 << 20).unwrap();
        let named = |folder: &std::path::Path| File::open(folder).unwrap();
        let noted = setxattr(from.join("a/file"), "user.x", b"y", XattrFlags::empty()).is_ok();
        assert!(copy_tree(named(&from).as_fd(), named(&to).as_fd()).unwrap());
        let meta = |path: &str| std::fs::symlink_metadata(to.join(path)).unwrap();
        assert_eq!(std::fs::read(to.join("a/file")).unwrap(), b"text");
        assert_eq!(meta("a/file").ino(), meta("a/hard").ino());
        assert_eq!(meta("a/file").mode() & 0o7777, 0o4750);
        assert_eq!(std::fs::metadata(&to).unwrap().mode() & 0o7777, 0o2711);
        assert_eq!(std::fs::read_link(to.join("a/link")).unwrap(), std::path::Path::new("file"));
        let old = std::fs::symlink_metadata(from.join("a")).unwrap();
        assert_eq!((meta("a").mtime(), meta("a").mtime_nsec()), (old.mtime(), old.mtime_nsec()));
        let content = std::fs::read(to.join("holes")).unwrap();
        assert_eq!((content.len(), &content[8 << 20..(8 << 20) + 3]), (16 << 20, &b"end"[..]));
        assert!(meta("holes").blocks() * 512 < 8 << 20, "{}", meta("holes").blocks());
        if noted {
            let mut value = [0; 1];
            getxattr(to.join("a/file"), "user.x", &mut value).unwrap();
            assert_eq!(value, *b"y");
        }
        assert!(meta("a/deep").is_dir());
    }

    #[test]
    fn an_empty_folder_gives_its_owner_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        std::fs::create_dir(&to).unwrap();
        std::fs::set_permissions(&from, PermissionsExt::from_mode(0o1777)).unwrap();
        let named = |folder: &std::path::Path| File::open(folder).unwrap();
        assert!(!copy_tree(named(&from).as_fd(), named(&to).as_fd()).unwrap());
        assert_eq!(std::fs::metadata(&to).unwrap().mode() & 0o7777, 0o1777);
    }
}
