//! What Linux alone does this way.

use crate::backend::namespace;
use crate::{guard, shares};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Subcommands for what needs a process of its own.
#[derive(clap::Subcommand)]
pub enum Role {
    /// Becomes a program that dies with its parent
    #[command(name = guard::SUBCOMMAND, hide = true)]
    Guard(guard::Order),
    /// Enters new namespaces and starts PID 1 there; takes its plan as JSON
    #[command(name = namespace::OUTSIDE, hide = true)]
    Outside(guard::Ties),
    /// Is PID 1 of the new namespaces until it becomes the guest's init
    #[command(name = namespace::INSIDE, hide = true)]
    Inside,
    /// Serves folders of this host to a machine, on the socket that is its standard input
    #[command(name = shares::SUBCOMMAND, hide = true)]
    Folders(shares::Order),
}

impl Role {
    /// Plays it.
    pub fn play(self) -> ExitCode {
        match self {
            Role::Guard(order) => guard::play(&order),
            Role::Outside(ties) => namespace::outside(&ties),
            Role::Inside => namespace::inside(),
            Role::Folders(order) => shares::play(&order),
        }
    }
}

/// The running program, also when its file was replaced meanwhile.
pub fn own_program() -> io::Result<PathBuf> {
    Ok("/proc/self/exe".into())
}

/// Makes this process die when its parent does (prctl(2), PR_SET_PDEATHSIG); an error when that is dead already. The
/// kernel sends the signal when the parent's *thread* ends: the bridge therefore starts machines from its main thread.
pub fn die_with(parent: u32) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    match getppid().as_raw() as u32 == parent {
        true => Ok(()),
        false => Err(io::Error::other("the bridge is gone")),
    }
}

/// Becomes a program that dies with this process's parent; returns only when it cannot.
pub fn become_tied(parent: u32, program: &OsString, args: &[OsString]) -> io::Error {
    match die_with(parent) {
        Ok(()) => Command::new(program).args(args).exec(),
        Err(error) => error,
    }
}

/// This host's memory, in bytes, where it can be told.
pub fn memory() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib = total.trim().trim_end_matches(" kB").parse::<u64>().ok()?;
    kib.checked_mul(1024)
}

/// Bytes that were written to a socket and that its peer has not read yet.
pub fn unread_bytes(socket: BorrowedFd<'_>) -> io::Result<usize> {
    sys::socket::unread(socket)
}
