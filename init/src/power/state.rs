//! Going down, as a pure state machine.
//!
//! ```text
//!         request, engine lives                Stopped | engine died | deadline
//!   Up ───────────────────────────► Stopping ───────────────────────────────────► Down
//!    │                               │    ▲
//!    │                               └────┘ request: sooner, never later
//!    └───────────── request, no engine ─────────────────────────────────────────────▲
//! ```

use std::time::{Duration, Instant};

/// How long the whole may take where nobody says: Docker's default stop time-out is 10 s for one container, and they are
/// stopped side by side.
pub const GRACE: Duration = Duration::from_secs(30);

/// Whoever presses the button or sends a signal once more does not want to wait any longer.
pub const AGAIN: Duration = Duration::from_secs(5);

/// Of the time that is left, so much is for killing what did not stop and for writing down how it ended; but never more
/// than a quarter.
const MARGIN: Duration = Duration::from_secs(2);

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
    /// Somebody asks that it be done `within` that time. Returns until when the engine is to be told to have stopped the
    /// containers, if it is to be told anything.
    pub fn request(
        &mut self,
        action: Action,
        within: Duration,
        engine_lives: bool,
        now: Instant,
    ) -> Option<Instant> {
        // Nobody asks for more than a lifetime; a sum that overflows would be a panic.
        let within = within.min(Duration::from_secs(u32::MAX.into()));
        let wanted = now + within;
        let containers = wanted - MARGIN.min(within / 4);
        match *self {
            Power::Up if engine_lives => *self = Power::Stopping { action, until: wanted },
            Power::Up => {
                *self = Power::Down(action);
                return None;
            }
            Power::Stopping { action: before, until } => {
                *self = Power::Stopping { action: louder(before, action), until: until.min(wanted) };
                return (wanted < until).then_some(containers);
            }
            Power::Down(before) => {
                *self = Power::Down(louder(before, action));
                return None;
            }
        }
        Some(containers)
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

/// Whoever wants the power off does not want it on again.
fn louder(one: Action, other: Action) -> Action {
    if one == other { one } else { Action::PowerOff }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_engine_is_told_and_waited_for() {
        let now = Instant::now();
        let mut power = Power::Up;
        assert_eq!(power.request(Action::PowerOff, GRACE, true, now), Some(now + GRACE - MARGIN));
        assert!(!power.wants_engine());
        power.tick(now + GRACE - Duration::from_millis(1));
        assert_eq!(power, Power::Stopping { action: Action::PowerOff, until: now + GRACE });
        power.engine_done();
        assert_eq!(power, Power::Down(Action::PowerOff));
    }

    #[test]
    fn a_second_request_comes_sooner_and_never_later() {
        let now = Instant::now();
        let mut power = Power::Up;
        power.request(Action::Reboot, 120 * SECOND, true, now);
        assert_eq!(power.request(Action::Reboot, 300 * SECOND, true, now), None);
        assert_eq!(power.deadline(), Some(now + 120 * SECOND));
        let told = power.request(Action::PowerOff, SECOND, true, now + SECOND);
        assert_eq!(told, Some(now + 2 * SECOND - SECOND / 4), "a quarter of a short time");
        assert_eq!(power, Power::Stopping { action: Action::PowerOff, until: now + 2 * SECOND });
        power.tick(now + 2 * SECOND);
        assert_eq!(power, Power::Down(Action::PowerOff));
        assert_eq!(power.request(Action::Reboot, SECOND, true, now + 3 * SECOND), None);
        assert_eq!(power, Power::Down(Action::PowerOff), "power off goes before a restart");
    }

    #[test]
    fn any_time_may_be_named() {
        let now = Instant::now();
        for within in [Duration::ZERO, Duration::MAX] {
            let mut power = Power::Up;
            assert!(power.request(Action::PowerOff, within, true, now).is_some());
        }
    }

    #[test]
    fn without_an_engine_it_goes_down_at_once() {
        let mut power = Power::Up;
        power.engine_done();
        assert_eq!(power, Power::Up, "a dead engine alone does not power off");
        assert_eq!(power.request(Action::PowerOff, GRACE, false, Instant::now()), None);
        assert_eq!(power, Power::Down(Action::PowerOff));
    }
}
