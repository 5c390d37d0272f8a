//! `pinnace guard PARENT FILES PROGRAM ARGS…` (hidden): becomes PROGRAM, which dies with its parent and may open FILES files.
//!
//! A bridge that is killed must not leave a machine behind. Only a process itself can say that it wants to die with its
//! parent, so the bridge starts itself first ([`host::die_with`]).

use crate::host;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The hidden subcommand's name.
pub const SUBCOMMAND: &str = "guard";

/// The words before a program and its arguments that tie it to this process.
pub fn words() -> [OsString; 3] {
    let [parent, files] = ties();
    [SUBCOMMAND.into(), parent, files]
}

/// The two words that tell a child of this process with whom to die, and how many files it may open.
pub fn ties() -> [OsString; 2] {
    [std::process::id().to_string().into(), host::open_files_of_children().to_string().into()]
}

/// Becomes the program; returns only when it cannot.
pub fn become_program(parent: u32, files: u64, program: &OsStr, args: &[OsString]) -> io::Error {
    match host::die_with(parent).and_then(|()| host::lower_open_files(files)) {
        Ok(()) => Command::new(Path::new(program)).args(args).exec(),
        Err(error) => error,
    }
}
