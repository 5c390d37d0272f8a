//! Processes behind pidfds.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends signal number `signal`, real-time signals included; see pidfd_send_signal(2).
///
/// # Errors
/// ESRCH where the process has been reaped, EINVAL for a number that is no signal.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open; without siginfo the kernel reads no memory of ours.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
