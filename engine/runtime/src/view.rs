//! A container's files, as its processes see them or would see them.
//!
//! A view is a folder descriptor in a mount namespace that is not the engine's: the container's own while it runs,
//! one made for the purpose while it does not. Everything is opened from that descriptor by openat2(2) with
//! `RESOLVE_IN_ROOT` ([`View::open`]), so no symbolic link, however it is swapped meanwhile, leads to a file of the
//! engine. The engine itself never enters the namespace with more than a short-lived thread, and mounts nothing in
//! its own.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use sys::mntns;
use sys::mounts::{MountAttributes, Propagation, mount_setattr};

use crate::ids::IdMap;
use crate::launch::{VolumeKind, VolumeMount};
use crate::rootfs;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The root folder of a container with what is mounted below it.
#[derive(Debug)]
pub struct View {
    root: OwnedFd,
    /// Keeps the mounts together: a namespace that nobody holds takes them apart.
    namespace: OwnedFd,
}

/// How often a path is tried that somebody moves about.
const TRIES: usize = 128;

impl View {
    /// What the processes of the cgroup named `cgroup` see; `pid` is one of them.
    ///
    /// The root is that of the mount namespace, whatever folder the process changed its own root to.
    ///
    /// # Errors
    /// ESRCH where the process has ended.
    pub fn of_process(pid: u32, cgroup: &str) -> io::Result<View> {
        let namespace = OwnedFd::from(std::fs::File::open(format!("/proc/{pid}/ns/mnt"))?);
        // The process may have ended and its number may be another's: whoever is in the cgroup now was it before.
        if !crate::proc::is_in_cgroup(pid, cgroup)? {
            return Err(Errno::SRCH.into());
        }
        let root = elsewhere(|| {
            mntns::enter(namespace.as_fd())?;
            Ok(rustix::fs::open("/", FOLDER, Mode::empty())?)
        })?;
        Ok(View { root, namespace })
    }

    /// `overlay` with `mounts` in their places, as a process started now would see them; memory file systems are
    /// left out, for they would be empty. With `readonly` the overlay takes no writes.
    ///
    /// # Errors
    /// The source of a mount is missing.
    pub fn assemble(
        overlay: OwnedFd,
        mounts: &[VolumeMount],
        readonly: bool,
        ids: IdMap,
    ) -> io::Result<View> {
        let namespace = elsewhere(|| {
            mntns::unshare()?;
            let engine = rustix::fs::open("/", FOLDER, Mode::empty())?;
            mount_setattr(engine.as_fd(), c"", MountAttributes::default(), Some(Propagation::Private), true)?;
            // Over the engine's root: whoever is rooted at the overlay sees no more of it.
            move_mount(overlay.as_fd(), "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
            for mount in mounts {
                attach(overlay.as_fd(), mount, ids)?;
            }
            if readonly {
                mount_setattr(overlay.as_fd(), c"", MountAttributes::RDONLY, None, false)?;
            }
            mntns::current()
        })?;
        Ok(View { root: overlay, namespace })
    }

    /// The root folder, for calls that do not follow a path.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens `path` as a process of the container would, except that /proc's links to open files and folders
    /// are refused.
    ///
    /// # Errors
    /// Those of openat2(2); EAGAIN where a container renames so much that no try gets through.
    pub fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = Path::new(OsStr::from_bytes(path));
        for _ in 0..TRIES {
            match rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // A rename elsewhere made `..` in a symlink uncertain, see openat2(2).
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The root's own file system as a detached mount, without what is mounted below it.
    ///
    /// # Errors
    /// The engine has run out of descriptors or threads.
    pub fn bare(&self) -> io::Result<OwnedFd> {
        self.detached(self.root.as_fd())
    }

    /// What is mounted at `path`, as a detached mount.
    ///
    /// # Errors
    /// There is no such path, or the engine has run out of descriptors or threads.
    pub fn mount(&self, path: &[u8]) -> io::Result<OwnedFd> {
        self.detached(self.open(path, OFlags::PATH)?.as_fd())
    }

    /// The container's /proc as a detached mount, provided that it shows the processes of `pid_namespace`: whoever may mount in the
    /// container may have put anything there.
    ///
    /// # Errors
    /// As [`View::mount`]; `InvalidData` where it shows something else.
    pub fn proc(&self, pid_namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let proc = self.mount(b"/proc")?;
        let namespace = rustix::fs::fstat(pid_namespace)?;
        let first = || -> Result<rustix::fs::Stat, Errno> {
            if rustix::fs::fstatfs(&proc)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
                return Err(Errno::INVAL);
            }
            rustix::fs::statat(&proc, "1/ns/pid", rustix::fs::AtFlags::empty())
        };
        match first() {
            Ok(first) if (first.st_dev, first.st_ino) == (namespace.st_dev, namespace.st_ino) => Ok(proc),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "/proc of the container does not show its processes",
            )),
        }
    }

    fn detached(&self, place: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        elsewhere(|| {
            mntns::enter(self.namespace.as_fd())?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH;
            Ok(open_tree(place, "", flags)?)
        })
    }
}

/// Puts one mount where a start would put it.
fn attach(root: BorrowedFd<'_>, mount: &VolumeMount, ids: IdMap) -> io::Result<()> {
    let target = Path::new(&mount.target);
    let failed = |error: rootfs::PrepareError| io::Error::new(error.source.kind(), error.to_string());
    let source = match &mount.kind {
        VolumeKind::Tmpfs(_) => return Ok(()),
        VolumeKind::Bind(bind) => {
            let source = rootfs::bind(bind).map_err(failed)?;
            rootfs::make_mount_point(root, target, Some(&bind.source), ids).map_err(failed)?;
            source
        }
        VolumeKind::Prepared(prepared) => {
            rootfs::make_place_of(root, target, prepared, ids).map_err(failed)?;
            prepared.mount.try_clone()?
        }
    };
    let place = rootfs::open_in(root, target, OFlags::PATH)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(source.as_fd(), "", place.as_fd(), "", flags)?)
}

/// Runs `work` on a thread of its own, which may change its namespaces since it ends with it.
pub(crate) fn elsewhere<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("view".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread of a view panicked")))
    })
}
