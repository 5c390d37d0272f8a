//! What lies in a socket's queues, see unix(7).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Memory, in bytes, of what was written to a unix socket and its peer has not read: 0 when it has read all, or is gone
/// (SIOCOUTQ). A vsock counts what has not left this machine.
///
/// # Errors
/// ENOTTY or EOPNOTSUPP where the descriptor is no such socket.
pub fn unread(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which is TIOCOUTQ's number, writes one int to the pointer.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { Ok(usize::try_from(bytes).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_was_written_counts_until_it_is_read() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        assert_eq!(unread(here.as_fd()).unwrap(), 0);
        here.write_all(b"head").unwrap();
        assert!(unread(here.as_fd()).unwrap() > 0);
        there.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(unread(here.as_fd()).unwrap(), 0);
        here.write_all(b"more").unwrap();
        drop(there);
        assert_eq!(unread(here.as_fd()).unwrap(), 0);
    }
}
