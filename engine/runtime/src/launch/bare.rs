//! A mount namespace with nothing in it, in which processes of containers are born.
//!
//! A process with a new mount namespace gets a copy of the one that it was cloned in. Of the engine's it would have to copy every mount, and
//! to detach them all again, for which the kernel waits until no processor uses them any more (synchronize_rcu_expedited). Here
//! the copy is one mount: an empty, read-only tmpfs. The container's root is attached over it, and nothing has to go.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags};
use sys::mntns;
use sys::mounts::{MountAttributes, Propagation, mount_setattr};

/// The calling thread is in the empty mount namespace until this is dropped.
#[derive(Debug)]
pub(super) struct Bare(&'static Both);

/// The namespaces between which threads move.
#[derive(Debug)]
struct Both {
    engine: OwnedFd,
    empty: OwnedFd,
}

impl Bare {
    /// Moves the calling thread, and no other, into the empty namespace. It has a root and a working folder of its own from here on.
    pub(super) fn enter() -> io::Result<Bare> {
        static BOTH: OnceLock<Both> = OnceLock::new();
        if BOTH.get().is_none() {
            // A second pair, made by somebody else at the same time, is dropped.
            let _ = BOTH.set(make()?);
        }
        let both = BOTH.get().expect("it was just set");
        mntns::enter(both.empty.as_fd())?;
        Ok(Bare(both))
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // A thread left behind there would find no file of the engine's.
        mntns::enter(self.0.engine.as_fd())
            .expect("setns(2) back to the engine's mount namespace is permitted");
    }
}

fn make() -> io::Result<Both> {
    let thread = std::thread::Builder::new().name("bare".to_owned()).spawn(|| {
        let engine = mntns::current()?;
        mntns::unshare()?;
        let empty = mntns::current()?;
        let root = rustix::fs::CWD;
        mount_setattr(root, c"/", MountAttributes::default(), Some(Propagation::Private), true)?;
        let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in [("source", "none"), ("mode", "555"), ("nr_inodes", "1")] {
            rustix::mount::fsconfig_set_string(fs.as_fd(), key, value)?;
        }
        rustix::mount::fsconfig_create(fs.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let tmpfs = rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        rustix::mount::move_mount(tmpfs.as_fd(), "", root, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        rustix::process::fchdir(&tmpfs)?;
        // The engine's root ends up over the new one and is detached there, see pivot_root(2).
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        Ok(Both { engine, empty })
    })?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread of the empty namespace panicked")))
}
