//! One door for people and CI: `cargo xtask TASK`.
//!
//! Each task is one file, `task_NAME.rs`, with a `run` function. What runs on a user's machine is never here: the
//! tasks build, call and check the product, which stands without them.

mod generated;
mod needs;
mod peers;
mod say;
mod task_arrows;
mod task_bench;
mod task_build;
mod task_check_hosts;
mod task_ci;
mod task_coverage;
mod task_coverage_behaviours;
mod task_coverage_fields;
mod task_deny;
mod task_fuzz;
mod task_image;
mod task_test;
mod task_tidy;
mod task_up;
mod task_verb;
mod test_run;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
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
    /// Install what is missing, build, and run every test, also in the real machine
    Test(task_test::Options),
    /// Measure the promised numbers beside others', and write them to SPECIFICATION.md
    Bench(task_bench::Options),
    /// All checks and all tests, as .ci/run
    Ci,
    /// Complain about what is too large, missing from the documents, or forbidden
    Tidy {
        /// Also list what is large, but not too large
        #[arg(long)]
        all: bool,
    },
    /// Fail on dependencies that the architecture does not have
    Arrows,
    /// Fail on licences, sources and duplicate versions of dependencies that deny.toml does not allow
    Deny,
    /// Feed arbitrary bytes to everything that reads a stranger's
    Fuzz(task_fuzz::Options),
    /// Type-check `pinnace` for Windows and macOS
    CheckHosts,
    /// Write docs/api-coverage.md, api-behaviours.md and host-config.md from the engine's source and the tests
    Coverage,
    /// Build the guest's programs (static, release) and `pinnace`
    Build,
    /// Make kernel and initramfs in build/image, building what goes into them
    Image,
    /// Install what is missing, build, make the image and boot it; arguments go to `pinnace up`
    Up(Args),
    /// Power the appliance off (`pinnace down`)
    Down(Args),
    /// Tell how the appliance is (`pinnace status`)
    Status(Args),
    /// Print what kernel, init and engine said (`pinnace logs`)
    Logs(Args),
    /// Follow the guest's console (`pinnace console`)
    Console(Args),
}

/// What `pinnace` gets.
#[derive(clap::Args)]
struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(Door::parse().task) {
        Ok(code) => code,
        Err(error) => {
            say::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match task {
        Task::Test(options) => done(task_test::run(&workspace, &options)),
        Task::Bench(options) => done(task_bench::run(&workspace, &options)),
        Task::Ci => done(task_ci::run(&workspace)),
        Task::Tidy { all } => done(task_tidy::run(&workspace, all)),
        Task::Arrows => done(task_arrows::run(&workspace)),
        Task::Deny => done(task_deny::run(&workspace)),
        Task::Fuzz(options) => done(task_fuzz::run(&workspace, &options)),
        Task::CheckHosts => done(task_check_hosts::run(&workspace)),
        Task::Coverage => done(generated::write(&workspace)),
        Task::Build => done(task_build::run(&workspace)),
        Task::Image => done(task_image::run(&workspace)),
        Task::Up(up) => task_up::run(&workspace, &up.args),
        Task::Down(down) => task_verb::run(&workspace, "down", &down.args),
        Task::Status(status) => task_verb::run(&workspace, "status", &status.args),
        Task::Logs(logs) => task_verb::run(&workspace, "logs", &logs.args),
        Task::Console(console) => task_verb::run(&workspace, "console", &console.args),
    }
}

fn done(result: Result<()>) -> Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}
