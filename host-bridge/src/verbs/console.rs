//! `pinnace console`: the guest's console, live.

use super::{VerbError, place, visit};
use crate::{Which, say};
use std::io::Read;

/// Prints what the console says until the appliance ends.
pub fn run(which: &Which) -> Result<(), VerbError> {
    let place = place(which)?;
    if !place.has_bridge()? {
        return Err(VerbError::NotRunning);
    }
    let mute = |source| VerbError::BridgeMute { dir: place.dir().to_owned(), source };
    let mut stream = visit::say(&place, "console").map_err(mute)?;
    let mut chunk = vec![0; 16 << 10];
    loop {
        match stream.read(&mut chunk).map_err(mute)? {
            0 => return Ok(()),
            read if !say::bytes(&chunk[..read]) => return Ok(()),
            _ => {}
        }
    }
}
