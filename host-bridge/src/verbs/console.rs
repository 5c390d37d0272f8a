//! `pinnace console`: the guest's console, live.

use super::{VerbError, place, visit};
use crate::{Which, say};

/// Prints what the console says until the appliance ends.
pub fn run(which: &Which) -> Result<(), VerbError> {
    let place = place(which)?;
    if !place.has_bridge()? {
        return Err(VerbError::NotRunning);
    }
    visit::follow(&place, "console", say::bytes)
}
