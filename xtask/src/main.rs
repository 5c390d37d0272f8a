//! One door for people and CI: `cargo xtask TASK`.
//!
//! Each task is one file, `task_NAME.rs`, with a `run` function. What runs on a user's machine is never here: the
//! tasks build, call and check the product, which stands without them.

mod say;
mod task_build;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use workspace::Workspace;

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "One door for people and CI", arg_required_else_help = true)]
struct Door {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the guest's programs (static, release) and `pinnace`
    Build,
}

fn main() -> ExitCode {
    match run(Door::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let workspace = Workspace::find()?;
    match task {
        Task::Build => task_build::run(&workspace),
    }
}
