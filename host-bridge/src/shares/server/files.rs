//! Requests about open files.

use super::changes::NODE;
use super::owner::drop_set_ids;
use super::tree::Found;
use super::wire::{self, Abilities, Arguments, opcode};
use super::{Asked, DATA_MAX, Handle, OPEN_FLAGS, PAGE, Reply, Server};
use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError};
use zerocopy::IntoBytes;

/// FUSE_WRITE_KILL_SUIDGID.
const WRITE_KILLS_SET_IDS: u32 = 1 << 2;
/// FUSE_OPEN_KILL_SUIDGID, with O_TRUNC.
const OPEN_KILLS_SET_IDS: u32 = 1;
/// FUSE_FSYNC_FDATASYNC.
const DATA_ONLY: u32 = 1;

/// How long a request of a [`Transfer`] is without its data, in bytes.
pub const TRANSFER_HEAD: usize = size_of::<wire::RequestHeader>() + size_of::<wire::WriteIn>();

/// Which way data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the guest.
    Read,
    /// To the host.
    Write,
}

/// See [`Server::transfer`].
pub struct Transfer {
    file: Arc<Handle>,
    /// In the file, in bytes.
    pub offset: u64,
    /// At most, in bytes.
    pub size: usize,
    /// Which way.
    pub way: Way,
    unique: u64,
}

impl Transfer {
    /// The file.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.fd.as_fd()
    }

    /// What stands before the data that was read, or is all there is to say of a writing.
    pub fn reply(&self, result: std::io::Result<usize>) -> Vec<u8> {
        let (size, error) = match result {
            Ok(size) => (size, 0),
            Err(error) => (0, -error.raw_os_error().unwrap_or(Errno::IO.raw_os_error())),
        };
        let mut reply = Vec::with_capacity(wire::REPLY_HEADER + size_of::<wire::WriteOut>());
        let mut header = wire::ReplyHeader { len: wire::REPLY_HEADER as u32, error, unique: self.unique };
        let written = wire::WriteOut { size: size as u32, padding: 0 };
        match self.way {
            Way::Read => header.len += size as u32,
            Way::Write if error == 0 => header.len += size_of::<wire::WriteOut>() as u32,
            Way::Write => {}
        }
        reply.extend(header.as_bytes());
        if self.way == Way::Write && error == 0 {
            reply.extend(written.as_bytes());
        }
        reply
    }
}

impl Server {
    pub(super) fn init(&self, mut arguments: Arguments<'_>, reply: &mut Reply) -> Result<(), Errno> {
        let guest: wire::InitIn = arguments.take()?;
        if guest.major != wire::MAJOR || guest.minor < wire::MINOR {
            return Err(Errno::PROTO);
        }
        // A mount that is new knows nothing of one before it.
        self.destroy()?;
        let answer = wire::InitOut {
            major: wire::MAJOR,
            minor: wire::MINOR,
            max_readahead: guest.max_readahead,
            flags: (Abilities::from_bits_truncate(guest.flags) & Abilities::all()).bits(),
            max_write: DATA_MAX as u32,
            time_gran: 1,
            max_pages: (DATA_MAX / PAGE) as u16,
            ..wire::InitOut::default()
        };
        reply.put(answer.as_bytes())
    }

