//! Answers the guest's requests, one at a time, bytes in and bytes out.
//!
//! Whoever sends them may be hostile: a request that is not what its kind says is EINVAL, a number that was never told is
//! ENOENT or EBADF, and nothing is reached but what [`Tree`] looks up below a shared folder.

mod changes;
mod files;
mod listing;
mod names;
mod owner;
mod telling;
#[cfg(test)]
mod tests;
mod tree;
mod watch;
mod wire;
mod xattrs;

use changes::Changes;
pub use files::{TRANSFER_HEAD, Transfer, Way};
use owner::{Owner, Owners};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tree::Tree;
pub use wire::REPLY_HEADER;
use wire::{Arguments, Malformed, opcode};
use zerocopy::IntoBytes;

/// Longest read or write, in bytes.
pub const DATA_MAX: usize = 1 << 20;
/// A page of the guest, in bytes.
pub(super) const PAGE: usize = 4096;
/// How long the guest may believe what it was told, in seconds: what changes on the host is seen after it at the latest.
pub(super) const BELIEF: u64 = 1;
/// What a guest may ask for in an open(2); the rest concerns its own side.
pub(super) const OPEN_FLAGS: OFlags = OFlags::RDWR
    .union(OFlags::WRONLY)
    .union(OFlags::APPEND)
    .union(OFlags::TRUNC)
    .union(OFlags::EXCL)
    .union(OFlags::DSYNC)
    .union(OFlags::SYNC);

/// See the module.
pub struct Server {
    pub(super) tree: Tree,
    pub(super) owners: Owners,
    pub(super) handles: Mutex<Handles>,
    pub(super) changes: Changes,
}

/// What the guest has open, by the numbers it was given.
#[derive(Default)]
pub(super) struct Handles {
    pub(super) open: HashMap<u64, Arc<Handle>>,
    pub(super) last: u64,
}

/// An open file or folder.
pub(super) struct Handle {
    pub(super) fd: OwnedFd,
    /// A listing moves the place in the folder that its descriptor has.
    listing: Mutex<()>,
}

impl Handle {
    pub(super) fn new(fd: OwnedFd) -> Handle {
        Handle { fd, listing: Mutex::default() }
    }

    /// Held while a folder is read.
    pub(super) fn list(&self) -> MutexGuard<'_, ()> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of an answer, grown to the longest once.
pub struct Reply {
    bytes: Vec<u8>,
    length: usize,
}

impl Default for Reply {
    fn default() -> Reply {
        Reply { bytes: vec![0; wire::REPLY_HEADER + DATA_MAX], length: wire::REPLY_HEADER }
    }
}

impl Reply {
    /// The whole message.
    pub fn message(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn clear(&mut self) {
        self.length = wire::REPLY_HEADER;
    }

    /// How long the answer is without its header.
    pub(super) fn length(&self) -> usize {
        self.length - wire::REPLY_HEADER
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let room = self.bytes.get_mut(self.length..self.length + bytes.len()).ok_or(Errno::TOOBIG)?;
        room.copy_from_slice(bytes);
        self.length += bytes.len();
        Ok(())
    }

    /// Room for as many bytes, to be filled by something that says how many it has.
    pub(super) fn fill(
        &mut self,
        size: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<(), Errno> {
        let end = (self.length + size).min(self.bytes.len());
        self.length += read(&mut self.bytes[self.length..end])?;
        Ok(())
    }

    fn finish(&mut self, unique: u64, result: Result<(), Errno>) {
        let error = match result {
            Ok(()) => 0,
            Err(error) => {
                self.clear();
                -error.raw_os_error()
            }
        };
        let header = wire::ReplyHeader { len: self.length as u32, error, unique };
        self.bytes[..wire::REPLY_HEADER].copy_from_slice(header.as_bytes());
    }
}

/// Whether a request has an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// It is in the reply.
    Yes,
    /// It wants none.
    No,
}

/// A request's caller in the machine, and the node it is about.
pub(super) struct Asked {
    pub(super) node: u64,
    pub(super) caller: Owner,
    /// Its number in the machine.
    pub(super) thread: u32,
}

impl From<Malformed> for Errno {
    fn from(_: Malformed) -> Errno {
        Errno::INVAL
    }
}

impl Server {
    /// A server of these folders.
    pub fn new(folders: &[PathBuf]) -> Result<Server, (PathBuf, Errno)> {
        let tree = Tree::new(folders)?;
        let owners = Owners::of_this_process();
        Ok(Server { tree, owners, handles: Mutex::default(), changes: Changes::default() })
    }

