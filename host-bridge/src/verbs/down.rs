//! `pinnace down`: power off, and leave nothing but the data.
//!
//! A bridge can be told to end at any time, also by somebody who has not the turn: an `up` that waits for its boot has it.
//! What lies in the folder is only removed by whoever has the turn, while no bridge lives: then no `up` can begin one.

use super::{VerbError, context, place, visit};
use crate::lock::{Lock, holder_file};
use crate::place::Place;
use crate::{Which, backend, host, log, say};
use std::path::Path;
use std::time::{Duration, Instant};

/// What a bridge needs besides the guest's own time: what it gives the guest to write all to disk, and its own end.
const MARGIN: Duration = Duration::from_secs(30);
/// After a killing signal.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(20);

/// Options of `pinnace down`.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    which: Which,
    /// Seconds the guest may take to stop its containers and power off
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Also remove the data, the logs and the docker context
    #[arg(long)]
    purge: bool,
}

/// Powers the appliance off, or tells that it does not run.
pub fn run(options: &Options) -> Result<(), VerbError> {
    let place = place(&options.which)?;
    if !place.dir().exists() {
        not_running(options);
    } else if let Some(_turn) = settle(options, &place)? {
        backend::sweep(&place);
        place.clear_sockets()?;
        if options.purge {
            purge(&place)?;
        }
    }
    if options.purge {
        context::forget(&options.which.name, &place.docker_socket());
    }
    Ok(())
}

fn not_running(options: &Options) {
    say::note(&format!("{} is not running", options.which.name));
}

/// Ends the appliance, and one that is about to begin. Returns the turn, unless an `up` that came later has it: without
/// `--purge` that one may have the place.
fn settle(options: &Options, place: &Place) -> Result<Option<Lock>, VerbError> {
    let mut ended = false;
    loop {
        if let Some(bridge) = place.bridge()?.filter(|_| !ended || options.purge) {
            let mut progress = say::Progress::begin("powering off");
            let complaint = end(place, bridge, Duration::from_secs(options.timeout))?;
            progress.end();
            complaint.iter().for_each(|complaint| say::note(complaint));
            ended = true;
        }
        let turn = place.try_turn()?;
        match place.has_bridge()? {
            false if turn.is_some() => {
                if !ended {
                    not_running(options);
                }
                return Ok(turn);
            }
            _ if ended && !options.purge => return Ok(None),
            _ => {}
        }
    }
}

/// Asks the bridge; one that does not end in time is ended. Returns what was not in order.
fn end(place: &Place, bridge: u32, grace: Duration) -> Result<Option<String>, VerbError> {
    // The connection ends with the appliance; one that does not shows below.
    let complaint =
        visit::ask(place, &format!("down {}", grace.as_secs()), grace + MARGIN).unwrap_or_default();
    let mut killed = None;
    for louder in [host::terminate, host::kill_process] {
        if ended_within(place, bridge, KILL_DEADLINE)? {
            let complaint = complaint.trim_end().to_owned();
            return Ok(killed.or(Some(complaint)).filter(|complaint| !complaint.is_empty()));
        }
        louder(bridge);
        killed = Some("the bridge did not end by itself and was ended, and the guest with it".to_owned());
    }
    match ended_within(place, bridge, KILL_DEADLINE)? {
        true => Ok(killed),
        false => Err(VerbError::Stuck { pid: bridge }),
    }
}

/// Whether this bridge ends; another `up` may have begun one of its own by then.
fn ended_within(place: &Place, bridge: u32, limit: Duration) -> Result<bool, VerbError> {
    let begun = Instant::now();
    while place.bridge()? == Some(bridge) {
        if begun.elapsed() > limit {
            return Ok(false);
        }
        std::thread::sleep(TICK);
    }
    Ok(true)
}

/// Only what we made, so that a folder that was named by mistake keeps what else is in it.
fn purge(place: &Place) -> Result<(), VerbError> {
    let logs = [place.bridge_log(), place.console_log(), place.serial_log()];
    let older = logs.each_ref().map(|path| log::older(path));
    let locks = [holder_file(&place.bridge_lock()), place.bridge_lock(), place.turn_lock()];
    for path in [place.disk(), place.state_file()].iter().chain(&logs).chain(&older).chain(&locks) {
        remove(path, std::fs::remove_file(path))?;
    }
    for path in backend::leftovers(place) {
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        remove(&path, removed)?;
    }
    // Somebody else's files keep the folder.
    let _ = std::fs::remove_dir(place.dir());
    Ok(())
}

fn remove(path: &Path, removed: std::io::Result<()>) -> Result<(), VerbError> {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(VerbError::File { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}
