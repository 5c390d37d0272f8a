//! Connections taken out of HTTP: behind the answer's head they carry what the two ends want.
//!
//! hyper hands a connection over only where the request asked for an upgrade and the answer is 101. Docker's older form
//! (no `Upgrade`, and 200 with neither a length nor chunks) is no such case. So every connection that becomes raw is taken
//! away from hyper while it waits for the answer, and the head is written here.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::ext::ReasonPhrase;
use hyper::header::HeaderName;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::reply::Reply;

/// A connection whose answer's head has been written.
pub struct Raw {
    /// Both directions.
    pub connection: UnixStream,
    /// What the client sent along with its request.
    pub typed: Bytes,
}

/// Where the connection of a [`Reply`] goes. In an answer's extensions, which must be cloneable.
#[derive(Clone)]
struct Taker(Arc<Mutex<Option<oneshot::Sender<Raw>>>>);

/// The connection on which `reply` goes out, once its head is written; an error where the client went before.
pub fn take_over(reply: &mut Reply) -> oneshot::Receiver<Raw> {
    let (sender, receiver) = oneshot::channel();
    reply.extensions_mut().insert(Taker(Arc::new(Mutex::new(Some(sender)))));
    receiver
}

/// Whether the connection of `reply` is taken over.
pub fn is_taken(reply: &Reply) -> bool {
    reply.extensions().get::<Taker>().is_some()
}

/// An answer after which its connection is no longer HTTP.
pub struct Handover {
    head: String,
    taker: oneshot::Sender<Raw>,
}

impl Handover {
    /// Looks whether `reply` is one.
    pub fn of(reply: &mut Reply) -> Option<Handover> {
        let Taker(taker) = reply.extensions_mut().remove::<Taker>()?;
        let taker = taker.lock().expect("no holder of the taker panics").take()?;
        Some(Handover { head: head(reply), taker })
    }

    /// Writes the head and gives the connection away.
    pub async fn run(self, mut connection: UnixStream, typed: Bytes) {
        match connection.write_all(self.head.as_bytes()).await {
            // Whoever asked for it waits for as long as it takes.
            Ok(()) => drop(self.taker.send(Raw { connection, typed })),
            Err(error) => tracing::debug!(%error, "a raw connection's client is gone"),
        }
    }
}

/// The content type first, as dockerd has it.
fn head(reply: &Reply) -> String {
    let status = reply.status();
    let reason =
        reply.extensions().get::<ReasonPhrase>().and_then(|reason| str::from_utf8(reason.as_bytes()).ok());
    let reason = reason.or(status.canonical_reason()).unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str());
    for (name, value) in reply.headers() {
        let value = value.to_str().expect("the engine's headers are ASCII");
        // Writing to memory cannot fail.
        let _ = write!(head, "{}: {value}\r\n", title_case(name));
    }
    head + "\r\n"
}

fn title_case(name: &HeaderName) -> String {
    let word = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    let words: Vec<String> = name.as_str().split('-').filter(|part| !part.is_empty()).map(word).collect();
    words.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::StatusCode;
    use hyper::header::{CONTENT_TYPE, HeaderValue};
    use tokio::io::AsyncReadExt;

    #[test]
    fn heads_are_http() {
        let mut reply = crate::reply::empty(StatusCode::SWITCHING_PROTOCOLS);
        reply.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("a/b"));
        assert_eq!(head(&reply), "HTTP/1.1 101 UPGRADED\r\nContent-Type: a/b\r\n\r\n");
        assert_eq!(head(&crate::reply::empty(StatusCode::OK)), "HTTP/1.1 200 OK\r\n\r\n");
    }

    #[test]
    fn only_an_answer_that_asks_for_it_takes_the_connection() {
        let mut reply = crate::reply::empty(StatusCode::OK);
        assert!(Handover::of(&mut reply).is_none());
        let taken = take_over(&mut reply);
        let handover = Handover::of(&mut reply).unwrap();
        assert!(Handover::of(&mut reply).is_none());
        // tokio's attribute for tests has no way around this crate's own `core`.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let (here, mut there) = UnixStream::pair().unwrap();
            handover.run(here, Bytes::from_static(b"typed")).await;
            assert_eq!(taken.await.unwrap().typed, "typed");
            let mut head = String::new();
            there.read_to_string(&mut head).await.unwrap();
            assert_eq!(head, "HTTP/1.1 200 OK\r\n\r\n");
        });
    }
}
