//! `pinnace bridge` (hidden): the process beside an appliance. Its order comes on stdin, what `up` shall hear goes to
//! stdout as lines of JSON, and its log is stderr.

use super::{VerbError, system};
use crate::bridge::{self, Event};
use crate::order::Order;
use nix::sys::stat::{Mode, umask};
use std::io::{self, Write};
use std::process::ExitCode;

/// Takes the order and runs the appliance to its end.
pub fn run() -> Result<ExitCode, VerbError> {
    let order =
        serde_json::from_reader(io::stdin()).map_err(|error| system("read the order")(error.into()))?;
    become_daemon().map_err(system("become a daemon"))?;
    log_to_stderr();
    Ok(match supervise(order, tell_up)? {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{}", crate::one_line(&error));
            ExitCode::FAILURE
        }
    })
}

/// Runs an appliance on a runtime of its own. The supervisor stays on this, the main, thread: see [`crate::guard`].
pub fn supervise(
    order: Order,
    tell: impl FnMut(Event),
) -> Result<Result<(), bridge::BridgeError>, VerbError> {
    umask(Mode::from_bits_truncate(0o077));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(system("start the runtime"))?;
    let result = runtime.block_on(bridge::run(order, tell));
    runtime.shutdown_timeout(std::time::Duration::from_millis(100));
    Ok(result)
}

/// The bridge's log, or the terminal's with `--foreground`.
pub fn log_to_stderr() {
    let level = tracing_subscriber::filter::LevelFilter::INFO;
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_max_level(level).init();
}

/// A session of its own, so that the terminal's signals pass it by, and no folder kept busy.
fn become_daemon() -> io::Result<()> {
    nix::unistd::setsid()?;
    nix::unistd::chdir("/")?;
    Ok(())
}

fn tell_up(event: Event) {
    let mut out = io::stdout().lock();
    let line = serde_json::to_string(&event).expect("an event is plain data");
    // An `up` that was interrupted hears nothing more.
    let _ = writeln!(out, "{line}");
    if matches!(event, Event::Ready(_) | Event::Failed { .. }) {
        hush();
    }
}

/// Nobody reads stdout from now on.
fn hush() {
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        // Without it, later lines go into a pipe without a reader, which is no harm either.
        let _ = nix::unistd::dup2_stdout(null);
    }
}
