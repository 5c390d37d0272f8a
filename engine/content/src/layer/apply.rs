//! Writes one member after the other into the layer's tree.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime::ids::IdMap;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat,
    chownat, fchmod, fchown, fsetxattr, futimens, linkat, lsetxattr, makedev, mkdirat, mknodat, openat,
    symlinkat, utimensat,
};
use rustix::io::Errno;

use super::archive::{Archive, Kind, Member};
use super::tree::{Present, Tree, kind_of, open_folder, proc_path};
use super::{LayerError, name};

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
/// Other marks of aufs, which Docker skips as well.
const WHITEOUT_META: &[u8] = b".wh..wh.";
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
/// Meaning for overlayfs itself: a stranger could redirect a folder or hide one with them.
const OVERLAY_XATTRS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// What was written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// Content of regular files, in bytes.
    pub(super) size: u64,
    /// The layer hides everything below it.
    pub(super) opaque: bool,
}

pub(super) struct Applier {
    tree: Tree,
    ids: IdMap,
    written: Written,
    /// Times of folders are set at the end, since making what is in them changes them.
    folder_times: Vec<(Vec<u8>, (i64, u32))>,
    /// Bytes that they take.
    folder_bytes: usize,
    buffer: Vec<u8>,
}

/// Most memory for folders that wait for their times, bytes: a layer may name any number of them in few bytes. Beyond, they get
/// them early, and some may be changed again by what is still made in them.
const FOLDER_BYTES: usize = 16 << 20;

/// Why a member was not made, without its name.
pub enum Refused {
    /// What the kernel says.
    Io(io::Error),
    /// What is wrong with the member.
    Layer(LayerError),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused::Io(error)
    }
}

impl From<Errno> for Refused {
    fn from(error: Errno) -> Refused {
        Refused::Io(error.into())
    }
}

impl From<LayerError> for Refused {
    fn from(error: LayerError) -> Refused {
        Refused::Layer(error)
    }
}

impl Applier {
    pub(super) fn new(tree: Tree, ids: IdMap) -> Applier {
        let (written, buffer) = (Written::default(), vec![0; 128 << 10]);
        Applier { tree, ids, written, folder_times: Vec::new(), folder_bytes: 0, buffer }
    }

    /// Writes every member of the archive.
    pub(super) fn run(mut self, archive: &mut Archive<impl Read>) -> Result<Written, LayerError> {
        while let Some(mut member) = archive.next_member()? {
            let path = name::clean(&member.path)?;
            if !name::split(&path).1.starts_with(WHITEOUT_PREFIX) {
                member.belong(self.ids)?;
            }
            self.apply(&path, &member, archive).map_err(|refused| match refused {
                Refused::Io(source) => LayerError::write(&path, source),
                Refused::Layer(error) => error,
            })?;
        }
        self.set_folder_times();
        Ok(self.written)
    }

    fn apply(
        &mut self,
        path: &[u8],
        member: &Member,
        archive: &mut Archive<impl Read>,
    ) -> Result<(), Refused> {
        let (parent, last) = name::split(path);
        if last.is_empty() {
            return self.apply_root(member);
        }
        if last == OPAQUE_MARKER {
            return self.make_opaque(parent);
        }
        if last.starts_with(WHITEOUT_META) {
            return Ok(());
        }
        let folder = self.tree.folder(parent)?;
        match last.strip_prefix(WHITEOUT_PREFIX) {
            Some(hidden) => whiteout(folder.as_fd(), hidden),
            None => self.make(folder.as_fd(), last, path, member, archive),
        }
    }

    fn apply_root(&mut self, member: &Member) -> Result<(), Refused> {
        if member.kind != Kind::Folder {
            return Err(LayerError::Malformed("the root of a layer is not a folder").into());
        }
        let root = self.tree.folder(b"")?;
        set_metadata(&root, member)?;
        self.set_time_later(Vec::new(), member);
        Ok(())
    }

    fn make_opaque(&mut self, parent: &[u8]) -> Result<(), Refused> {
        if parent.is_empty() {
            // overlayfs looks for the mark in folders only, never in a layer's root.
            self.written.opaque = true;
            return Ok(());
        }
        let folder = self.tree.folder(parent)?;
        Ok(fsetxattr(&folder, OPAQUE_XATTR, b"y", XattrFlags::empty())?)
    }

