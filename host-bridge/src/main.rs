//! `pinnace`: boots the appliance on this host, forwards its Docker socket, and tells how it is.
//!
//! `up` starts a bridge process of its own ([`bridge`]), which runs a machine ([`backend`]) and outlives the command;
//! the other verbs find it through the appliance's folder ([`place`]). The hidden subcommands are this same program in
//! the roles that need a process of their own.

mod backend;
mod bridge;
mod console;
#[cfg(unix)]
mod guard;
mod host;
mod lock;
mod log;
mod order;
mod place;
mod say;
#[cfg(target_os = "linux")]
mod shares;
mod size;
mod state;
mod stream;
mod verbs;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use verbs::VerbError;

#[derive(Parser)]
#[command(name = "pinnace", version = contract::VERSION, about = "Runs the Pinnace appliance on this host")]
#[command(arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

/// Which appliance is meant.
#[derive(clap::Args, Debug, Clone)]
pub struct Which {
    /// Name of the appliance and of its docker context
    #[arg(long, default_value = "pinnace", value_parser = name)]
    pub name: String,
    /// Folder of everything it has [default: /var/lib/pinnace/NAME for root, else ~/.local/state/pinnace/NAME]
    #[arg(long, env = "PINNACE_DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Boot the appliance in the background, or tell that it runs
    Up(verbs::up::Options),
    /// Power the appliance off
    Down(verbs::down::Options),
    /// Tell how the appliance is
    Status(verbs::status::Options),
    /// Replace the engine of a running appliance; containers run on
    UpgradeEngine(verbs::upgrade_engine::Options),
    /// Print what kernel, init and engine said
    Logs(verbs::logs::Options),
    /// Follow the guest's console as it speaks; nobody logs in there, so it only listens
    Console(Which),
    /// Print the release
    Version,
    /// The process beside an appliance; takes its order as JSON
    #[command(hide = true)]
    Bridge,
    #[command(flatten)]
    Role(host::Role),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            say::error(&one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode, VerbError> {
    let done = |result: Result<(), VerbError>| result.map(|()| ExitCode::SUCCESS);
    match verb {
        Verb::Up(options) => verbs::up::run(&options),
        Verb::Down(options) => done(verbs::down::run(&options)),
        Verb::Status(options) => verbs::status::run(&options),
        Verb::UpgradeEngine(options) => done(verbs::upgrade_engine::run(&options)),
        Verb::Logs(options) => done(verbs::logs::run(&options)),
        Verb::Console(which) => done(verbs::console::run(&which)),
        Verb::Version => {
            say::result(&format!("pinnace {}", contract::VERSION));
            Ok(ExitCode::SUCCESS)
        }
        Verb::Bridge => verbs::bridge::run(),
        Verb::Role(role) => Ok(role.play()),
    }
}

/// An error and what caused it, in one line.
fn one_line(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let mut line = error.to_string();
    for cause in causes.map(ToString::to_string) {
        // A transparent error says the same as its cause.
        if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// A name goes into file names, host names and QEMU's options.
fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match !text.is_empty() && text.len() <= 40 && text.chars().all(fits) && !text.starts_with('-') {
        true => Ok(text.to_owned()),
        false => Err("expected at most 40 of a-z, 0-9 and -".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn names_are_plain() {
        assert!(name("pinnace-2").is_ok());
        for bad in ["", "-x", "a,b", "A", "../x", &"x".repeat(41)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
