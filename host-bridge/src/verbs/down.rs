//! `pinnace down`: power off, and leave nothing but the data.

use super::{VerbError, context, place, visit};
use crate::backend;
use crate::place::Place;
use crate::state::State;
use crate::{Which, say};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a bridge needs besides the guest's own time: the louder words and its own end.
const MARGIN: Duration = Duration::from_secs(15);
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
    if place.has_bridge()? {
        let mut progress = say::Progress::begin("powering off");
        end(&place, Duration::from_secs(options.timeout))?;
        progress.end();
    } else {
        say::note(&format!("{} is not running", options.which.name));
        clean(&place)?;
    }
    if options.purge {
        purge(&place)?;
        context::forget(&options.which.name);
    }
    Ok(())
}

/// Asks the bridge; one that does not end in time is ended.
fn end(place: &Place, grace: Duration) -> Result<(), VerbError> {
    let known = State::load(place).map(|state| state.pid);
    if let Ok(mut stream) = visit::say(place, &format!("down {}", grace.as_secs())) {
        // The connection ends with the appliance; a timeout shows below.
        let _ = stream.set_read_timeout(Some(grace + MARGIN));
        let _ = stream.read(&mut [0; 1]);
    }
    if ended_within(place, known, KILL_DEADLINE)? {
        return Ok(());
    }
    let Some(pid) = known else { return Ok(()) };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // It may have ended in this moment.
        let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)), signal);
        if ended_within(place, known, KILL_DEADLINE)? {
            return clean(place);
        }
    }
    Err(VerbError::Stuck { pid })
}

/// Whether the bridge that was `known` ends; another `up` may have begun one of its own by then.
fn ended_within(place: &Place, known: Option<u32>, limit: Duration) -> Result<bool, VerbError> {
    let begun = Instant::now();
    while place.has_bridge()? && State::load(place).map(|state| state.pid) == known {
        if begun.elapsed() > limit {
            return Ok(false);
        }
        std::thread::sleep(TICK);
    }
    Ok(true)
}

/// Removes what a bridge that was killed left behind.
fn clean(place: &Place) -> Result<(), VerbError> {
    if place.dir().exists() {
        backend::sweep(place);
        place.clear_sockets()?;
    }
    Ok(())
}

/// Only what we made, so that a folder that was named by mistake keeps what else is in it.
fn purge(place: &Place) -> Result<(), VerbError> {
    let names = [
        "data.img",
        "state.json",
        "bridge.log",
        "bridge.lock",
        "console.log",
        "console.log.1",
        "serial.log",
        "serial.log.1",
        "up.lock",
    ];
    for path in names.iter().map(|name| place.dir().join(name)) {
        remove(&path, std::fs::remove_file(&path))?;
    }
    for path in backend::qemu::unpacked::files(place) {
        remove(&path, std::fs::remove_file(&path))?;
    }
    for path in backend::namespace::folders(place) {
        remove(&path, std::fs::remove_dir_all(&path))?;
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