    fn make(
        &mut self,
        folder: BorrowedFd<'_>,
        last: &[u8],
        path: &[u8],
        member: &Member,
        archive: &mut Archive<impl Read>,
    ) -> Result<(), Refused> {
        match &member.kind {
            Kind::Folder => {
                self.make_folder(folder, last, member)?;
                self.set_time_later(path.to_vec(), member);
            }
            Kind::File { size } => {
                let file = self.replacing(folder, last, |_| create(folder, last))?;
                let file = File::from(file);
                archive.write_to(&file, *size, &mut self.buffer)?;
                set_metadata(&file, member)?;
                futimens(&file, &times(member.mtime))?;
                self.written.size += size;
            }
            Kind::HardLink { target } => self.make_link(folder, last, target)?,
            Kind::Symlink { target } => {
                self.replacing(folder, last, |_| symlinkat(target.as_slice(), folder, last))?;
                set_metadata_at(folder, last, member, true)?;
            }
            Kind::Character { major, minor } => {
                self.make_node(folder, last, member, FileType::CharacterDevice, (*major, *minor))?
            }
            Kind::Block { major, minor } => {
                self.make_node(folder, last, member, FileType::BlockDevice, (*major, *minor))?
            }
            Kind::Fifo => self.make_node(folder, last, member, FileType::Fifo, (0, 0))?,
        }
        Ok(())
    }

    /// A folder that this layer has already is the same folder with new metadata.
    fn make_folder(&mut self, folder: BorrowedFd<'_>, last: &[u8], member: &Member) -> Result<(), Refused> {
        let mut replaced = None;
        if kind_of(folder, last)? != Some(Present::Folder) {
            self.replacing(folder, last, |present| {
                replaced = present;
                mkdirat(folder, last, Mode::from_raw_mode(0o700))
            })?;
        }
        let made = open_folder(folder, last)?;
        set_metadata(&made, member)?;
        if replaced == Some(Present::Whiteout) {
            // What the whiteout hid must stay hidden.
            fsetxattr(&made, OPAQUE_XATTR, b"y", XattrFlags::empty())?;
        }
        Ok(())
    }

    /// The target is a name in the layer; its last component is not followed when it is a symlink.
    fn make_link(&mut self, folder: BorrowedFd<'_>, last: &[u8], target: &[u8]) -> Result<(), Refused> {
        let target = name::clean(target)?;
        let (parent, target_last) = name::split(&target);
        let from = self.tree.existing_folder(parent)?;
        let link = || linkat(from.as_fd(), target_last, folder, last, AtFlags::empty());
        match link() {
            // Onto itself it is made already; removing it first would lose the file.
            Err(Errno::EXIST) if same_file(from.as_fd(), target_last, folder, last)? => Ok(()),
            Err(Errno::EXIST) => {
                self.tree.remove(folder, last)?;
                Ok(link()?)
            }
            other => Ok(other?),
        }
    }

    fn make_node(
        &mut self,
        folder: BorrowedFd<'_>,
        last: &[u8],
        member: &Member,
        kind: FileType,
        (major, minor): (u32, u32),
    ) -> Result<(), Refused> {
        let device = makedev(major, minor);
        self.replacing(folder, last, |_| mknodat(folder, last, kind, Mode::from_raw_mode(0o600), device))?;
        set_metadata_at(folder, last, member, false)
    }

    /// Makes something that must not exist, after removing what is in its place. `make` learns what that was.
    fn replacing<T>(
        &mut self,
        folder: BorrowedFd<'_>,
        last: &[u8],
        mut make: impl FnMut(Option<Present>) -> Result<T, Errno>,
    ) -> Result<T, Refused> {
        match make(None) {
            Err(Errno::EXIST) => {
                let present = kind_of(folder, last)?;
                self.tree.remove(folder, last)?;
                Ok(make(present)?)
            }
            other => Ok(other?),
        }
    }

