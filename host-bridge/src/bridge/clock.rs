//! The guest's clock, which only the host knows rightly.

use super::line::{Line, now_nanos};
use contract::line::{Answer, Request};
use std::time::{Duration, Instant};

/// How often the host's clock is looked at.
const CLOCK_TICK: Duration = Duration::from_secs(2);
/// How often the guest is told, jump or not: a guest's clock drifts, and under load a translated one more.
const CLOCK_REFRESH: Duration = Duration::from_secs(60);
/// A wall clock that moved so much against the time that passed has jumped: the host slept, or was set.
const JUMP: Duration = Duration::from_millis(250);
/// A guest that took longer to answer was perhaps told a time that had passed.
const PROMPT: Duration = Duration::from_millis(100);
/// So often in a row it is told again for that.
const TELLS: u32 = 3;
/// A guest's clock that was off by more is worth a line in the log.
const NOTABLE: i64 = 1_000_000_000;

/// Tells the guest the time when the host's clock jumps, and now and then. It was told when it was welcomed. Never ends.
pub async fn keep(line: &Line) {
    let (mut told, mut watch) = (true, ClockWatch::begin(Instant::now(), now_nanos()));
    loop {
        tokio::time::sleep(CLOCK_TICK).await;
        let jumped = watch.jumped(Instant::now(), now_nanos());
        if jumped || !told || watch.since_told() >= CLOCK_REFRESH {
            told = tell(line).await;
            watch = ClockWatch::begin(Instant::now(), now_nanos());
        }
    }
}

/// Whether the guest took it.
async fn tell(line: &Line) -> bool {
    for _ in 0..TELLS {
        let asked = Instant::now();
        match line.ask(Request::Clock { nanos: 0 }).await {
            Ok(Answer::Offset { nanos }) => {
                if nanos.saturating_abs() > NOTABLE {
                    tracing::info!("the guest's clock was off by {} ms", nanos / 1_000_000);
                }
            }
            Ok(Answer::Done) => {}
            Ok(other) => {
                tracing::warn!("the guest cannot be told the time: {other:?}");
                return false;
            }
            Err(error) => {
                tracing::warn!("the guest cannot be told the time: {error}");
                return false;
            }
        }
        if asked.elapsed() <= PROMPT {
            break;
        }
    }
    true
}

/// Compares the wall clock with the time that passed. `Instant` stands still while a Linux host sleeps
/// (CLOCK_MONOTONIC, clock_gettime(2)), so a sleep shows as a jump of the wall clock.
struct ClockWatch {
    begun: Instant,
    seen: (Instant, u64),
}

impl ClockWatch {
    fn begin(now: Instant, wall_nanos: u64) -> ClockWatch {
        ClockWatch { begun: now, seen: (now, wall_nanos) }
    }

    fn jumped(&mut self, now: Instant, wall_nanos: u64) -> bool {
        let passed = now.duration_since(self.seen.0);
        let expected = Duration::from_nanos(self.seen.1) + passed;
        self.seen = (now, wall_nanos);
        expected.abs_diff(Duration::from_nanos(wall_nanos)) > JUMP
    }

    fn since_told(&self) -> Duration {
        self.seen.0.duration_since(self.begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_and_a_set_clock_are_jumps_and_time_is_not() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let wall = 1_000_000_000_000_u64;
        let mut watch = ClockWatch::begin(start, wall);
        assert!(!watch.jumped(start + second, wall + 1_000_000_000));
        assert!(watch.jumped(start + 2 * second, wall + 60_000_000_000));
        assert!(!watch.jumped(start + 3 * second, wall + 61_000_000_000));
        assert!(watch.jumped(start + 4 * second, wall));
        assert_eq!(watch.since_told(), 4 * second);
    }
}
