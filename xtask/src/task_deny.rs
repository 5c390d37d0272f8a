//! `cargo xtask deny`: licences, bans, duplicate versions and sources of what is linked, by cargo-deny and `deny.toml`.

use crate::say;
use crate::workspace::{Workspace, cargo, run as run_command};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// The version that reads our `deny.toml`.
const VERSION: &str = "0.20.2";

/// Installs cargo-deny below `build/tools` where it is missing, and runs it. It fetches the sources of packages for other systems, and nothing else.
pub fn run(workspace: &Workspace) -> Result<()> {
    let program = install(workspace)?;
    say::step("cargo deny check licenses bans sources");
    let mut deny = Command::new(program);
    deny.args(["--locked", "--workspace", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"]);
    run_command(deny.current_dir(&workspace.root))
}

fn install(workspace: &Workspace) -> Result<PathBuf> {
    let root = workspace.build("tools");
    let program = root.join("bin/cargo-deny");
    let mut version = Command::new(&program);
    let have = version.arg("--version").output().is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).split_whitespace().nth(1) == Some(VERSION)
    });
    if !have {
        say::step(&format!("installing cargo-deny {VERSION}"));
        let mut install = cargo();
        install
            .args(["install", "--quiet", "--locked", "cargo-deny", "--version", VERSION, "--root"])
            .arg(&root);
        // Nothing depends on how fast it is.
        install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_LTO", "off");
        run_command(install.current_dir(&workspace.root))?;
    }
    Ok(program)
}
