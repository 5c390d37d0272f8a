//! One connection: a host stream on one side, the guest's packets on the other, and the credit between them.
//!
//! ```text
//!   Asked ──RESPONSE──► open ──guest SHUTDOWN(both) or RST──► leaving: what the guest sent is still written
//!     └──RST──► gone      └──host closed, all of it sent──► gone
//! ```
//!
//! Each direction ends by itself: the host stream's end of file becomes `SHUTDOWN(send)`, and the guest's
//! `SHUTDOWN(send)` becomes shutdown(2) of the stream once everything before it was written. Data goes straight between
//! the stream and the guest's memory; only what a slow host stream does not take at once is kept here.

use super::packet::{Op, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{MsgFlags, recv};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use vm_memory::{Bytes, ReadVolatile, VolatileMemoryError, VolatileSlice, WriteVolatile};

/// What the guest may send before we took it: our `buf_alloc`.
pub const BUFFER_BYTES: u32 = 256 << 10;

/// What became of a connection after it was worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Lives,
    /// Nothing is left to do for it.
    Done,
}

/// See the module.
pub struct Connection {
    stream: UnixStream,
    /// The host stream may have something to read: epoll said so, and it was not read empty since.
    readable: bool,
    /// The host stream's peer writes no more, so what is unread in it is all there will be.
    host_ending: bool,
    /// The host stream was read to its end.
    host_ended: bool,
    /// The host stream is closed in both directions.
    host_closed: bool,
    /// From the guest, not yet written.
    pending: VecDeque<u8>,
    /// `SHUTDOWN` flags the guest sent.
    guest_ended: u32,
    /// The guest is gone: nothing may be sent to it.
    guest_gone: bool,
    /// `SHUTDOWN` flags we sent.
    told_end: u32,
    /// The guest asked for our `fwd_cnt`.
    asked_credit: bool,
    /// It stands in the switch's queue of those that have something to send.
    pub queued: bool,
    /// What epoll was asked to tell of the stream.
    pub watched: EpollFlags,
    peer_buf_alloc: u32,
    peer_fwd_cnt: u32,
    sent: u32,
    forwarded: u32,
    told_forwarded: u32,
}

impl Connection {
    /// A connection over a stream that does not block, to a guest with this credit.
    pub fn new(stream: UnixStream, buf_alloc: u32, fwd_cnt: u32) -> Connection {
        Connection {
            stream,
            readable: false,
            host_ending: false,
            host_ended: false,
            host_closed: false,
            pending: VecDeque::new(),
            guest_ended: 0,
            guest_gone: false,
            told_end: 0,
            asked_credit: false,
            queued: false,
            watched: EpollFlags::empty(),
            peer_buf_alloc: buf_alloc,
            peer_fwd_cnt: fwd_cnt,
            sent: 0,
            forwarded: 0,
            told_forwarded: 0,
        }
    }

    /// Takes the guest's word about its buffer.
    pub fn set_credit(&mut self, buf_alloc: u32, fwd_cnt: u32) {
        self.peer_buf_alloc = buf_alloc;
        self.peer_fwd_cnt = fwd_cnt;
    }

    /// Bytes the guest has room for. A guest that lies about its counters gets nothing.
    fn credit(&self) -> usize {
        let in_flight = self.sent.wrapping_sub(self.peer_fwd_cnt);
        self.peer_buf_alloc.saturating_sub(in_flight) as usize
    }

    /// The guest wants to know how much of our buffer is free.
    pub fn ask_credit(&mut self) {
        self.asked_credit = true;
    }

    /// Our own `fwd_cnt` for a header that is sent now.
    pub fn tell_forwarded(&mut self) -> u32 {
        self.told_forwarded = self.forwarded;
        self.asked_credit = false;
        self.forwarded
    }

    /// The guest asked, or half of our buffer became free since it last heard of it.
    fn owes_credit(&self) -> bool {
        self.asked_credit || self.forwarded.wrapping_sub(self.told_forwarded) >= BUFFER_BYTES / 2
    }

    /// The host's stream.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// What epoll shall tell. Room in the stream only while something waits for it, or each read of the host would wake us.
    pub fn wants(&self) -> EpollFlags {
        let mut wants = EpollFlags::EPOLLET | EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        wants.set(EpollFlags::EPOLLOUT, !self.pending.is_empty());
        wants
    }

