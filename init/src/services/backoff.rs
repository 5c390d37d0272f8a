//! How long to wait before a program that died is started again. Pure.

use std::time::Duration;

/// The restart rule of a service: at once, then after `first`, doubled each time up to `longest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The first wait that is one.
    pub first: Duration,
    /// No wait is longer.
    pub longest: Duration,
    /// A life of this length shows that the program works; what comes after it is a new trouble.
    pub healthy: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The program died after `lived`; returns how long to wait.
    pub fn died(&mut self, pace: Pace, lived: Duration) -> Duration {
        if lived >= pace.healthy {
            self.next = Duration::ZERO;
        }
        let wait = self.next;
        self.next = (wait * 2).clamp(pace.first, pace.longest);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        first: Duration::from_millis(100),
        longest: Duration::from_secs(1),
        healthy: Duration::from_secs(10),
    };

    fn check(lives: &[u64], waits: &[u64]) {
        let mut backoff = Backoff::default();
        let got: Vec<_> =
            lives.iter().map(|s| backoff.died(PACE, Duration::from_secs(*s)).as_millis() as u64).collect();
        assert_eq!(got, waits, "{lives:?}");
    }

    #[test]
    fn waits_double_and_a_long_life_forgets() {
        check(&[0, 0, 0, 0], &[0, 100, 200, 400]);
        check(&[1; 7], &[0, 100, 200, 400, 800, 1000, 1000]);
        check(&[1, 1, 1, 10, 1], &[0, 100, 200, 0, 100]);
    }
}
