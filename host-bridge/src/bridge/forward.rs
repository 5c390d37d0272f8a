//! Bytes between Docker's socket on this host and the guest's API. What they mean is not its business, but for one thing:
//! the head of an answer that turns the connection into a raw stream (attach, exec) reaches the client alone. docker-py
//! and others read the head through a buffer and the stream past it, so that output which came along would be lost.
//!
//! Each direction ends by itself: an end of file is passed on as a shutdown of writing, since attach lives on after its
//! input ended. A peer that *closed* is told from one that only stopped writing by the kernel's hang-up, and then the
//! other side is closed too, so that the engine learns that a client is gone while it has nothing to say to it.

use crate::backend::{Link, Port};
use crate::stream::{Listener, Stream};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Bytes moved at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// The guest's sockets outlive its engine, so a refusal is rare and short.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);
const DIAL_PAUSE: Duration = Duration::from_millis(20);
/// How answers begin after which the connection is a raw stream: RFC 9110, 15.2.2, and Docker's form without an upgrade,
/// which the log of a terminal shares.
const RAW_STREAM: [&[u8]; 2] =
    [b"HTTP/1.1 101 ", b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n"];
/// Between two looks whether the client has read it: most read within microseconds, and one that is stopped may take days.
const READ_PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];

/// Whether connections can go on to the guest.
#[derive(Clone)]
pub enum Gate {
    /// Not yet: hold them.
    Booting,
    /// They can.
    Open(Arc<dyn Link>),
    /// Never again.
    Closed,
}

/// Takes connections until the task is dropped.
pub async fn serve(listener: Listener, gate: watch::Receiver<Gate>) {
    listener.serve("connections", |client| drop(tokio::spawn(carry(client, gate.clone())))).await;
}

async fn carry(client: Stream, mut gate: watch::Receiver<Gate>) {
    let Some(link) = opened(&client, &mut gate).await else { return };
    match reach(&client, &*link).await {
        Some(Ok(guest)) => relay(&client, &guest).await,
        Some(Err(error)) => tracing::warn!("the guest's API cannot be reached: {error}"),
        None => {}
    }
}

/// Waits for the gate; nothing when it closes or the client leaves first.
async fn opened(client: &Stream, gate: &mut watch::Receiver<Gate>) -> Option<Arc<dyn Link>> {
    tokio::select! {
        gate = gate.wait_for(|gate| !matches!(gate, Gate::Booting)) => match &*gate.ok()? {
            Gate::Open(link) => Some(link.clone()),
            Gate::Booting | Gate::Closed => None,
        },
        () = client.closed() => None,
    }
}

/// A stream to the API; nothing when the client leaves first.
async fn reach(client: &Stream, link: &dyn Link) -> Option<io::Result<Stream>> {
    tokio::select! {
        dialled = dial(link) => Some(dialled),
        () = client.closed() => None,
    }
}

async fn dial(link: &dyn Link) -> io::Result<Stream> {
    let deadline = Instant::now() + DIAL_DEADLINE;
    loop {
        match link.dial(Port::Api).await {
            Err(error) if is_refusal(&error) && Instant::now() < deadline => {
                tokio::time::sleep(DIAL_PAUSE).await;
            }
            dialled => return dialled,
        }
    }
}

/// A unix socket without a listener refuses, a vsock resets.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}

/// Carries both directions until both ended or one side is gone.
async fn relay(client: &Stream, guest: &Stream) {
    // Both directions ended is a hang-up too, so the first to finish here is always the end of all.
    tokio::select! {
        () = direction(client, guest) => {}
        () = direction(guest, client) => {}
    }
}

/// Carries one direction, passes on its end, and then waits until its source is gone altogether.
async fn direction(from: &Stream, to: &Stream) {
    // A failed write leaves the other direction, which may still have something to deliver.
    if pump(from, to).await.is_ok() {
        let _ = to.finish().await;
    }
    from.closed().await;
}

async fn pump(from: &Stream, to: &Stream) -> io::Result<()> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    let mut head_out = false;
    while from.read(&mut chunk).await? > 0 {
        head_out = deliver(&chunk, to, head_out).await?;
        chunk.clear();
    }
    Ok(())
}

/// With `head_out` the head of a raw stream was the last to go out, and what follows waits until it was read. Returns whether
/// one is the last now.
async fn deliver(chunk: &[u8], to: &Stream, head_out: bool) -> io::Result<bool> {
    if head_out {
        all_read(to).await?;
    }
    let (head, rest) = chunk.split_at(raw_head(chunk));
    to.write(head).await?;
    if !head.is_empty() && !rest.is_empty() {
        all_read(to).await?;
    }
    to.write(rest).await?;
    Ok(!head.is_empty() && rest.is_empty())
}

async fn all_read(to: &Stream) -> io::Result<()> {
    let [mut pause, most] = READ_PAUSES;
    while to.unread()? {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(most);
    }
    Ok(())
}

