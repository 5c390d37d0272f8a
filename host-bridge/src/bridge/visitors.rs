//! The bridge's own socket: `status`, `down` and `console` of this host's owner.
//!
//! A connection is one word in a line. `status` is answered with the [`State`] as one line of JSON; `down SECONDS` with
//! silence until all is over, when the connection ends, after a line with what was not in order; `console` with everything
//! the console says from then on;
//! `upgrade-engine BYTES` with `go`, upon which the bytes are passed to the guest's PID 1 and its answer is passed back.

use super::line::{self, Line, LineError};
use super::{Shared, Stop};
use crate::state::{Guest, State};
use crate::stream::{Listener, Stream};
use contract::line::{Answer, Request, Status};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::broadcast::error::RecvError;

/// Longest line of a request, in bytes.
const LINE_MAX: u64 = 64;
/// The guest is asked for its status no longer than this.
const GUEST_DEADLINE: Duration = Duration::from_secs(2);

/// Takes connections until the task is dropped.
pub async fn serve(listener: Listener, shared: Arc<Shared>) {
    let take = |stream| {
        let shared = shared.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(stream, &shared).await {
                tracing::debug!("a visitor left: {error}");
            }
        });
    };
    listener.serve("visitors", take).await;
}

async fn answer(mut stream: Stream, shared: &Shared) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new((&mut stream).take(LINE_MAX)).read_line(&mut line).await?;
    let mut words = line.split_ascii_whitespace();
    match (words.next(), words.next()) {
        (Some("status"), None) => {
            let mut text = serde_json::to_vec(&status(shared).await)?;
            text.push(b'\n');
            stream.write_all(&text).await
        }
        (Some("down"), Some(seconds)) => {
            let seconds = seconds.parse().map_err(io::Error::other)?;
            // Until the word is written the bridge does not go.
            let mut waiter = shared.waiter();
            shared.stop(Stop { grace: Duration::from_secs(seconds) });
            match waiter.over().await.complaint {
                Some(complaint) => stream.write_all(format!("{complaint}\n").as_bytes()).await,
                None => Ok(()),
            }
        }
        (Some("console"), None) => console(stream, shared).await,
        (Some("upgrade-engine"), Some(bytes)) => {
            let bytes = bytes.parse().map_err(io::Error::other)?;
            let answer = match upgrade_engine(&mut stream, shared, bytes).await {
                Ok(answer) => answer,
                Err(error) => Answer::Refused { text: crate::one_line(&error) },
            };
            stream.write_all(answer.encode(None).as_bytes()).await
        }
        _ => Ok(()),
    }
}

async fn upgrade_engine(stream: &mut Stream, shared: &Shared, bytes: u64) -> Result<Answer, LineError> {
    let Some(link) = shared.link() else { return Err(LineError::Mute) };
    stream.write_all(b"go\n").await?;
    line::send_engine(&*link, bytes, &mut stream.take(bytes)).await
}

async fn status(shared: &Shared) -> State {
    let mut state = shared.state();
    // Before its first answer a guest is asked nothing.
    if let (Some(_), Some(line)) = (shared.link(), shared.line()) {
        state.guest = guest(&line).await;
    }
    state
}

async fn guest(line: &Line) -> Option<Guest> {
    let asked = tokio::time::timeout(GUEST_DEADLINE, line.ask(Request::Status)).await;
    let Ok(Ok(Answer::Status(status))) = asked else { return None };
    let Status { version, engine_pid, engine_starts, boot_millis, engine, read_only } = status;
    let engine = engine.word().to_owned();
    Some(Guest { version, engine_pid, engine_starts, boot_millis, engine, read_only })
}

/// A follower that is too slow misses the middle, not the end.
async fn console(mut stream: Stream, shared: &Shared) -> io::Result<()> {
    let mut said = shared.consoles.main.follow();
    let mut waiter = shared.waiter();
    loop {
        tokio::select! {
            chunk = said.recv() => match chunk {
                Ok(chunk) => stream.write_all(&chunk).await?,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
            _ = waiter.over() => return Ok(()),
        }
    }
}
