//! Lines on the console. Each is one write(2), so that lines of several processes do not mix. A console that does not take
//! one, because nobody reads it, does not hold this process up: the line is lost, and the next one says so.

use std::error::Error;
use std::fmt::{Arguments, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::stdio::stderr;

/// Opened anew, since O_NONBLOCK belongs to the open file (fcntl(2)), and the engine inherits the one of this process.
static CONSOLE: OnceLock<OwnedFd> = OnceLock::new();

/// Lines that were not taken since the last that was.
static LOST: AtomicU32 = AtomicU32::new(0);

/// For the last line of all a console has so long.
const LAST_LINE: Duration = Duration::from_secs(1);

/// Writes a line after the program's name.
macro_rules! say {
    ($($word:tt)*) => { $crate::messages::line(format_args!($($word)*)) };
}
pub(crate) use say;

/// See [`say`].
pub fn line(words: Arguments<'_>) {
    let mut text = String::with_capacity(120);
    match LOST.swap(0, Ordering::Relaxed) {
        0 => {}
        // Half of the last one may be there.
        lost => drop(writeln!(text, "\npinnace-init: the console did not take {lost} lines")),
    }
    let _ = writeln!(text, "pinnace-init: {words}");
    raw(text.as_bytes());
}

/// Writes bytes as they are.
pub fn raw(bytes: &[u8]) {
    if !try_write(console(), bytes) {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes the last line of this process; a console that is only slow is waited for.
pub fn last(line: &[u8]) {
    let end = Instant::now() + LAST_LINE;
    while !try_write(console(), line) && Instant::now() < end {
        let pause = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        let _ = poll(&mut [], Some(&pause));
    }
}

/// A file never blocks, and has a place to go on from that must stay the engine's, too. Before /proc is mounted there is no
/// way to open anything anew.
fn console() -> BorrowedFd<'static> {
    if let Some(console) = CONSOLE.get() {
        return console.as_fd();
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let is_file = || fstat(stderr()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    match open("/proc/self/fd/2", flags, Mode::empty()) {
        Ok(fd) if !is_file() => CONSOLE.get_or_init(|| fd).as_fd(),
        _ => stderr(),
    }
}

/// Whether all of it was taken, without waiting.
fn try_write(fd: BorrowedFd<'_>, bytes: &[u8]) -> bool {
    let mut ready = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let room = poll(&mut ready, Some(&now)).is_ok_and(|ready| ready > 0);
    room && rustix::io::write(fd, bytes).is_ok_and(|written| written == bytes.len())
}

/// The error and what caused it, on one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot mount {0}")]
    struct Outer(&'static str, #[source] std::io::Error);

    #[test]
    fn a_pipe_that_nobody_reads_holds_nothing_up() {
        let (read, write) = std::io::pipe().unwrap();
        let mut taken = 0;
        while try_write(write.as_fd(), &[b'x'; 1000]) {
            taken += 1;
        }
        assert!(taken > 0);
        drop(read);
        assert!(!try_write(write.as_fd(), b"x"), "nobody will ever read it");
    }

    #[test]
    fn causes_are_told_on_the_same_line() {
        let error = Outer("/proc", std::io::Error::from_raw_os_error(1));
        assert_eq!(chain(&error), "cannot mount /proc: Operation not permitted (os error 1)");
    }
}
