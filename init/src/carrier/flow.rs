//! One direction of a link: bytes from one descriptor to another, and the end of them.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, shutdown};

/// Turns of one direction before others have theirs.
const TURNS: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub struct Flow {
    /// What was read and not taken yet, from `written` on.
    pending: Vec<u8>,
    written: usize,
    /// The source sends no more.
    read_to_end: bool,
    /// The destination was told so, or takes nothing any more.
    over: bool,
}

/// What came of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing goes any further until something happens.
    Waits,
    /// There may be more.
    HasMore,
    /// One side is broken.
    Broken,
}

impl Flow {
    /// With what came ahead.
    pub fn beginning_with(bytes: &[u8]) -> Flow {
        Flow { pending: bytes.to_vec(), ..Flow::default() }
    }

    /// Whether all of it was carried.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The destination is gone: what is left of it goes nowhere.
    pub fn give_up(&mut self) {
        (self.pending, self.written, self.read_to_end, self.over) = (Vec::new(), 0, true, true);
    }

    /// Moves bytes until one side has to be waited for.
    pub fn turn(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, buffer: &mut [u8]) -> Turn {
        for _ in 0..TURNS {
            if self.over {
                return Turn::Waits;
            }
            if !self.pending.is_empty() {
                match write(to, &self.pending[self.written..]) {
                    Ok(count) => self.written += count,
                    Err(Errno::AGAIN) => return Turn::Waits,
                    Err(_) => return Turn::Broken,
                }
                if self.written < self.pending.len() {
                    continue;
                }
                // An idle link holds no memory.
                (self.pending, self.written) = (Vec::new(), 0);
            }
            if self.read_to_end {
                self.over = true;
                // Where it was closed meanwhile there is nobody to tell.
                let _ = shutdown(to, Shutdown::Write);
                return Turn::Waits;
            }
            match rustix::io::read(from, &mut *buffer) {
                Ok(0) => self.read_to_end = true,
                Ok(count) => match write(to, &buffer[..count]) {
                    Ok(written) if written == count => {}
                    Ok(written) => self.pending = buffer[written..count].to_vec(),
                    Err(Errno::AGAIN) => self.pending = buffer[..count].to_vec(),
                    Err(_) => return Turn::Broken,
                },
                Err(Errno::AGAIN) => return Turn::Waits,
                Err(Errno::INTR) => {}
                Err(_) => return Turn::Broken,
            }
        }
        Turn::HasMore
    }
}

/// A broken destination is an error and no signal.
pub fn write(to: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        match rustix::net::send(to, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Err(Errno::INTR) => {}
            sent => return sent,
        }
    }
}
