//! User namespaces, see user_namespaces(7).
//!
//! No thread of a process with several may make or enter one: it takes a process. That one shares the engine's memory
//! and is over when the call that made it returns, so what it leaves behind is descriptors alone.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sys::clone::{Child, CloneFlags, Memory, Stack, clone_vfork};

use crate::ids::IdMap;

/// A new one with `ids` written.
///
/// # Errors
/// No permission, or the limit of user namespaces.
pub fn create(ids: IdMap) -> io::Result<OwnedFd> {
    let mut stack = Stack::new()?;
    let child = clone_vfork(CloneFlags::NEWUSER, None, Memory::Shared, &mut stack, None, &mut || 0)?;
    // It has ended, but as long as nobody took note of that it has its namespaces' files.
    let made = written(child.pid, ids);
    bury(&child)?;
    made
}

fn written(pid: u32, ids: IdMap) -> io::Result<OwnedFd> {
    let words = ids.words();
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{file}"), &words)?;
    }
    File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from)
}

/// A new network namespace that belongs to `user`.
///
/// # Errors
/// As [`create`].
pub(crate) fn network(user: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut stack = Stack::new()?;
    let mut made = Err(Errno::SRCH);
    let child = clone_vfork(CloneFlags::FILES, None, Memory::Shared, &mut stack, None, &mut || {
        made = network_here(user);
        0
    })?;
    bury(&child)?;
    Ok(made?)
}

/// For the process alone that [`network`] makes.
fn network_here(user: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    move_into_link_name_space(user, Some(LinkNameSpaceType::User))?;
    sys::netns::unshare().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    rustix::fs::open(c"/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn bury(child: &Child) -> io::Result<()> {
    waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_namespace_has_its_ids_and_its_network() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let user = create(IdMap::from(Some(300_000))).unwrap();
        let network = network(user.as_fd()).unwrap();
        // ioctl_ns(2) would tell the owner; that each is a namespace of its own kind is enough here.
        let inode = |fd: &OwnedFd| File::from(fd.try_clone().unwrap()).metadata().unwrap().ino();
        let own = |kind: &str| fs::metadata(format!("/proc/self/ns/{kind}")).unwrap().ino();
        assert_ne!(inode(&user), own("user"));
        assert_ne!(inode(&network), own("net"));
        assert!(create(IdMap::from(Some(u32::MAX - 10))).is_err());
    }
}
