//! Where the time of a start goes, for the log at level debug.

use std::fmt::Write;
use std::time::Instant;

/// Names and lengths of what was done one after the other.
pub(super) struct Steps {
    begun: Instant,
    text: String,
}

impl Steps {
    /// Nothing is done yet.
    pub fn begin() -> Steps {
        Steps { begun: Instant::now(), text: String::new() }
    }

    /// What was done since the last one.
    pub fn done(&mut self, what: &str) {
        let now = Instant::now();
        let micros = now.duration_since(self.begun).as_micros();
        let _ = write!(self.text, " {what}={micros}");
        self.begun = now;
    }

    /// Tells them, in microseconds.
    pub fn tell(&self, id: &str) {
        tracing::debug!(container = id, "start, in microseconds:{}", self.text);
    }
}
