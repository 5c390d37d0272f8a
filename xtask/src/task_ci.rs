//! `cargo xtask ci`: what must hold before a change is taken; `.ci/run` is this.

use crate::say;
use crate::workspace::{Workspace, cargo, run as run_command};
use crate::{task_arrows, task_deny, task_fuzz, task_test, task_tidy};
use anyhow::Result;

/// Cheap checks first; the first that fails ends it.
pub fn run(workspace: &Workspace) -> Result<()> {
    check(workspace, &["fmt", "--all", "--check"])?;
    check(workspace, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    say::step("tidy");
    task_tidy::run(workspace, false)?;
    say::step("arrows");
    task_arrows::run(workspace)?;
    task_deny::run(workspace)?;
    task_fuzz::run(workspace, &task_fuzz::Options::default())?;
    task_test::run(workspace, &task_test::Options::of_ci())
}

fn check(workspace: &Workspace, words: &[&str]) -> Result<()> {
    say::step(&format!("cargo {}", words.join(" ")));
    run_command(cargo().args(words).current_dir(&workspace.root))
}
