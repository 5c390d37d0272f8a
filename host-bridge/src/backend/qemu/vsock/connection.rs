//! One connection: a host stream on one side, the guest's packets on the other, and the credit between them.
//!
//! ```text
//!   Asked ──RESPONSE──► open ──guest SHUTDOWN(both) or RST──► leaving: what the guest sent is still written
//!     └──RST──► gone      └──host closed, all of it sent──► gone
//! ```
//!
//! Each direction ends by itself: the host stream's end of file becomes `SHUTDOWN(send)`, and the guest's
//! `SHUTDOWN(send)` becomes shutdown(2) of the stream once everything before it was written.

use super::packet::{SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

/// What the guest may send before we took it: our `buf_alloc`.
pub const BUFFER_BYTES: u32 = 256 << 10;
/// Most bytes taken from the host stream at a time.
const STAGE_BYTES: usize = 64 << 10;

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
    /// From the host stream, not yet sent.
    staged: VecDeque<u8>,
    /// From the guest, not yet written.
    pending: VecDeque<u8>,
    /// The host stream said end of file.
    host_ended: bool,
    /// The host stream is closed in both directions.
    host_closed: bool,
    /// `SHUTDOWN` flags the guest sent.
    guest_ended: u32,
    /// The guest is gone: nothing may be sent to it.
    guest_gone: bool,
    /// `SHUTDOWN` flags we sent.
    told_end: u32,
    /// It stands in the switch's queue of those that have something to send.
    pub queued: bool,
    peer_buf_alloc: u32,
    peer_fwd_cnt: u32,
    sent: u32,
    forwarded: u32,
    told_forwarded: u32,
}

impl Connection {
    /// A connection over a stream that does not block.
    pub fn new(stream: UnixStream) -> Connection {
        Connection {
            stream,
            staged: VecDeque::new(),
            pending: VecDeque::new(),
            host_ended: false,
            host_closed: false,
            guest_ended: 0,
            guest_gone: false,
            told_end: 0,
            queued: false,
            peer_buf_alloc: 0,
            peer_fwd_cnt: 0,
            sent: 0,
            forwarded: 0,
            told_forwarded: 0,
        }
    }

    /// The host's stream.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
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

    /// Our own `fwd_cnt` for a header that is sent now.
    pub fn tell_forwarded(&mut self) -> u32 {
        self.told_forwarded = self.forwarded;
        self.forwarded
    }

    /// Half of our buffer became free since the guest last heard of it.
    pub fn owes_credit(&self) -> bool {
        !self.guest_gone && self.forwarded.wrapping_sub(self.told_forwarded) >= BUFFER_BYTES / 2
    }

    /// Reads from the host stream when nothing is staged.
    pub fn pull(&mut self) {
        if self.guest_gone || !self.staged.is_empty() || self.host_ended {
            return;
        }
        let mut chunk = [0; STAGE_BYTES];
        match (&self.stream).read(&mut chunk) {
            Ok(0) => self.host_ended = true,
            Ok(read) => self.staged.extend(&chunk[..read]),
            Err(error) if waits(&error) => {}
            Err(_) => (self.host_ended, self.host_closed) = (true, true),
        }
    }

    /// The host stream was closed, not only shut for writing: what it wrote still goes to the guest.
    pub fn close_host(&mut self) {
        self.host_closed = true;
        self.pending.clear();
        self.pull();
    }

    /// The host stream is closed, so it is hung up for ever and waiting for it would never wait again.
    pub fn host_closed(&self) -> bool {
        self.host_closed
    }

    /// Host and guest both know that it is over.
    fn is_over(&self) -> bool {
        self.host_closed && (self.guest_gone || self.told_end == SHUTDOWN_SEND | SHUTDOWN_RECEIVE)
    }

    /// What became of it.
    pub fn fate(&self) -> Fate {
        if self.is_over() { Fate::Done } else { Fate::Lives }
    }

    /// There is something the guest can be sent now.
    pub fn has_packet(&self) -> bool {
        !self.guest_gone && (self.end_to_tell() != 0 || (!self.staged.is_empty() && self.credit() > 0))
    }

    /// There is nothing staged, so the host stream may be read.
    pub fn wants_read(&self) -> bool {
        !self.guest_gone && !self.host_ended && self.staged.is_empty()
    }

    /// Something waits to be written to the host stream.
    pub fn wants_write(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes at most `room` bytes for a data packet, as far as credit goes.
    pub fn take_data(&mut self, room: usize) -> Vec<u8> {
        let count = room.min(self.credit()).min(self.staged.len());
        // At most one stage of bytes, so the count fits.
        self.sent = self.sent.wrapping_add(count as u32);
        self.staged.drain(..count).collect()
    }

    /// The `SHUTDOWN` flags that are due and not yet sent; zero while data is staged.
    fn end_to_tell(&self) -> u32 {
        if !self.staged.is_empty() || !self.host_ended {
            return 0;
        }
        let end = if self.host_closed { SHUTDOWN_SEND | SHUTDOWN_RECEIVE } else { SHUTDOWN_SEND };
        end & !self.told_end
    }

    /// The flags of a `SHUTDOWN` packet to be sent now.
    pub fn take_end(&mut self) -> Option<u32> {
        match self.end_to_tell() {
            0 => None,
            end => {
                self.told_end |= end;
                Some(self.told_end)
            }
        }
    }

    /// Data from the guest.
    pub fn push(&mut self, data: &[u8]) -> Fate {
        if self.pending.is_empty() {
            match (&self.stream).write(data) {
                Ok(written) => {
                    self.forwarded = self.forwarded.wrapping_add(written as u32);
                    self.pending.extend(&data[written..]);
                }
                Err(error) if waits(&error) => self.pending.extend(data),
                Err(_) => return Fate::Done,
            }
            return Fate::Lives;
        }
        // A guest that ignores our credit must not fill the host's memory.
        if self.pending.len() + data.len() > 2 * BUFFER_BYTES as usize {
            return Fate::Done;
        }
        self.pending.extend(data);
        Fate::Lives
    }

    /// Writes what is pending as far as the host stream takes it.
    pub fn flush(&mut self) -> Fate {
        while !self.pending.is_empty() {
            match (&self.stream).write(self.pending.as_slices().0) {
                Ok(written) => {
                    self.forwarded = self.forwarded.wrapping_add(written as u32);
                    self.pending.drain(..written);
                }
                Err(error) if waits(&error) => return Fate::Lives,
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
        Fate::Lives
    }
}

fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