    /// What epoll says of the host stream. It is told once for each change (EPOLLET), so it is remembered here.
    pub fn hear(&mut self, events: EpollFlags) -> Fate {
        self.readable |= events.contains(EpollFlags::EPOLLIN);
        self.host_ending |= events.contains(EpollFlags::EPOLLRDHUP);
        if events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            // It was closed, not only shut for writing: what it wrote still goes to the guest.
            (self.host_ending, self.host_closed) = (true, true);
            self.pending.clear();
        }
        self.look_for_end();
        match events.contains(EpollFlags::EPOLLOUT) {
            true => self.flush(),
            false => self.fate(),
        }
    }

    /// An end behind the last byte must be seen without reading, as a guest without credit may be sent it, too.
    fn look_for_end(&mut self) {
        if self.host_ending && !self.host_ended {
            let seen = recv(self.stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK);
            self.host_ended = matches!(seen, Ok(0));
        }
    }

    /// Host and guest both know that it is over.
    fn is_over(&self) -> bool {
        self.host_closed && (self.guest_gone || self.told_end == SHUTDOWN_SEND | SHUTDOWN_RECEIVE)
    }

    /// What became of it.
    pub fn fate(&self) -> Fate {
        if self.is_over() { Fate::Done } else { Fate::Lives }
    }

    /// There may be something the guest can be sent now.
    pub fn has_packet(&self) -> bool {
        let data = self.readable && !self.host_ended && self.credit() > 0;
        !self.guest_gone && (data || self.end_to_tell() != 0 || self.owes_credit())
    }

    /// The next packet for the guest: what it does, its flags, and how many bytes were put into `room`.
    pub fn next(&mut self, room: &VolatileSlice) -> Option<(Op, u32, usize)> {
        match self.read_into(room) {
            0 => {}
            len => return Some((Op::Data, 0, len)),
        }
        match self.end_to_tell() {
            0 => self.owes_credit().then_some((Op::CreditUpdate, 0, 0)),
            end => {
                self.told_end |= end;
                Some((Op::Shutdown, self.told_end, 0))
            }
        }
    }

    fn read_into(&mut self, room: &VolatileSlice) -> usize {
        let count = room.len().min(self.credit());
        if !self.readable || self.host_ended || count == 0 {
            return 0;
        }
        let mut room = room.subslice(0, count).expect("no more than its length");
        let read = match (&self.stream).read_volatile(&mut room) {
            Ok(read) => read,
            Err(error) => {
                self.readable = false;
                (self.host_ended, self.host_closed) = match waits(&error) {
                    true => (self.host_ended, self.host_closed),
                    false => (true, true),
                };
                return 0;
            }
        };
        // No more than credit, which has 32 bits.
        self.sent = self.sent.wrapping_add(read as u32);
        self.host_ended = read == 0;
        self.look_for_end();
        read
    }

    /// The `SHUTDOWN` flags that are due and not yet sent.
    fn end_to_tell(&self) -> u32 {
        let end = match (self.host_ended, self.host_closed) {
            (false, _) => 0,
            (true, false) => SHUTDOWN_SEND,
            (true, true) => SHUTDOWN_SEND | SHUTDOWN_RECEIVE,
        };
        end & !self.told_end
    }

    /// Data from the guest.
    pub fn push(&mut self, data: &VolatileSlice) -> Fate {
        let mut written = 0;
        if self.pending.is_empty() {
            written = match (&self.stream).write_volatile(data) {
                Ok(written) => written,
                Err(error) if waits(&error) => 0,
                Err(_) => return Fate::Done,
            };
            self.forwarded = self.forwarded.wrapping_add(written as u32);
        }
        match written == data.len() {
            true => Fate::Lives,
            false => self.keep(&data.offset(written).expect("within the data")),
        }
    }

    /// Keeps what the host stream does not take yet. A guest that ignores our credit must not fill the host's memory.
    fn keep(&mut self, data: &VolatileSlice) -> Fate {
        if self.pending.len() + data.len() > 2 * BUFFER_BYTES as usize {
            return Fate::Done;
        }
        let mut bytes = vec![0; data.len()];
        if data.read_slice(&mut bytes, 0).is_err() {
            return Fate::Done;
        }
        self.pending.extend(bytes);
        self.flush()
    }

    /// Writes what is pending as far as the host stream takes it.
    fn flush(&mut self) -> Fate {
        while !self.pending.is_empty() {
            match (&self.stream).write(self.pending.as_slices().0) {
                Ok(written) => {
                    self.forwarded = self.forwarded.wrapping_add(written as u32);
                    self.pending.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Fate::Lives,
                Err(_) => return Fate::Done,
            }
        }
        self.settle()
    }

    /// The guest ended a direction, or both.
    pub fn end_guest(&mut self, flags: u32) -> Fate {
        self.guest_ended |= flags;
        if self.guest_ended & SHUTDOWN_SEND != 0 && self.guest_ended & SHUTDOWN_RECEIVE != 0 {
            self.guest_gone = true;
        }
        self.settle()
    }

    /// The guest forgot the connection.
    pub fn lose_guest(&mut self) -> Fate {
        self.guest_gone = true;
        self.settle()
    }

    /// Nothing more may be sent to the guest.
    pub fn guest_gone(&self) -> bool {
        self.guest_gone
    }

    /// Passes on the guest's ends once everything before them is written.
    fn settle(&mut self) -> Fate {
        if !self.pending.is_empty() {
            return Fate::Lives;
        }
        if self.guest_gone {
            return Fate::Done;
        }
        // A stream that is closed already has nobody to tell.
        if self.guest_ended & SHUTDOWN_SEND != 0 {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        if self.guest_ended & SHUTDOWN_RECEIVE != 0 {
            let _ = self.stream.shutdown(Shutdown::Read);
        }
        self.fate()
    }
}

fn waits(error: &VolatileMemoryError) -> bool {
    matches!(error, VolatileMemoryError::IOError(error) if error.kind() == io::ErrorKind::WouldBlock)
}
