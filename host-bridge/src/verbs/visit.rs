//! One word to the bridge of an appliance, over its socket.

use super::{VerbError, block_on};
use crate::place::Place;
use crate::state::State;
use crate::stream::Stream;
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// A bridge that does not answer within this is stuck.
const DEADLINE: Duration = Duration::from_secs(10);
/// A bridge binds its socket right after it took its lock.
const BOUND_WITHIN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes of what is followed that are passed on at a time.
const CHUNK_BYTES: usize = 16 << 10;

/// Says a line, and returns all that the bridge says until it hangs up.
pub fn ask(place: &Place, line: &str, limit: Duration) -> Result<String, VerbError> {
    visit(place, async {
        let asked = async {
            let mut answer = String::new();
            say(place, line).await?.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        timeout(limit, asked).await?
    })
}

/// Asks the bridge how the appliance is.
pub fn status(place: &Place) -> Result<State, VerbError> {
    let line = ask(place, "status", DEADLINE)?;
    visit(place, async { Ok(serde_json::from_str(&line)?) })
}

/// Says a line, and passes on what the bridge says from then on until it hangs up, or `take` returns false.
pub fn follow(place: &Place, line: &str, mut take: impl FnMut(&[u8]) -> bool) -> Result<(), VerbError> {
    visit(place, async {
        let stream = say(place, line).await?;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        while stream.read(&mut chunk).await? > 0 && take(&chunk) {
            chunk.clear();
        }
        Ok(())
    })
}

/// Says a line, sends these bytes when the bridge says `go`, and returns its word on them.
pub fn send(place: &Place, line: &str, bytes: &[u8], limit: Duration) -> Result<String, VerbError> {
    visit(place, async {
        let mut stream = say(place, line).await?;
        let mut go = [0; 3];
        timeout(limit, stream.read_exact(&mut go)).await??;
        // A guest that refuses says why without reading to the end.
        let written = timeout(limit, stream.write_all(bytes)).await?;
        let finished = stream.finish().await;
        let mut word = String::new();
        timeout(limit, stream.read_to_string(&mut word)).await??;
        if word.is_empty() {
            written.and(finished)?;
        }
        Ok(word)
    })
}

fn visit<T>(place: &Place, work: impl Future<Output = io::Result<T>>) -> Result<T, VerbError> {
    let mute = |source| VerbError::BridgeMute { dir: place.dir().to_owned(), source };
    block_on(async { work.await.map_err(mute) })
}

async fn say(place: &Place, line: &str) -> io::Result<Stream> {
    let stream = connect(place).await?;
    stream.write(format!("{line}\n").as_bytes()).await?;
    Ok(stream)
}

async fn connect(place: &Place) -> io::Result<Stream> {
    let begun = Instant::now();
    loop {
        match Stream::connect(&place.bridge_socket()).await {
            Err(error) if begun.elapsed() < BOUND_WITHIN && is_early(&error) && lives(place) => {
                tokio::time::sleep(PAUSE).await;
            }
            connected => return connected,
        }
    }
}

fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn lives(place: &Place) -> bool {
    place.has_bridge().unwrap_or(false)
}
