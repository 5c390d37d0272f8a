//! The host's side of the door ([`contract::door`]): the ports that the guest's engine publishes are opened on this host.
//!
//! The door is dialled as long as the boot lasts. Ports stay open while the engine is away, and their connections are the
//! carrier's: neither needs the engine.

mod listeners;
mod open;
mod udp;

use crate::backend::{Link, Port};
use crate::stream::Stream;
use contract::door::{Answer, LINE_MAX, Refusal, Request, hello, hello_version};
use open::Open;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::watch;

/// Between two tries to dial: the first after an engine's end, and the longest, for a guest of a release without a door.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// See [`crate::backend::Machine::changes`].
type Changes = watch::Receiver<u64>;

/// Serves the door until the task is dropped, which closes all ports.
pub async fn keep(link: Arc<dyn Link>, mut changes: Option<Changes>) {
    let mut open = Open::new(link.clone());
    let [mut pause, longest] = PAUSES;
    loop {
        if let Ok(stream) = link.dial(Port::Door).await {
            match serve(stream, &mut open, changes.as_mut()).await {
                Ok(()) => pause = PAUSES[0],
                Err(error) => tracing::debug!("the guest's door is closed: {error}"),
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// One connection, to its end.
async fn serve(stream: Stream, open: &mut Open, mut changes: Option<&mut Changes>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(hello().as_bytes()).await?;
    let mut bytes = Vec::new();
    let first = line(&mut stream, &mut bytes).await?;
    if first.as_deref().and_then(hello_version).is_none() {
        return Err(io::Error::other("the guest said no hello"));
    }
    open.begin();
    // The number to which changes are told, once the guest wants to know of them.
    let mut watching = None;
    loop {
        let text = tokio::select! {
            text = line(&mut stream, &mut bytes) => text?,
            number = next_change(watching, changes.as_deref_mut()) => {
                stream.write_all(Answer::Changed.encode(number).as_bytes()).await?;
                continue;
            }
        };
        let Some(text) = text else { return Ok(()) };
        let Some((number, request)) = Request::decode(&text) else {
            return Err(io::Error::other("the guest asked without a number"));
        };
        let refused = |text: &str| Answer::Refused { why: Refusal::Unknown, text: text.into() };
        let answer = match request {
            Some(Request::Publish(publication)) => open.publish(&publication),
            Some(Request::Release { protocol, host, port }) => {
                open.release(protocol, host, port);
                Answer::Done
            }
            Some(Request::Watch) if changes.is_none() => refused("this host does not look for changes"),
            Some(Request::Watch) => {
                watching = Some(number);
                Answer::Changed
            }
            Some(Request::Settled) => {
                open.settle();
                Answer::Done
            }
            None => refused("not a request of this release"),
        };
        stream.write_all(answer.encode(number).as_bytes()).await?;
    }
}

/// Waits for the next change; for ever where nobody wants to know, or where nothing changes any more.
async fn next_change(watching: Option<u32>, changes: Option<&mut Changes>) -> u32 {
    if let (Some(number), Some(changes)) = (watching, changes)
        && changes.changed().await.is_ok()
    {
        return number;
    }
    std::future::pending().await
}

/// The next line; nothing at the end. May be dropped and called again: what was read stays in `bytes`.
async fn line(stream: &mut BufReader<Stream>, bytes: &mut Vec<u8>) -> io::Result<Option<String>> {
    stream.take((LINE_MAX - bytes.len()) as u64).read_until(b'\n', bytes).await?;
    let line = std::mem::take(bytes);
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(String::from_utf8_lossy(&line).into_owned())),
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests;
