//! Where the tree is, and how commands are run in it.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The checked-out tree and cargo's target folder.
pub struct Workspace {
    /// Folder of the root Cargo.toml.
    pub root: PathBuf,
    /// Cargo's target folder (`CARGO_TARGET_DIR` or `target`).
    pub target: PathBuf,
}

impl Workspace {
    /// Asks cargo.
    pub fn find() -> Result<Workspace> {
        let mut metadata = cargo();
        metadata.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
        metadata.current_dir(env!("CARGO_MANIFEST_DIR"));
        let json: serde_json::Value = serde_json::from_str(&output(&mut metadata)?)?;
        let folder =
            |key: &str| json[key].as_str().map(PathBuf::from).context("cargo metadata lacks a folder");
        Ok(Workspace { root: folder("workspace_root")?, target: folder("target_directory")? })
    }

    /// `build/` and what is below it: everything the tasks make that is not cargo's.
    pub fn build(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join("build").join(below)
    }
}

/// The cargo that runs this task.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a command with the terminal as it is; an error names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", name(command));
    }
    Ok(())
}

/// Runs a command and returns what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    command.stderr(std::process::Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot start {}", name(command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", name(command), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn name(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
