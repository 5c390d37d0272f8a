//! Streams that wait in the guest's carrier for clients there who want to reach this host.
//!
//! Only the host dials. The first bytes of a stream say that a client has it; then it is served, and the next one waits.

use crate::backend::{Link, Port};
use crate::stream::Stream;
use contract::carrier::Line;
use std::future::Future;
use std::io;
use std::time::Duration;

/// Between two tries to have a stream waiting: the first, and the longest, for a guest of a release that knows no such streams.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];
/// What a client says first is short.
const FIRST: usize = 4096;

/// Has one stream waiting at a time until the task is dropped. `serve` is given a stream and what its client said first; those
/// that are served stay so to their ends.
pub async fn keep<F, S>(link: &dyn Link, line: Line, mut serve: S)
where
    F: Future<Output = ()> + Send + 'static,
    S: FnMut(Stream, Vec<u8>) -> F,
{
    let [mut pause, longest] = PAUSES;
    loop {
        match client(link, line).await {
            Ok((stream, first)) => {
                pause = PAUSES[0];
                drop(tokio::spawn(serve(stream, first)));
            }
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        }
    }
}

/// Waits for a client; returns its stream and what it said first.
async fn client(link: &dyn Link, line: Line) -> io::Result<(Stream, Vec<u8>)> {
    let stream = link.dial(Port::Carrier).await?;
    stream.write(line.encode().as_bytes()).await?;
    let mut first = Vec::with_capacity(FIRST);
    match stream.read(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok((stream, first)),
    }
}
