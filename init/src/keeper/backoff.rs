//! How long to wait before a program that died is started again. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
/// Clients wait for it, and an engine that cannot live costs little at this pace.
const LONGEST: Duration = Duration::from_secs(1);

/// A life of this length shows that the program works; what comes after it is a new trouble.
const HEALTHY: Duration = Duration::from_secs(10);

/// See the module: at once, then 100 ms, doubled each time up to 1 s, forgotten after 10 s of life.
#[derive(Debug, Default)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The program died after `lived`; returns how long to wait.
    pub fn died(&mut self, lived: Duration) -> Duration {
        if lived >= HEALTHY {
            self.next = Duration::ZERO;
        }
        let wait = self.next;
        self.next = (wait * 2).clamp(FIRST, LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lives: &[u64], waits: &[u64]) {
        let mut backoff = Backoff::default();
        let got: Vec<_> =
            lives.iter().map(|s| backoff.died(Duration::from_secs(*s)).as_millis() as u64).collect();
        assert_eq!(got, waits, "{lives:?}");
    }

    #[test]
    fn waits_double_and_a_long_life_forgets() {
        check(&[0, 0, 0, 0], &[0, 100, 200, 400]);
        check(&[1; 7], &[0, 100, 200, 400, 800, 1000, 1000]);
        check(&[1, 1, 1, 10, 1], &[0, 100, 200, 0, 100]);
    }
}
