//! Moving a thread between mount namespaces, see mount_namespaces(7).
//!
//! Both calls make the calling thread differ from the others of its process: call them only on a thread that ends afterwards, or
//! goes back to where it was. Root and working folder stay its own even then.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// The mount namespace of the calling thread.
///
/// # Errors
/// Those of open(2) on /proc, which must be mounted.
pub fn current() -> io::Result<OwnedFd> {
    File::open("/proc/thread-self/ns/mnt").map(OwnedFd::from)
}

/// Puts the calling thread, and no other, into a copy of its mount namespace.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, ENOSPC at the limit of namespaces, ENOMEM.
pub fn unshare() -> io::Result<()> {
    // SAFETY: CLONE_NEWNS changes only which mounts, root and working folder the calling thread sees.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?)
}

/// Moves the calling thread, and no other, to the root of the mount namespace that `mntns` has open.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN and CAP_SYS_CHROOT, EINVAL where `mntns` is no mount namespace.
pub fn enter(mntns: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: as for `unshare`. setns(2) refuses a thread whose root and working folder others share.
    unsafe { unshare_unsafe(UnshareFlags::FS) }?;
    Ok(move_into_link_name_space(mntns, Some(LinkNameSpaceType::Mount))?)
}
