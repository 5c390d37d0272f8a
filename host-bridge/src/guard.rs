//! `pinnace guard PARENT PROGRAM ARGS…` (hidden): becomes PROGRAM, which dies with its parent.
//!
//! A bridge that is killed must not leave a machine behind. prctl(2) PR_SET_PDEATHSIG says so to the kernel, but only
//! a process can say it of itself, so the bridge starts itself first. The signal comes when the parent's *thread*
//! ends: the bridge therefore starts machines from its main thread.

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The hidden subcommand's name.
pub const SUBCOMMAND: &str = "guard";

/// The running program, also when its file was replaced meanwhile.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// The words before a program and its arguments that tie it to this process.
pub fn words() -> [OsString; 2] {
    [SUBCOMMAND.into(), std::process::id().to_string().into()]
}

/// Becomes the program; returns only when it cannot.
pub fn become_program(parent: u32, program: &OsStr, args: &[OsString]) -> io::Error {
    if let Err(error) = die_with(parent) {
        return error;
    }
    Command::new(Path::new(program)).args(args).exec()
}

/// Dies when the parent does; an error when it is dead already.
pub fn die_with(parent: u32) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    match getppid().as_raw() as u32 == parent {
        true => Ok(()),
        false => Err(io::Error::other("the bridge is gone")),
    }
}
