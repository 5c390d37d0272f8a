//! Where the tree is, and how commands are run in it.

use anyhow::{Context, Result, bail};
use serde_json::Value;
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
        let json: Value = serde_json::from_str(&output(&mut metadata)?)?;
        let folder =
            |key: &str| json[key].as_str().map(PathBuf::from).context("cargo metadata lacks a folder");
        Ok(Workspace { root: folder("workspace_root")?, target: folder("target_directory")? })
    }

    /// `build/` and what is below it: everything the tasks make that is not cargo's.
    pub fn build(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join("build").join(below)
    }
}

/// One package of the workspace.
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its folder, relative to the root.
    pub folder: PathBuf,
    /// The packages of this workspace that it depends on, for whatever purpose; every room's tests may skip.
    pub ours: Vec<String>,
}

impl Workspace {
    /// The packages of the workspace.
    pub fn crates(&self) -> Result<Vec<Crate>> {
        let mut metadata = cargo();
        metadata
            .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .current_dir(&self.root);
        let json: Value = serde_json::from_str(&output(&mut metadata)?)?;
        let packages = json["packages"].as_array().context("cargo metadata lacks packages")?;
        packages.iter().map(|package| self.package(package)).collect()
    }

    fn package(&self, json: &Value) -> Result<Crate> {
        let manifest = Path::new(json["manifest_path"].as_str().context("a package has a manifest")?);
        let folder = manifest.parent().and_then(|folder| folder.strip_prefix(&self.root).ok());
        // Only a package of this workspace is depended on by its path.
        let dependencies = json["dependencies"].as_array().into_iter().flatten();
        let skips = |dependency: &Value| dependency["name"] == "pinnace-skip" && dependency["kind"] == "dev";
        let ours = dependencies.filter(|dependency| dependency["path"].is_string() && !skips(dependency));
        let ours = ours.filter_map(|dependency| dependency["name"].as_str()).map(str::to_owned);
        Ok(Crate {
            name: json["name"].as_str().context("a package has a name")?.to_owned(),
            folder: folder.context("a package is below the root")?.to_owned(),
            ours: ours.collect(),
        })
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
