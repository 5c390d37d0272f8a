//! Restart policies: whether and when a run that ended is followed by another. Pure, so that it is tested by table.
//!
//! ```text
//!            exit, policy says so            delay over
//!   Running ──────────────────────► Restarting ────────► Running
//!                                       │ stop, kill, rm --force
//!                                       ▼
//!                                     Exited
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When the engine starts a container again by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Whenever it ends; after a boot even where it was stopped by hand.
    Always,
    /// Whenever it ends, unless it was stopped by hand.
    UnlessStopped,
    /// When its exit code is not 0, at most so many times; 0 is without limit.
    OnFailure(u32),
}

impl RestartPolicy {
    /// Reads Docker's two fields.
    ///
    /// # Errors
    /// Docker's text about them.
    pub fn read(name: &str, retries: i64) -> Result<RestartPolicy, String> {
        let plain = match name {
            // Clients older than 1.44 leave the name empty and mean it.
            "" => return Ok(RestartPolicy::No),
            "no" => RestartPolicy::No,
            "always" => RestartPolicy::Always,
            "unless-stopped" => RestartPolicy::UnlessStopped,
            "on-failure" if retries < 0 => {
                return Err("invalid restart policy: maximum retry count cannot be negative".to_owned());
            }
            "on-failure" => return Ok(RestartPolicy::OnFailure(u32::try_from(retries).unwrap_or(u32::MAX))),
            _ => {
                let known = "use one of 'no', 'always', 'on-failure', or 'unless-stopped'";
                return Err(format!("invalid restart policy: unknown policy '{name}'; {known}"));
            }
        };
        let only = "invalid restart policy: maximum retry count can only be used with 'on-failure'";
        match retries {
            0 => Ok(plain),
            1.. => Err(only.to_owned()),
            _ => Err(format!("{only} and cannot be negative")),
        }
    }

    /// Docker's name.
    pub fn name(self) -> &'static str {
        match self {
            RestartPolicy::No => "no",
            RestartPolicy::Always => "always",
            RestartPolicy::UnlessStopped => "unless-stopped",
            RestartPolicy::OnFailure(_) => "on-failure",
        }
    }

    /// Docker's `MaximumRetryCount`.
    pub fn retries(self) -> u32 {
        match self {
            RestartPolicy::OnFailure(retries) => retries,
            _ => 0,
        }
    }

    /// Whether a container that stands still is started when the machine boots.
    pub(super) fn at_boot(self, history: &Restarts, exit_code: i32) -> bool {
        match self {
            RestartPolicy::No => false,
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => !history.by_hand,
            RestartPolicy::OnFailure(_) => !history.by_hand && self.wants(history, exit_code),
        }
    }

    fn wants(self, history: &Restarts, exit_code: i32) -> bool {
        match self {
            RestartPolicy::No => false,
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => !history.by_hand,
            RestartPolicy::OnFailure(most) => exit_code != 0 && (most == 0 || history.count < most),
        }
    }
}

/// What the policy did so far; begins anew with each start by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restarts {
    /// How often the policy started the container again.
    pub count: u32,
    /// A signal was sent to it by hand.
    pub by_hand: bool,
    /// That signal means that it shall end: the policy rests until the next start.
    pub cancelled: bool,
    /// The delay before the newest restart.
    delay_millis: u64,
}

const FIRST: u64 = 100;
const LONGEST: u64 = 60_000;
/// A run this long shows that the program works.
const GOOD_RUN: Duration = Duration::from_secs(10);

impl Restarts {
    /// A run ended: the delay before the next one, if there shall be one. Counts it.
    pub(super) fn after_run(
        &mut self,
        policy: RestartPolicy,
        exit_code: i32,
        ran: Duration,
    ) -> Option<Duration> {
        if self.cancelled || !policy.wants(self, exit_code) {
            return None;
        }
        self.count += 1;
        self.delay_millis = match self.delay_millis {
            _ if ran >= GOOD_RUN => FIRST,
            0 => FIRST,
            delay => (delay * 2).min(LONGEST),
        };
        Some(self.delay())
    }

    /// The delay before the newest restart.
    pub(super) fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_with_dockers_words() {
        let check = |name: &str, retries: i64, expected: Result<RestartPolicy, &str>| {
            let got = RestartPolicy::read(name, retries);
            match expected {
                Ok(policy) => assert_eq!(got, Ok(policy)),
                Err(text) => assert!(got.unwrap_err().contains(text), "{name} {retries}"),
            }
        };
        check("", 3, Ok(RestartPolicy::No));
        check("no", 0, Ok(RestartPolicy::No));
        check("always", 0, Ok(RestartPolicy::Always));
        check("on-failure", 0, Ok(RestartPolicy::OnFailure(0)));
        check("on-failure", 5, Ok(RestartPolicy::OnFailure(5)));
        check("on-failure", -1, Err("maximum retry count cannot be negative"));
        check("unless-stopped", 1, Err("maximum retry count can only be used with 'on-failure'"));
        check("always", -1, Err("with 'on-failure' and cannot be negative"));
        check("something", 0, Err("unknown policy 'something'; use one of 'no'"));
    }

    #[test]
    fn the_delay_doubles_to_a_minute_and_a_good_run_resets_it() {
        let mut history = Restarts::default();
        let mut next = |seconds: u64| {
            let delay = history.after_run(RestartPolicy::Always, 0, Duration::from_secs(seconds));
            delay.unwrap().as_millis()
        };
        let delays: Vec<_> = (0..12).map(|_| next(0)).collect();
        assert_eq!(delays[..4], [100, 200, 400, 800]);
        assert_eq!(delays[8..], [25_600, 51_200, 60_000, 60_000]);
        assert_eq!((next(10), next(1)), (100, 200));
    }

    #[test]
    fn policies_decide() {
        let check = |policy: RestartPolicy,
                     history: &Restarts,
                     exit_code: i32,
                     (now, at_boot): (bool, bool)| {
            let again = history.clone().after_run(policy, exit_code, Duration::ZERO).is_some();
            assert_eq!((again, policy.at_boot(history, exit_code)), (now, at_boot), "{policy:?} {history:?}");
        };
        let fresh = Restarts::default();
        let stopped = Restarts { by_hand: true, cancelled: true, ..Restarts::default() };
        let signalled = Restarts { by_hand: true, ..Restarts::default() };
        let twice = Restarts { count: 2, ..Restarts::default() };
        check(RestartPolicy::No, &fresh, 1, (false, false));
        check(RestartPolicy::Always, &fresh, 0, (true, true));
        check(RestartPolicy::Always, &stopped, 0, (false, true));
        check(RestartPolicy::Always, &signalled, 0, (true, true));
        check(RestartPolicy::UnlessStopped, &fresh, 0, (true, true));
        check(RestartPolicy::UnlessStopped, &stopped, 0, (false, false));
        check(RestartPolicy::UnlessStopped, &signalled, 0, (false, false));
        check(RestartPolicy::OnFailure(0), &fresh, 0, (false, false));
        check(RestartPolicy::OnFailure(0), &twice, 1, (true, true));
        check(RestartPolicy::OnFailure(2), &twice, 1, (false, false));
        check(RestartPolicy::OnFailure(3), &twice, 1, (true, true));
        check(RestartPolicy::OnFailure(3), &stopped, 137, (false, false));
    }
}
