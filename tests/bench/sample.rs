//! Durations measured again and again.

use std::time::{Duration, Instant};

/// Durations of one thing.
#[derive(Default, Clone)]
pub struct Sample(Vec<Duration>);

impl Sample {
    /// Measures `what` so many times, and adds it.
    pub fn measure(&mut self, times: usize, mut what: impl FnMut()) {
        for _ in 0..times {
            let start = Instant::now();
            what();
            self.0.push(start.elapsed());
        }
    }

    /// Adds one that was measured elsewhere.
    pub fn push(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// All of them, in nanoseconds.
    pub fn nanos(&self) -> impl Iterator<Item = u128> {
        self.0.iter().map(Duration::as_nanos)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Half are shorter.
    pub fn median(&self) -> Duration {
        self.quantile(0.5)
    }

    /// All together.
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }

    /// Adds all of another.
    pub fn extend(&mut self, other: Sample) {
        self.0.extend(other.0);
    }

    /// 99 of 100 are shorter.
    pub fn p99(&self) -> Duration {
        self.quantile(0.99)
    }

    fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let at = (share * (sorted.len() - 1) as f64).round() as usize;
        sorted[at]
    }

    /// `3.21 ms (p99 5.0, 200 times)`
    pub fn tell(&self) -> String {
        let (median, p99) = (millis(self.median()), millis(self.p99()));
        format!("{median:.2} ms (p99 {p99:.1}, {} times)", self.count())
    }
}

/// Milliseconds.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
