//! One word to the bridge of an appliance, over its socket.

use super::VerbError;
use crate::place::Place;
use crate::state::State;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A bridge that does not answer within this is stuck.
const DEADLINE: Duration = Duration::from_secs(10);
/// A bridge binds its socket right after it took its lock.
const BOUND_WITHIN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

/// Says a line to the bridge.
pub fn say(place: &Place, line: &str) -> io::Result<UnixStream> {
    let mut stream = connect(place)?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    Ok(stream)
}

fn connect(place: &Place) -> io::Result<UnixStream> {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(place.bridge_socket()) {
            Err(error) if begun.elapsed() < BOUND_WITHIN && is_early(&error) && lives(place) => {
                std::thread::sleep(PAUSE);
            }
            connected => return connected,
        }
    }
}

fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn lives(place: &Place) -> bool {
    place.has_bridge().unwrap_or(false)
}

/// Asks the bridge how the appliance is.
pub fn status(place: &Place) -> Result<State, VerbError> {
    let asked = || {
        let stream = say(place, "status")?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    };
    asked().map_err(|source| VerbError::BridgeMute { dir: place.dir().to_owned(), source })
}
