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

/// Between two tries to dial: the first after an engine's end, and the longest, for a guest of a release without a door.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// Serves the door until the task is dropped, which closes all ports.
pub async fn keep(link: Arc<dyn Link>) {
    let mut open = Open::new(link.clone());
    let [mut pause, longest] = PAUSES;
    loop {
        if let Ok(stream) = link.dial(Port::Door).await {
            match serve(stream, &mut open).await {
                Ok(()) => pause = PAUSES[0],
                Err(error) => tracing::debug!("the guest's door is closed: {error}"),
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// One connection, to its end.
async fn serve(stream: Stream, open: &mut Open) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(hello().as_bytes()).await?;
    let first = line(&mut stream).await?;
    if first.as_deref().and_then(hello_version).is_none() {
        return Err(io::Error::other("the guest said no hello"));
    }
    open.begin();
    while let Some(text) = line(&mut stream).await? {
        let Some((number, request)) = Request::decode(&text) else {
            return Err(io::Error::other("the guest asked without a number"));
        };
        let answer = match request {
            Some(Request::Publish(publication)) => open.publish(&publication),
            Some(Request::Release { protocol, host, port }) => {
                open.release(protocol, host, port);
                Answer::Done
            }
            Some(Request::Settled) => {
                open.settle();
                Answer::Done
            }
            None => Answer::Refused { why: Refusal::Unknown, text: "not a request of this release".into() },
        };
        stream.write_all(answer.encode(number).as_bytes()).await?;
    }
    Ok(())
}

/// The next line; nothing at the end.
async fn line(stream: &mut BufReader<Stream>) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    stream.take(LINE_MAX as u64).read_until(b'\n', &mut bytes).await?;
    match bytes.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests;
