//! `cargo xtask up`: from a fresh clone to an API that answers. What is missing is installed, what changed is built, and
//! then it is `pinnace up`; arguments go there.

use crate::needs;
use crate::task_image;
use crate::workspace::Workspace;
use anyhow::Result;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

/// Installs, builds, boots.
pub fn run(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    let namespace = args.iter().any(|arg| arg.to_string_lossy().contains("namespace"));
    needs::meet(namespace)?;
    let image = task_image::make(workspace)?;
    let mut pinnace = Command::new(&image.built.pinnace);
    pinnace.arg("up").arg("--image").arg(&image.folder).args(args);
    crate::task_verb::pass(&mut pinnace)
}
