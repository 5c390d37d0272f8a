//! What macOS alone does this way. It was never run there.

use crate::guard;
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

nix::sockopt_impl!(
    /// Bytes that were written and not yet read by the peer (setsockopt(2)).
    Unread,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_NWRITE,
    libc::c_int
);

/// Subcommands for what needs a process of its own.
#[derive(clap::Subcommand)]
pub enum Role {
    /// Starts a program that dies with its parent
    #[command(name = guard::SUBCOMMAND, hide = true)]
    Guard(guard::Order),
}

impl Role {
    /// Plays it.
    pub fn play(self) -> ExitCode {
        match self {
            Role::Guard(order) => guard::play(&order),
        }
    }
}

/// The running program.
pub fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Runs a program that dies with this process's parent, and ends as it ends; returns only when it cannot. No signal tells
/// of a parent's death here, so this process stays between the two and waits for whichever ends first.
pub fn become_tied(parent: u32, program: &OsString, args: &[OsString]) -> io::Error {
    match run_tied(parent, program, args) {
        Ok(status) => std::process::exit(status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1)),
        Err(error) => error,
    }
}

fn run_tied(parent: u32, program: &OsString, args: &[OsString]) -> io::Result<ExitStatus> {
    let queue = Kqueue::new()?;
    // ESRCH tells that the parent is gone already.
    queue.kevent(&[end_of(parent)], &mut [], None)?;
    let mut child = Command::new(program).args(args).spawn()?;
    let mut told = [end_of(child.id())];
    // A child that ended already was not reaped, and is told at once.
    while queue.kevent(&[end_of(child.id())], &mut told, None)? == 0 {}
    if told[0].ident() == parent as usize {
        child.kill()?;
    }
    child.wait()
}

/// The wait for one process's end.
fn end_of(pid: u32) -> KEvent {
    let flags = EvFlags::EV_ADD | EvFlags::EV_ONESHOT;
    KEvent::new(pid as usize, EventFilter::EVFILT_PROC, flags, FilterFlag::NOTE_EXIT, 0, 0)
}

/// This host's memory, in bytes, where it can be told.
pub fn memory() -> Option<u64> {
    let said = Command::new("/usr/sbin/sysctl").args(["-n", "hw.memsize"]).output().ok()?;
    String::from_utf8_lossy(&said.stdout).trim().parse().ok()
}

/// Bytes that were written to a socket and that its peer has not read yet.
pub fn unread_bytes(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let bytes = nix::sys::socket::getsockopt(&socket, Unread)?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}