    fn set_time_later(&mut self, path: Vec<u8>, member: &Member) {
        self.folder_bytes += path.len() + size_of::<(Vec<u8>, (i64, u32))>();
        self.folder_times.push((path, member.mtime));
        if self.folder_bytes > FOLDER_BYTES {
            self.set_folder_times();
        }
    }

    /// The last member of a path wins. A folder that was replaced since has no time to set.
    fn set_folder_times(&mut self) {
        self.folder_bytes = 0;
        for (path, mtime) in std::mem::take(&mut self.folder_times) {
            let (parent, last) = name::split(&path);
            let Ok(parent) = self.tree.existing_folder(parent) else { continue };
            let folder =
                if last.is_empty() { Ok(parent) } else { open_folder(parent.as_fd(), last).map(Into::into) };
            if let Ok(folder) = folder {
                let result = futimens(&*folder, &times(mtime));
                tracing::trace!("time of {}: {result:?}", String::from_utf8_lossy(&path));
            }
        }
    }
}

/// A new file, open for writing; nothing of that name may exist.
pub fn create(folder: BorrowedFd<'_>, last: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, last, flags, Mode::from_raw_mode(0o600))
}

/// Hides what lower layers have under this name. What this very layer has stays visible, for the image
/// specification lets whiteouts act on lower layers only; a folder of its own becomes opaque.
fn whiteout(folder: BorrowedFd<'_>, hidden: &[u8]) -> Result<(), Refused> {
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(LayerError::Malformed("a whiteout without a name").into());
    }
    match kind_of(folder, hidden)? {
        None => Ok(mknodat(folder, hidden, FileType::CharacterDevice, Mode::empty(), 0)?),
        Some(Present::Folder) => {
            let own = open_folder(folder, hidden)?;
            Ok(fsetxattr(&own, OPAQUE_XATTR, b"y", XattrFlags::empty())?)
        }
        Some(_) => Ok(()),
    }
}

fn same_file(a: BorrowedFd<'_>, a_last: &[u8], b: BorrowedFd<'_>, b_last: &[u8]) -> Result<bool, Refused> {
    let a = rustix::fs::statat(a, a_last, AtFlags::SYMLINK_NOFOLLOW)?;
    let b = rustix::fs::statat(b, b_last, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// Owner first: chown(2) clears the setuid bits and `security.capability`.
pub fn set_metadata(file: impl AsFd, member: &Member) -> Result<(), Refused> {
    fchown(&file, Some(Uid::from_raw(member.uid)), Some(Gid::from_raw(member.gid)))?;
    fchmod(&file, Mode::from_raw_mode(member.mode))?;
    for (name, value) in xattrs(member) {
        tolerate(fsetxattr(&file, name, value, XattrFlags::empty()), name)?;
    }
    Ok(())
}

/// The same for what cannot be opened: devices, fifos and symlinks.
fn set_metadata_at(
    folder: BorrowedFd<'_>,
    last: &[u8],
    member: &Member,
    symlink: bool,
) -> Result<(), Refused> {
    let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
    chownat(folder, last, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if !symlink {
        chmodat(folder, last, Mode::from_raw_mode(member.mode), AtFlags::empty())?;
    }
    for (name, value) in xattrs(member) {
        tolerate(lsetxattr(proc_path(folder, last).as_slice(), name, value, XattrFlags::empty()), name)?;
    }
    Ok(utimensat(folder, last, &times(member.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The extended attributes that a stranger may set.
pub fn xattrs(member: &Member) -> impl Iterator<Item = (&[u8], &[u8])> {
    let all = member.xattrs.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    all.filter(|(name, _)| !OVERLAY_XATTRS.iter().any(|prefix| name.starts_with(prefix)))
}

/// The file system or the kind of file may not take an attribute (`user.` on a symlink, `security.selinux`
/// without SELinux); Docker goes on as well.
pub fn tolerate(result: Result<(), Errno>, name: &[u8]) -> Result<(), Refused> {
    match result {
        Err(Errno::OPNOTSUPP | Errno::PERM) => {
            tracing::debug!("xattr {} is not taken here", String::from_utf8_lossy(name));
            Ok(())
        }
        other => Ok(other?),
    }
}

/// The time of the last modification, for utimensat(2); that of the last access stays.
pub fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos.into() },
    }
}
