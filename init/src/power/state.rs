//! Going down, as a pure state machine.
//!
//! ```text
//!         request, engine lives                Stopped | engine died | deadline
//!   Up ───────────────────────────► Stopping ───────────────────────────────────► Down
//!    └───────────── request, no engine ─────────────────────────────────────────────▲
//! ```
//!
//! The first request decides between power off and reboot; later ones change nothing, so that pressing the
//! button again while containers stop does no harm.

use std::time::{Duration, Instant};

/// How long the engine has to stop the containers: Docker's default stop time-out is 10 s for one container, and
/// they are stopped side by side.
pub const GRACE: Duration = Duration::from_secs(30);

/// What comes in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Switch off.
    PowerOff,
    /// Start again.
    Reboot,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Nobody asked.
    Up,
    /// The engine was told and has until then.
    Stopping {
        /// What comes in the end.
        action: Action,
        /// When it comes in any case.
        until: Instant,
    },
    /// Now.
    Down(Action),
}

impl Power {
    /// Somebody asks. Returns whether the engine is to be told now.
    pub fn request(&mut self, action: Action, engine_lives: bool, now: Instant) -> bool {
        if *self != Power::Up {
            return false;
        }
        *self =
            if engine_lives { Power::Stopping { action, until: now + GRACE } } else { Power::Down(action) };
        engine_lives
    }

    /// The engine said `Stopped`, or died: either way there is nobody to wait for.
    pub fn engine_done(&mut self) {
        if let Power::Stopping { action, .. } = *self {
            *self = Power::Down(action);
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now: Instant) {
        if self.deadline().is_some_and(|until| now >= until) {
            self.engine_done();
        }
    }

    /// When [`Power::tick`] changes something.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Power::Stopping { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// Whether a dead engine is to be started again.
    pub fn wants_engine(&self) -> bool {
        *self == Power::Up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_told_once_and_waited_for() {
        let now = Instant::now();
        let mut power = Power::Up;
        assert!(power.request(Action::PowerOff, true, now));
        assert!(!power.request(Action::Reboot, true, now), "the first request decides");
        assert!(!power.wants_engine());
        power.tick(now + GRACE - Duration::from_millis(1));
        assert_eq!(power, Power::Stopping { action: Action::PowerOff, until: now + GRACE });
        power.engine_done();
        assert_eq!(power, Power::Down(Action::PowerOff));
    }

    #[test]
    fn a_silent_engine_is_not_waited_for_longer_than_its_time() {
        let now = Instant::now();
        let mut power = Power::Up;
        power.request(Action::Reboot, true, now);
        power.tick(now + GRACE);
        assert_eq!(power, Power::Down(Action::Reboot));
    }

    #[test]
    fn without_an_engine_it_goes_down_at_once() {
        let mut power = Power::Up;
        power.engine_done();
        assert_eq!(power, Power::Up, "a dead engine alone does not power off");
        assert!(!power.request(Action::PowerOff, false, Instant::now()));
        assert_eq!(power, Power::Down(Action::PowerOff));
    }
}
