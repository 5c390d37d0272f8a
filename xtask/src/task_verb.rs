//! `cargo xtask down`, `status`, `logs` and `console`: the verbs of `pinnace`, with the one that was built here.

use crate::task_build;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::process::{Command, ExitCode};

/// Runs a verb with arguments.
pub fn run(workspace: &Workspace, verb: &str, args: &[OsString]) -> Result<ExitCode> {
    let built = workspace.target.join("release/pinnace");
    let pinnace = if built.is_file() { built } else { task_build::pinnace(workspace)? };
    pass(Command::new(pinnace).arg(verb).args(args))
}

/// Runs it and takes over its exit code.
pub fn pass(command: &mut Command) -> Result<ExitCode> {
    let status = command.status().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
