//! The way down, louder step by step: the control line, the power button, the end of the machine.
//!
//! ```text
//!   wish ──► told on the line ──► heard ────────────────────────► it ends by itself
//!                    │              a second wish: told again,          │
//!                    ▼              with less time                      ▼ not within its time and MARGIN
//!              power button ──────────────────────────────────────► killed
//! ```

use super::line::{Line, LineError};
use super::shared::Stop;
use crate::backend::{Ended, Machine};
use contract::line::{Answer, Request};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

/// When the time for its containers is over, a guest ends what still runs (it gives that up to seven seconds), writes all
/// that is in memory to the disk and unmounts it.
pub const MARGIN: Duration = Duration::from_secs(15);

/// The guest was ended from outside: to its disk that is a power cut.
#[derive(Debug, thiserror::Error)]
#[error("the guest did not power off within {} s and was killed", waited.as_secs())]
pub struct Killed {
    waited: Duration,
}

/// Ends a machine; where it is not told how it ended, whoever asked destroys it. A guest that was not welcomed yet has
/// started nothing, so nothing is lost with it.
pub async fn run(
    machine: &mut dyn Machine,
    line: &Line,
    first: Stop,
    wishes: &mut UnboundedReceiver<Stop>,
) -> Result<Option<Ended>, Killed> {
    if !line.was_welcomed() {
        tracing::info!("the guest had not booted yet: ending it");
        return Ok(None);
    }
    let begun = Instant::now();
    let mut deadline = begun + first.grace + MARGIN;
    let mut telling = Box::pin(tell(line, first));
    let mut told = false;
    loop {
        tokio::select! {
            ended = machine.wait() => return Ok(Some(ended)),
            heard = &mut telling, if !told => {
                told = true;
                if let Err(error) = heard {
                    tracing::warn!("{error}: pressing the guest's power button");
                    machine.press_power_button().await;
                }
            }
            Some(stop) = wishes.recv() => {
                let sooner = Instant::now() + stop.grace + MARGIN;
                if sooner < deadline {
                    deadline = sooner;
                    (telling, told) = (Box::pin(tell(line, stop)), false);
                }
            }
            () = tokio::time::sleep_until(deadline) => return Err(Killed { waited: begun.elapsed() }),
        }
    }
}

/// Why a guest did not hear.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error(transparent)]
    Line(#[from] LineError),
    #[error("the guest refuses to power off: {0:?}")]
    Refused(Answer),
}

async fn tell(line: &Line, stop: Stop) -> Result<(), Unheard> {
    let seconds = u32::try_from(stop.grace.as_secs()).unwrap_or(u32::MAX);
    match line.ask(Request::PowerOff { seconds: Some(seconds) }).await? {
        Answer::Done => Ok(()),
        other => Err(Unheard::Refused(other)),
    }
}
