//! `pinnace guard PARENT FILES PROGRAM ARGS…` (hidden): becomes PROGRAM, which dies with its parent and may open FILES files.
//!
//! A bridge that is killed must not leave a machine behind. Only a process itself can say that it wants to die with its
//! parent, so the bridge starts itself first ([`host::become_tied`]).

use crate::{host, say};
use std::ffi::OsString;
use std::process::ExitCode;

/// The hidden subcommand's name.
pub const SUBCOMMAND: &str = "guard";

/// What ties a process to the bridge that started it.
#[derive(clap::Args)]
pub struct Ties {
    /// The bridge's process.
    pub parent: u32,
    /// How many files it may open.
    pub files: u64,
}

/// What the subcommand takes.
#[derive(clap::Args)]
pub struct Order {
    #[command(flatten)]
    ties: Ties,
    program: OsString,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// The words before a program and its arguments that tie it to this process.
pub fn words() -> [OsString; 3] {
    let [parent, files] = ties();
    [SUBCOMMAND.into(), parent, files]
}

/// The words of [`Ties`] to this process.
pub fn ties() -> [OsString; 2] {
    [std::process::id().to_string().into(), host::open_files_of_children().to_string().into()]
}

/// Becomes the program; returns only when it cannot.
pub fn play(order: &Order) -> ExitCode {
    let Order { ties, program, args } = order;
    let error = match host::lower_open_files(ties.files) {
        Ok(()) => host::become_tied(ties.parent, program, args),
        Err(error) => error,
    };
    say::error(&format!("{}: {error}", program.display()));
    ExitCode::FAILURE
}
