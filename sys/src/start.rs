//! Starting a program of the system itself: in its cgroup, a session of its own, with descriptors at fixed
//! numbers.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use crate::clone::{Child, CloneFlags, Memory, Stack, StringArray, clone_vfork, execve, unblock_signals};

/// Highest number that [`Program::fds`] may ask for.
const FIRST_FREE: RawFd = 64;

/// Most descriptors of a [`Program`].
const FDS_MAX: usize = 16;

/// What to run.
#[derive(Debug)]
pub struct Program<'a> {
    /// Path of the executable.
    pub path: &'a CStr,
    /// Arguments, the program's name first.
    pub arguments: StringArray,
    /// Environment.
    pub environment: StringArray,
    /// Cgroup it begins in; the caller's where absent.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// What it finds at which number (below 64). Everything else of the caller that is not close-on-exec is
    /// inherited under its own number.
    pub fds: &'a [(BorrowedFd<'a>, RawFd)],
}

impl Program<'_> {
    /// Starts it.
    ///
    /// # Errors
    /// Those of clone3(2), dup2(2) and execve(2). A child that could not become the program has ended and is
    /// the caller's to reap.
    pub fn start(&self) -> io::Result<Child> {
        self.start_as(CloneFlags::default())
    }

    /// [`Program::start`] with the relations and namespaces of `flags`.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub fn start_as(&self, flags: CloneFlags) -> io::Result<Child> {
        let mut stack = Stack::new()?;
        let mut failed = None;
        let child = clone_vfork(flags, self.cgroup, Memory::Shared, &mut stack, None, &mut || {
            failed = Some(self.become_it().raw_os_error().unwrap_or(libc::EIO));
            127
        })?;
        match failed {
            None => Ok(child),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Runs in the child, which shares the caller's memory: no allocation.
    fn become_it(&self) -> io::Error {
        if let Err(error) = place(self.fds) {
            return error;
        }
        // SAFETY: both change only the calling process, which has its own signal table. SIGPIPE is ignored by
        // every Rust program and would stay so across execve(2).
        unsafe {
            libc::setsid();
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        }
        unblock_signals();
        execve(self.path, &self.arguments, &self.environment)
    }
}

/// Puts each descriptor at its number: first all out of the way, so that none overwrites another.
fn place(fds: &[(BorrowedFd<'_>, RawFd)]) -> io::Result<()> {
    let mut aside = [-1; FDS_MAX];
    if fds.len() > FDS_MAX {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    for (slot, (fd, _)) in aside.iter_mut().zip(fds) {
        // SAFETY: makes a new descriptor in the child's own table.
        *slot = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FIRST_FREE) };
        if *slot < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    for (slot, (_, number)) in aside.iter().zip(fds) {
        // SAFETY: replaces a descriptor of the child's own table, which no value in the child owns.
        if unsafe { libc::dup2(*slot, *number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn program<'a>(path: &'a CStr, fds: &'a [(BorrowedFd<'a>, RawFd)]) -> Program<'a> {
        let script = c"echo three >&3; echo four >&4; exit 5";
        let arguments = StringArray::new(vec![c"sh".into(), c"-c".into(), script.into()]);
        Program { path, arguments, environment: StringArray::new(vec![]), cgroup: None, fds }
    }

    #[test]
    fn descriptors_are_at_their_numbers() {
        let (mut three, into_three) = std::io::pipe().unwrap();
        let (mut four, into_four) = std::io::pipe().unwrap();
        let fds = [(into_three.as_fd(), 3), (into_four.as_fd(), 4)];
        let child = program(c"/bin/sh", &fds).start().unwrap();
        drop((into_three, into_four));
        let mut text = String::new();
        three.read_to_string(&mut text).unwrap();
        four.read_to_string(&mut text).unwrap();
        assert_eq!(text, "three\nfour\n");
        let ended = loop {
            if let Some(ended) = crate::reap::take(child.pid).unwrap() {
                break ended;
            }
            std::thread::yield_now();
        };
        assert_eq!(ended.status, 5 << 8);
    }

    #[test]
    fn a_missing_program_is_told() {
        let error = program(c"/does/not/exist", &[]).start().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
}
