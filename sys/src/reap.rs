//! Children in two steps: see who ended without taking it, then take it with what it used. See wait4(2).

use std::io;
use std::os::fd::BorrowedFd;

/// How a child ended and what it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Raw wait status.
    pub status: i32,
    /// User CPU time, microseconds.
    pub user_micros: u64,
    /// System CPU time, microseconds.
    pub system_micros: u64,
}

/// Process id of a child that has ended and is left as it is (WNOWAIT); `None` while none has.
///
/// # Errors
/// ECHILD where there is no child at all.
pub fn peek() -> io::Result<Option<u32>> {
    // SAFETY: siginfo_t is plain memory, for which zero is a valid value; waitid only writes to it.
    let (result, pid) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        (libc::waitid(libc::P_ALL, 0, &mut info, flags), info.si_pid())
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((pid > 0).then_some(pid.cast_unsigned()))
}

/// Takes the child `pid` if it has ended.
///
/// # Errors
/// ECHILD where it is no child of the caller.
pub fn take(pid: u32) -> io::Result<Option<Ended>> {
    let (mut status, id) = (0, pid.cast_signed());
    // SAFETY: rusage is plain memory, for which zero is a valid value; wait4 only writes to it and to status.
    let (result, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(id, &mut status, libc::WNOHANG, &mut usage), usage)
    };
    match result {
        0 => Ok(None),
        got if got == id => Ok(Some(Ended {
            status,
            user_micros: micros(usage.ru_utime),
            system_micros: micros(usage.ru_stime),
        })),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends `signal` to every process that the caller may signal, except itself and (in a pid namespace) its
/// init; see kill(2) with pid −1.
///
/// # Errors
/// ESRCH where there is none.
pub fn kill_all(signal: i32) -> io::Result<()> {
    // SAFETY: kill touches no memory of the caller. The guard keeps a mistake from ending a user's session.
    let result = if std::process::id() == 1 { unsafe { libc::kill(-1, signal) } } else { 0 };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes `fd` readable when one of `signals` is pending, instead of their being delivered; see signalfd(2).
///
/// # Errors
/// Those of signalfd(2).
pub fn signal_fd(signals: &[i32]) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: the set is filled by sigemptyset before it is read; the descriptor is new and owned by nobody.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        signals.iter().for_each(|signal| {
            libc::sigaddset(&mut set, *signal);
        });
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        match libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(std::os::fd::OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// The next pending signal's number of a [`signal_fd`]; `None` when there is none.
pub fn next_signal(fd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = [0; size_of::<libc::signalfd_siginfo>()];
    let got = rustix::io::read(fd, &mut info).ok()?;
    // signalfd_siginfo begins with ssi_signo, 32 bits.
    let (number, _) = info.get(..got)?.split_first_chunk::<4>()?;
    Some(i32::from_ne_bytes(*number))
}

fn micros(time: libc::timeval) -> u64 {
    time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_usec.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_seen_and_then_taken_once() {
        let mut child = std::process::Command::new("/bin/sh").args(["-c", "exit 3"]).spawn().unwrap();
        let ended = loop {
            if let Some(ended) = take(child.id()).unwrap() {
                break ended;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        assert_eq!(ended.status, 3 << 8);
        assert_eq!(take(child.id()).unwrap_err().raw_os_error(), Some(libc::ECHILD));
        assert!(child.wait().is_err(), "it is taken once");
    }
}
