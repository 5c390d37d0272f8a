//! The control lines to `init`, and the guest's clock, which only the host knows rightly.

use crate::backend::{Link, Port};
use contract::control::{Answer, LINE_MAX, Request};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};

/// A guest that does not answer a control line within this is not asked further.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How often the host's clock is looked at.
const CLOCK_TICK: Duration = Duration::from_secs(2);
/// How often the guest is told, jump or not: a guest's clock drifts, and under load a translated one more.
const CLOCK_REFRESH: Duration = Duration::from_secs(60);
/// A wall clock that moved so much against the time that passed has jumped: the host slept, or was set.
const JUMP: Duration = Duration::from_millis(250);

/// Asks the guest one thing.
pub async fn ask(link: &dyn Link, request: Request) -> io::Result<Answer> {
    tokio::time::timeout(ANSWER_DEADLINE, send(link, request, &mut tokio::io::empty())).await?
}

/// Asks the guest one thing, with `bytes` behind the line.
pub async fn send(
    link: &dyn Link,
    request: Request,
    bytes: &mut (impl AsyncRead + Unpin),
) -> io::Result<Answer> {
    let mut stream = link.dial(Port::Control).await?;
    // What time it is is only known once the line is about to go.
    let request = match request {
        Request::Clock(_) => Request::Clock(now_nanos()),
        other => other,
    };
    stream.write_all(request.encode().as_bytes()).await?;
    // A guest that does not want them answers before their end.
    let copied = tokio::io::copy(bytes, &mut stream).await;
    // So that it does not wait for bytes whose sender is gone.
    stream.shutdown().await?;
    let mut line = String::new();
    BufReader::new((&mut stream).take(LINE_MAX as u64)).read_line(&mut line).await?;
    if line.is_empty() {
        copied?;
    }
    Answer::decode(&line).ok_or_else(|| io::Error::other(format!("the guest answered {line:?}")))
}

/// Tells the guest the time: now, when the host's clock jumps, and now and then. Never ends.
pub async fn keep_clock(link: Arc<dyn Link>) {
    let mut told = tell_clock(&*link).await;
    let mut watch = ClockWatch::begin(Instant::now(), now_nanos());
    loop {
        tokio::time::sleep(CLOCK_TICK).await;
        let jumped = watch.jumped(Instant::now(), now_nanos());
        if jumped || !told || watch.since_told() >= CLOCK_REFRESH {
            told = tell_clock(&*link).await;
            watch = ClockWatch::begin(Instant::now(), now_nanos());
        }
    }
}

async fn tell_clock(link: &dyn Link) -> bool {
    match ask(link, Request::Clock(0)).await {
        Ok(Answer::Ok) => true,
        Ok(answer) => {
            tracing::warn!("the guest did not take the time: {}", answer.encode().trim_end());
            false
        }
        Err(error) => {
            tracing::warn!("the guest cannot be told the time: {error}");
            false
        }
    }
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

/// Nanoseconds since 1970 UTC; they fit into 64 bits until 2554.
fn now_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
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
