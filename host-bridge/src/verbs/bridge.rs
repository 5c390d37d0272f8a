//! `pinnace bridge` (hidden): the process beside an appliance. Its order comes on stdin, what `up` shall hear goes to
//! stdout as lines of JSON; its log is bridge.log.

use super::{VerbError, system};
use crate::bridge::{self, Event};
use crate::host;
use crate::log::BoundedLog;
use crate::order::Order;
use crate::place::Place;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use tracing_subscriber::filter::LevelFilter;

/// Takes the order and runs the appliance to its end.
pub fn run() -> Result<ExitCode, VerbError> {
    let order: Order =
        serde_json::from_reader(io::stdin()).map_err(|error| system("read the order")(error.into()))?;
    host::become_daemon().map_err(system("become a daemon"))?;
    log_to(&Place::at(&order.dir)?)?;
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
    host::keep_to_owner();
    host::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(system("start the runtime"))?;
    let result = runtime.block_on(bridge::run(order, tell));
    runtime.shutdown_timeout(std::time::Duration::from_millis(100));
    Ok(result)
}

/// The bridge's log is the terminal's with `--foreground`.
pub fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_max_level(LevelFilter::INFO)
        .init();
}

/// A bridge lives for months, so its log has an end; a panic is its own last word there.
fn log_to(place: &Place) -> Result<(), VerbError> {
    let path = place.bridge_log();
    let log = BoundedLog::go_on(&path).map_err(|source| VerbError::File { path, source })?;
    let writer = Mutex::new(log);
    tracing_subscriber::fmt().with_writer(writer).with_ansi(false).with_max_level(LevelFilter::INFO).init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(())
}

fn tell_up(event: Event) {
    let mut out = io::stdout().lock();
    let line = serde_json::to_string(&event).expect("an event is plain data");
    // An `up` that was interrupted hears nothing more.
    let _ = writeln!(out, "{line}");
    if matches!(event, Event::Ready(_) | Event::Failed { .. }) {
        host::close_stdout();
    }
}
