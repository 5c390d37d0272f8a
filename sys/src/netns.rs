//! Moving a thread between network namespaces, see network_namespaces(7).

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// The network namespace of the calling thread.
///
/// # Errors
/// Those of open(2) on /proc, which must be mounted.
pub fn current() -> io::Result<OwnedFd> {
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
}

/// Puts the calling thread, and no other, into a new network namespace.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, ENOSPC at the limit of namespaces, ENOMEM.
pub fn unshare() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET changes only which network the calling thread sees; memory and descriptors stay.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}

/// Moves the calling thread, and no other, into the network namespace that `netns` has open.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, EINVAL where `netns` is no network namespace.
pub fn enter(netns: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?)
}