    /// From here on changes on the host are looked for.
    ///
    /// # Errors
    /// This kernel cannot tell of them.
    pub fn watch(&mut self) -> io::Result<()> {
        self.tree.watch()
    }

    /// Takes what changes on the host, for ever; `ring` says that there is something to be read again. Returns at once where
    /// [`Server::watch`] was not called.
    pub fn take_changes(&self, ring: impl Fn()) -> Option<io::Error> {
        self.tree.watcher().map(|watch| watch.run(&self.tree, &self.changes, ring))
    }

    /// Answers one request.
    pub fn answer(&self, request: &[u8], reply: &mut Reply) -> Answered {
        reply.clear();
        let mut arguments = Arguments(request);
        let Ok(header) = arguments.take::<wire::RequestHeader>() else {
            reply.finish(0, Err(Errno::INVAL));
            return Answered::Yes;
        };
        let caller = Owner { uid: header.uid, gid: header.gid };
        let asked = Asked { node: header.node, caller, thread: header.pid };
        match header.opcode {
            opcode::FORGET => {
                if let Ok(wire::ForgetIn { lookups }) = arguments.take() {
                    self.tree.forget(header.node, lookups);
                }
                Answered::No
            }
            opcode::BATCH_FORGET => {
                let _ = arguments.take::<wire::BatchForgetIn>();
                while let Ok(wire::ForgetOne { node, lookups }) = arguments.take() {
                    self.tree.forget(node, lookups);
                }
                Answered::No
            }
            opcode::INTERRUPT => Answered::No,
            kind => {
                let told = self.tell(kind, &asked, arguments, reply);
                let result = told.unwrap_or_else(|| self.work(kind, &asked, arguments, reply));
                reply.finish(header.unique, result);
                Answered::Yes
            }
        }
    }

    fn work(
        &self,
        kind: u32,
        asked: &Asked,
        arguments: Arguments<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        match kind {
            opcode::INIT => self.init(arguments, reply),
            opcode::DESTROY => self.destroy(),
            opcode::LOOKUP => self.look_up(asked, arguments, reply),
            opcode::GETATTR => self.attributes(asked, reply),
            opcode::SETATTR => self.set_attributes(asked, arguments, reply),
            opcode::READLINK => self.read_link(asked, reply),
            opcode::SYMLINK => self.symlink(asked, arguments, reply),
            opcode::MKNOD => self.make_node(asked, arguments, reply),
            opcode::MKDIR => self.make_folder(asked, arguments, reply),
            opcode::UNLINK => self.unlink(asked, arguments, AtFlags::empty()),
            opcode::RMDIR => self.unlink(asked, arguments, AtFlags::REMOVEDIR),
            opcode::RENAME | opcode::RENAME2 => self.rename(kind, asked, arguments),
            opcode::LINK => self.link(asked, arguments, reply),
            opcode::OPEN => self.open(asked, arguments, reply),
            opcode::CREATE => self.create(asked, arguments, reply),
            opcode::READ => self.read(arguments, reply),
            opcode::WRITE => self.write(arguments, reply),
            opcode::RELEASE | opcode::RELEASEDIR => self.release(arguments),
            opcode::FLUSH => Ok(()),
            opcode::FSYNC | opcode::FSYNCDIR => self.sync(arguments),
            opcode::OPENDIR => self.open_folder(asked, reply),
            opcode::READDIR => self.list(asked, arguments, reply, false),
            opcode::READDIRPLUS => self.list(asked, arguments, reply, true),
            opcode::STATFS => self.file_system(asked, reply),
            opcode::SETXATTR => self.set_xattr(asked, arguments),
            opcode::GETXATTR => self.xattr(asked, arguments, reply),
            opcode::LISTXATTR => self.xattrs(asked, arguments, reply),
            opcode::REMOVEXATTR => self.remove_xattr(asked, arguments),
            opcode::FALLOCATE => self.allocate(arguments),
            opcode::LSEEK => self.seek(arguments, reply),
            opcode::COPY_FILE_RANGE => self.copy(arguments, reply),
            _ => Err(Errno::NOSYS),
        }
    }
}