/// The length of the head with which `chunk` begins, where a raw stream follows it.
fn raw_head(chunk: &[u8]) -> usize {
    if !RAW_STREAM.iter().any(|beginning| chunk.starts_with(beginning)) {
        return 0;
    }
    chunk.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(0, |end| end + 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(5);

    /// A client and a guest with the relay between them.
    fn between() -> (UnixStream, UnixStream, tokio::task::JoinHandle<()>) {
        let (client, outer) = UnixStream::pair().unwrap();
        let (inner, guest) = UnixStream::pair().unwrap();
        let (outer, inner) = (Stream::from(outer), Stream::from(inner));
        (client, guest, tokio::spawn(async move { relay(&outer, &inner).await }))
    }

    async fn all(stream: &mut UnixStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        timeout(SOON, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_client_that_ended_its_input_still_gets_the_output() {
        let (mut client, mut guest, relay) = between();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(all(&mut guest).await, b"question");
        guest.write_all(b"answer").await.unwrap();
        drop(guest);
        assert_eq!(all(&mut client).await, b"answer");
        timeout(SOON, relay).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_guest_that_ended_its_output_still_gets_the_input() {
        let (mut client, mut guest, relay) = between();
        guest.shutdown().await.unwrap();
        assert_eq!(all(&mut client).await, b"");
        client.write_all(b"more").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(all(&mut guest).await, b"more");
        timeout(SOON, relay).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_guest_learns_that_a_silent_client_is_gone() {
        let (client, mut guest, relay) = between();
        drop(client);
        timeout(SOON, relay).await.unwrap().unwrap();
        assert_eq!(all(&mut guest).await, b"");
        assert!(guest.write_all(b"to nobody").await.is_err());
    }

    #[tokio::test]
    async fn a_refusal_of_either_kind_is_tried_again() {
        struct Late(std::sync::Mutex<Vec<io::ErrorKind>>);
        impl Link for Late {
            fn dial(&self, _port: Port) -> futures_util::future::BoxFuture<'_, io::Result<Stream>> {
                let refusal = self.0.lock().unwrap().pop();
                Box::pin(async move {
                    refusal.map_or(Ok(()), |kind| Err(io::Error::from(kind)))?;
                    Ok(UnixStream::pair()?.0.into())
                })
            }
        }
        let refusals = vec![io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionRefused];
        timeout(SOON, dial(&Late(refusals.into()))).await.unwrap().unwrap();
        assert!(dial(&Late(vec![io::ErrorKind::NotConnected].into())).await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_leaves_during_a_dial_takes_it_along() {
        struct Never;
        impl Link for Never {
            fn dial(&self, _port: Port) -> futures_util::future::BoxFuture<'_, io::Result<Stream>> {
                Box::pin(std::future::pending())
            }
        }
        let (client, outer) = UnixStream::pair().unwrap();
        let gate = watch::Sender::new(Gate::Open(Arc::new(Never)));
        let carried = tokio::spawn(carry(outer.into(), gate.subscribe()));
        tokio::task::yield_now().await;
        drop(client);
        timeout(SOON, carried).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_head_of_a_raw_stream_arrives_alone() {
        arrives_alone(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\n\r\n").await;
        arrives_alone(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\nOstype: linux\r\n\r\n",
        )
        .await;
    }

    async fn arrives_alone(head: &[u8]) {
        let together = [&[head, &b"output"[..]].concat()[..]];
        for parts in [&together[..], &[head, b"output"]] {
            let (mut client, mut guest, _relay) = between();
            for part in parts {
                guest.write_all(part).await.unwrap();
                // A client that is late reads all there is.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let mut bytes = [0; 256];
            let count = client.read(&mut bytes).await.unwrap();
            assert_eq!(&bytes[..count], head);
            let count = timeout(SOON, client.read(&mut bytes)).await.unwrap().unwrap();
            assert_eq!(&bytes[..count], b"output");
        }
    }

    #[tokio::test]
    async fn large_streams_pass_both_ways_at_once() {
        let (client, guest, relay) = between();
        let bytes = vec![5; 8 << 20];
        let (mut client_read, mut client_write) = client.into_split();
        let (mut guest_read, mut guest_write) = guest.into_split();
        let (mut up, mut down) = (Vec::new(), Vec::new());
        let send_up = async { client_write.write_all(&bytes).await.and(client_write.shutdown().await) };
        let send_down = async { guest_write.write_all(&bytes).await.and(guest_write.shutdown().await) };
        let done = async {
            tokio::try_join!(
                send_up,
                send_down,
                guest_read.read_to_end(&mut up),
                client_read.read_to_end(&mut down)
            )
        };
        timeout(SOON, done).await.unwrap().unwrap();
        assert!(up == bytes && down == bytes);
        timeout(SOON, relay).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn connections_are_held_while_the_guest_boots() {
        struct Here(tokio::sync::mpsc::UnboundedSender<UnixStream>);
        impl Link for Here {
            fn dial(&self, _port: Port) -> futures_util::future::BoxFuture<'_, io::Result<Stream>> {
                Box::pin(async move {
                    let (near, far) = UnixStream::pair()?;
                    self.0.send(far).unwrap();
                    Ok(near.into())
                })
            }
        }
        let (gate, watched) = watch::channel(Gate::Booting);
        let (mut client, outer) = UnixStream::pair().unwrap();
        let carried = tokio::spawn(carry(outer.into(), watched));
        client.write_all(b"early").await.unwrap();
        client.shutdown().await.unwrap();
        let (dialled, mut dials) = tokio::sync::mpsc::unbounded_channel();
        gate.send_replace(Gate::Open(Arc::new(Here(dialled))));
        let mut guest = timeout(SOON, dials.recv()).await.unwrap().unwrap();
        assert_eq!(all(&mut guest).await, b"early");
        drop(guest);
        timeout(SOON, carried).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_gate_that_closes_ends_those_who_wait() {
        let (gate, watched) = watch::channel(Gate::Booting);
        let (mut client, outer) = UnixStream::pair().unwrap();
        tokio::spawn(carry(outer.into(), watched));
        gate.send_replace(Gate::Closed);
        assert_eq!(all(&mut client).await, b"");
    }
}
