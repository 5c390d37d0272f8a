//! `cargo xtask build`: the guest's two programs as static executables, and `pinnace` for this host.

use crate::say;
use crate::workspace::{Workspace, cargo, output};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

/// An explicit target keeps the static flag away from build scripts and proc macros, which are never static.
const GUEST_TARGET: &str = "x86_64-unknown-linux-gnu";

/// What the build made.
pub struct Built {
    /// PID 1.
    pub init: PathBuf,
    /// The engine.
    pub engined: PathBuf,
    /// The host's program.
    pub pinnace: PathBuf,
}

/// Builds everything.
pub fn run(workspace: &Workspace) -> Result<()> {
    build(workspace).map(|_| ())
}

/// Builds everything and tells where it is.
pub fn build(workspace: &Workspace) -> Result<Built> {
    say::step("building init, engined and pinnace");
    let guest = executables(guest_build(workspace))?;
    Ok(Built {
        init: made_by(&guest, "pinnace-init")?,
        engined: made_by(&guest, "pinnace-server")?,
        pinnace: pinnace(workspace)?,
    })
}

/// Builds `pinnace` alone.
pub fn pinnace(workspace: &Workspace) -> Result<PathBuf> {
    made_by(&executables(host_build(workspace))?, "pinnace-bridge")
}

fn made_by(executables: &[(String, PathBuf)], package: &str) -> Result<PathBuf> {
    let found = executables.iter().find(|(id, _)| id.contains(package));
    found.map(|(_, path)| path.clone()).with_context(|| format!("package {package} made no executable"))
}

fn guest_build(workspace: &Workspace) -> Command {
    let mut command = cargo();
    command.current_dir(&workspace.root).env("RUSTFLAGS", "-C target-feature=+crt-static");
    command.args(["build", "--release", "--target", GUEST_TARGET]);
    command.args(["-p", "pinnace-init", "-p", "pinnace-server"]);
    command
}

fn host_build(workspace: &Workspace) -> Command {
    let mut command = cargo();
    command.current_dir(&workspace.root);
    command.args(["build", "--release", "-p", "pinnace-bridge"]);
    command
}

/// Runs a cargo build and reads from its messages which package made which executable.
fn executables(mut command: Command) -> Result<Vec<(String, PathBuf)>> {
    command.args(["--message-format", "json-render-diagnostics"]);
    let messages = output(&mut command)?;
    let parsed = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    Ok(parsed
        .filter_map(|message| {
            let path = message["executable"].as_str()?;
            Some((message["package_id"].as_str()?.to_owned(), PathBuf::from(path)))
        })
        .collect())
}
