//! The descriptors of a launch, each named by what it is.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::thread::LinkNameSpaceType;
use serde::{Deserialize, Serialize};

/// A descriptor that a step of the plan uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum File {
    /// The engine's socket to PID 1.
    Keeper,
    /// What becomes the new process's descriptor 0, 1 or 2.
    Stdio(u8),
    /// The root file system, a detached mount.
    Root,
    /// A pidfd of the first process of the container that is joined.
    FirstProcess,
    /// What the plan's source of this index became.
    Source(usize),
    /// One of the descriptors that PID 1 keeps for the process.
    Kept(usize),
    /// A namespace that is not new.
    Join(Namespace),
}

/// Kinds of namespaces that a container may share with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Namespace {
    /// User and group ids.
    User,
    /// Process ids.
    Pid,
    /// Network.
    Net,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
}

impl Namespace {
    /// For setns(2).
    pub(super) fn kind(self) -> LinkNameSpaceType {
        match self {
            Namespace::User => LinkNameSpaceType::User,
            Namespace::Pid => LinkNameSpaceType::ProcessID,
            Namespace::Net => LinkNameSpaceType::Network,
            Namespace::Ipc => LinkNameSpaceType::InterProcessCommunication,
            Namespace::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        }
    }
}

/// The descriptors of one launch under their names.
#[derive(Debug, Default)]
pub(super) struct Files<'a>(Vec<(File, BorrowedFd<'a>)>);

impl<'a> Files<'a> {
    /// Gives a descriptor its name.
    pub(super) fn add(&mut self, name: File, fd: BorrowedFd<'a>) {
        self.0.push((name, fd));
    }

    /// Gives several descriptors names that are counted.
    pub(super) fn add_all(
        &mut self,
        name: impl Fn(usize) -> File,
        fds: impl IntoIterator<Item = BorrowedFd<'a>>,
    ) {
        self.0.extend(fds.into_iter().enumerate().map(|(index, fd)| (name(index), fd)));
    }

    /// The descriptor of a name. Allocates nothing, as the new process asks between clone3(2) and execve(2).
    ///
    /// # Errors
    /// EBADF: the launch has no such descriptor.
    pub(super) fn get(&self, name: File) -> Result<BorrowedFd<'a>, Errno> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, fd)| *fd).ok_or(Errno::BADF)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (File, BorrowedFd<'a>)> {
        self.0.iter().copied()
    }
}
