//! File systems and folders as mounts for containers.
//!
//! Everything here is a detached mount until a new process, or a view of a container's files, attaches it. A file system
//! that several containers share, at different times, has a [`Stage`]: a mount namespace in which nothing else is mounted.
//! The kernel copies a mount only out of the namespace of the caller (open_tree(2)), so a thread enters that one for it,
//! and the mount is never in the engine's own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use sys::mntns;
use sys::mounts::{MountAttributes, Propagation, make_writable, mount_setattr};

use crate::view::elsewhere;

/// How a folder or file is shown at another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    /// Whether it takes writes.
    pub access: Access,
    /// What is mounted below it comes along.
    pub recursive: bool,
    /// What becomes of mounts that are made later, here or there.
    pub propagation: Propagation,
}

/// Who may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// As at its own place.
    Write,
    /// Nobody, to itself; what is mounted below it is as at its own place.
    ReadTop,
    /// Nobody.
    Read,
}

/// A copy, to be attached elsewhere, of what `place` has open in the caller's mount namespace.
///
/// # Errors
/// It is in another namespace, or cannot be copied.
pub fn copy_of(place: BorrowedFd<'_>, how: How) -> io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if how.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let copy = open_tree(place, "", flags)?;
    limit(copy.as_fd(), how)?;
    Ok(copy)
}

/// A copy of one mount that nobody else sees, writable where the mount itself is not.
///
/// # Errors
/// Those of open_tree(2) and mount_setattr(2).
pub fn writable_copy(place: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let copy =
        copy_of(place, How { access: Access::Write, recursive: false, propagation: Propagation::Private })?;
    make_writable(copy.as_fd())?;
    Ok(copy)
}

/// Puts a detached mount on a folder of the engine's own namespace.
///
/// # Errors
/// Those of move_mount(2).
pub fn attach(mount: BorrowedFd<'_>, folder: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", folder, "", flags)?)
}

/// Makes a detached mount as it shall be.
///
/// # Errors
/// Those of mount_setattr(2).
pub fn limit(mount: BorrowedFd<'_>, how: How) -> io::Result<()> {
    // A copy of a shared mount is its peer already, which is what sharing means.
    mount_setattr(mount, c"", MountAttributes::default(), Some(how.propagation), true)?;
    match how.access {
        Access::Write => Ok(()),
        Access::ReadTop => mount_setattr(mount, c"", MountAttributes::RDONLY, None, false),
        Access::Read => mount_setattr(mount, c"", MountAttributes::RDONLY, None, true),
    }
}

/// A file system to be mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// Its type: `tmpfs`.
    pub kind: String,
    /// What it is on.
    pub source: String,
    /// What it is told, as `key=value` or as a word.
    pub options: Vec<(String, Option<String>)>,
    /// Attributes of the mount.
    pub attributes: MountAttributes,
}

impl FileSystem {
    /// A new detached mount of it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn mount(&self) -> io::Result<OwnedFd> {
        let fs = fsopen(self.kind.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(fs.as_fd(), "source", self.source.as_str())?;
        for (key, value) in &self.options {
            match value {
                Some(value) => fsconfig_set_string(fs.as_fd(), key.as_str(), value.as_str())?,
                None => fsconfig_set_flag(fs.as_fd(), key.as_str())?,
            }
        }
        fsconfig_create(fs.as_fd())?;
        let mount = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        mount_setattr(mount.as_fd(), c"", self.attributes, None, false)?;
        Ok(mount)
    }
}

/// A mount that can be copied as often as it is needed. It goes when nobody has its descriptors or a copy any more.
#[derive(Debug)]
pub struct Stage {
    root: OwnedFd,
    /// Keeps the mount: a namespace that nobody holds takes its mounts apart.
    namespace: OwnedFd,
}

impl Stage {
    /// Gives a detached mount, of a folder, a namespace.
    ///
    /// # Errors
    /// The engine has run out of descriptors, threads or namespaces.
    pub fn new(mount: OwnedFd) -> io::Result<Stage> {
        let namespace = elsewhere(|| {
            mntns::unshare()?;
            // While /proc is still in view.
            let namespace = mntns::current()?;
            mount_setattr(CWD, c"/", MountAttributes::default(), Some(Propagation::Private), true)?;
            move_mount(mount.as_fd(), "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
            rustix::process::fchdir(&mount)?;
            // The engine's root ends up over the new one and is detached there, see pivot_root(2).
            rustix::process::pivot_root(".", ".")?;
            unmount(".", UnmountFlags::DETACH)?;
            Ok(namespace)
        })?;
        Ok(Stage { root: mount, namespace })
    }

    /// What [`Stage::descriptors`] gave, in that order.
    pub fn from_descriptors(descriptors: Vec<OwnedFd>) -> Option<Stage> {
        let [root, namespace] = <[OwnedFd; 2]>::try_from(descriptors).ok()?;
        Some(Stage { root, namespace })
    }

    /// Whoever holds these holds the mount.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.root.as_fd(), self.namespace.as_fd()]
    }

    /// Its root folder.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// A copy of what is at a path below it.
    ///
    /// # Errors
    /// There is nothing, or as [`Stage::new`].
    pub fn copy(&self, path: &Path, how: How) -> io::Result<OwnedFd> {
        let place = inner(self.root.as_fd(), path)?;
        elsewhere(|| {
            mntns::enter(self.namespace.as_fd())?;
            copy_of(place.as_fd(), how)
        })
    }
}

/// What is at a path below a folder. The empty path is the folder.
///
/// # Errors
/// Those of openat2(2); EXDEV where the path, or a link on it, leads out.
pub fn inner(folder: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match openat2(folder, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename elsewhere made it uncertain.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// How often a path is tried that somebody moves about.
const TRIES: usize = 128;

/// The mount that `path` is on passes on to its copies, from now on, what is mounted below it.
///
/// # Errors
/// There is no such path.
pub fn share_mount_of(path: &Path) -> io::Result<()> {
    let path = path.canonicalize()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let Some(place) = mount_of(&mounts, &path) else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it is on no mount"));
    };
    let folder = rustix::fs::open(&place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    mount_setattr(folder.as_fd(), c"", MountAttributes::default(), Some(Propagation::Shared), false)
}

/// Where the mount of a path is, in the words of /proc/PID/mountinfo (proc(5)).
fn mount_of(mounts: &str, path: &Path) -> Option<PathBuf> {
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    // The later of two in one place covers the earlier.
    places.filter(|place| path.starts_with(place)).max_by_key(|place| place.as_os_str().len())
}

/// Blanks and the like are three octal digits there.
fn unescaped(text: &str) -> PathBuf {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('\\') {
        plain += before;
        let code = behind.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.map_or('\\', char::from));
        rest = if code.is_some() { &behind[3..] } else { behind };
    }
    PathBuf::from(plain + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_a_path_is_the_innermost() {
        let mounts = "1 0 0:1 / / rw - rootfs rootfs rw\n2 1 0:2 / /data rw - ext4 /dev/vda rw\n\
                      3 2 0:3 / /data/with\\040blank rw - tmpfs tmpfs rw\n";
        let check = |path: &str, expected: &str| {
            assert_eq!(mount_of(mounts, Path::new(path)).as_deref(), Some(Path::new(expected)), "{path}");
        };
        check("/etc", "/");
        check("/data", "/data");
        check("/database", "/");
        check("/data/x/y", "/data");
        check("/data/with blank/x", "/data/with blank");
    }
}