    pub(super) fn destroy(&self) -> Result<(), Errno> {
        self.tree.forget_all();
        self.changes.clear();
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).open.clear();
        Ok(())
    }

    pub(super) fn handle(&self, number: u64) -> Result<Arc<Handle>, Errno> {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.open.get(&number).cloned().ok_or(Errno::BADF)
    }

    /// Keeps an open file until the guest releases it; returns its number.
    pub(super) fn keep(&self, fd: OwnedFd) -> Result<u64, Errno> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.last += 1;
        let number = handles.last;
        handles.open.insert(number, Arc::new(Handle::new(fd)));
        Ok(number)
    }

    pub(super) fn open(
        &self,
        asked: &Asked,
        mut arguments: Arguments<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let node = self.tree.node(asked.node)?;
        let wanted: wire::OpenIn = arguments.take()?;
        let flags = OFlags::from_bits_truncate(wanted.flags) & (OPEN_FLAGS | OFlags::ACCMODE);
        let fd = node.open(flags.difference(OFlags::EXCL) | OFlags::NONBLOCK)?;
        if wanted.open_flags & OPEN_KILLS_SET_IDS != 0 {
            drop_set_ids(fd.as_fd())?;
        }
        reply.put(wire::OpenOut { handle: self.keep(fd)?, ..Default::default() }.as_bytes())
    }

    pub(super) fn open_folder(&self, asked: &Asked, reply: &mut Reply) -> Result<(), Errno> {
        let handle = match self.tree.find(asked.node)? {
            Found::Node(node) => self.keep(node.open(OFlags::RDONLY | OFlags::DIRECTORY)?)?,
            Found::Shares => 0,
        };
        reply.put(wire::OpenOut { handle, ..Default::default() }.as_bytes())
    }

    pub(super) fn release(&self, mut arguments: Arguments<'_>) -> Result<(), Errno> {
        let wanted: wire::ReleaseIn = arguments.take()?;
        let closed = self.handles.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&wanted.handle);
        // Closing may take its time, which nobody else should wait for.
        drop(closed);
        Ok(())
    }

    /// A reading or writing of a file of the host's, for who can let the data go straight between the file and where it belongs.
    /// Nothing where it is something else, or where [`Server::answer`] has to say what is wrong with it.
    pub fn transfer(&self, request: &[u8]) -> Option<Transfer> {
        let mut arguments = Arguments(request);
        let header: wire::RequestHeader = arguments.take().ok()?;
        let way = match header.opcode {
            opcode::READ => Way::Read,
            opcode::WRITE => Way::Write,
            _ => return None,
        };
        // Both kinds have the same arguments.
        let wire::WriteIn { handle, offset, size, write_flags, .. } = arguments.take().ok()?;
        if header.node == NODE || self.changes.told_by(header.pid).is_some() {
            return None;
        }
        let file = self.handle(handle).ok()?;
        if way == Way::Write && write_flags & WRITE_KILLS_SET_IDS != 0 {
            drop_set_ids(file.fd.as_fd()).ok()?;
        }
        Some(Transfer { file, offset, size: size as usize, way, unique: header.unique })
    }

    pub(super) fn read(&self, mut arguments: Arguments<'_>, reply: &mut Reply) -> Result<(), Errno> {
        let wanted: wire::ReadIn = arguments.take()?;
        let handle = self.handle(wanted.handle)?;
        reply.fill(wanted.size as usize, |room| rustix::io::pread(&handle.fd, room, wanted.offset))
    }

    pub(super) fn write(&self, mut arguments: Arguments<'_>, reply: &mut Reply) -> Result<(), Errno> {
        let wanted: wire::WriteIn = arguments.take()?;
        let data = arguments.bytes(wanted.size as usize)?;
        let handle = self.handle(wanted.handle)?;
        if wanted.write_flags & WRITE_KILLS_SET_IDS != 0 {
            drop_set_ids(handle.fd.as_fd())?;
        }
        let size = rustix::io::pwrite(&handle.fd, data, wanted.offset)?;
        reply.put(wire::WriteOut { size: size as u32, padding: 0 }.as_bytes())
    }

    pub(super) fn sync(&self, mut arguments: Arguments<'_>) -> Result<(), Errno> {
        let wanted: wire::SyncIn = arguments.take()?;
        let handle = self.handle(wanted.handle)?;
        match wanted.flags & DATA_ONLY != 0 {
            true => rustix::fs::fdatasync(&handle.fd),
            false => rustix::fs::fsync(&handle.fd),
        }
    }

    pub(super) fn allocate(&self, mut arguments: Arguments<'_>) -> Result<(), Errno> {
        let wanted: wire::AllocateIn = arguments.take()?;
        let mode = FallocateFlags::from_bits(wanted.mode).ok_or(Errno::OPNOTSUPP)?;
        rustix::fs::fallocate(&self.handle(wanted.handle)?.fd, mode, wanted.offset, wanted.length)
    }

    /// The guest asks for data and holes alone; it knows the other places itself.
    pub(super) fn seek(&self, mut arguments: Arguments<'_>, reply: &mut Reply) -> Result<(), Errno> {
        let wanted: wire::SeekIn = arguments.take()?;
        let place = match wanted.whence {
            3 => SeekFrom::Data(wanted.offset),
            4 => SeekFrom::Hole(wanted.offset),
            _ => return Err(Errno::INVAL),
        };
        let offset = rustix::fs::seek(&self.handle(wanted.handle)?.fd, place)?;
        reply.put(wire::SeekOut { offset }.as_bytes())
    }

    pub(super) fn copy(&self, mut arguments: Arguments<'_>, reply: &mut Reply) -> Result<(), Errno> {
        let mut wanted: wire::CopyIn = arguments.take()?;
        let (from, to) = (self.handle(wanted.handle)?, self.handle(wanted.to_handle)?);
        let length = usize::try_from(wanted.length).unwrap_or(usize::MAX).min(i32::MAX as usize);
        let (offset, to_offset) = (&mut wanted.offset, &mut wanted.to_offset);
        let size = rustix::fs::copy_file_range(&from.fd, Some(offset), &to.fd, Some(to_offset), length)?;
        reply.put(wire::WriteOut { size: size as u32, padding: 0 }.as_bytes())
    }

    pub(super) fn file_system(&self, asked: &Asked, reply: &mut Reply) -> Result<(), Errno> {
        let node = match self.tree.find(asked.node)? {
            Found::Node(node) => node,
            Found::Shares => {
                return reply.put(wire::FileSystemOut { name_max: 255, ..Default::default() }.as_bytes());
            }
        };
        let stat = rustix::fs::fstatvfs(&*node)?;
        let answer = wire::FileSystemOut {
            blocks: stat.f_blocks,
            free: stat.f_bfree,
            available: stat.f_bavail,
            files: stat.f_files,
            files_free: stat.f_ffree,
            block_size: stat.f_bsize as u32,
            name_max: stat.f_namemax as u32,
            fragment_size: stat.f_frsize as u32,
            ..wire::FileSystemOut::default()
        };
        reply.put(answer.as_bytes())
    }
}
