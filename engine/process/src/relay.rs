//! Output for one client and nobody else: that of an exec or of a probe. It is neither logged nor kept.

use std::os::fd::AsFd;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::hub::Chunk;
use super::output::{Output, Reading};
use super::spool::Stream;

/// Bytes read at once.
const BUFFER: usize = 32 * 1024;

/// Begins to hand `sources` to `client`. Without a client the output is read and dropped, so that the process neither
/// blocks on a full pipe nor dies of a closed one.
pub(crate) fn spawn(
    sources: Vec<(Stream, pipe::Receiver)>,
    client: &mpsc::Sender<Chunk>,
    on: &Handle,
) -> Output {
    let (output, mut reading) = Output::begin();
    let client = client.clone();
    on.spawn(async move {
        let (ask, _) = tokio::sync::watch::channel(false);
        let mut readers = tokio::task::JoinSet::new();
        for (stream, pipe) in sources {
            readers.spawn(read(pipe, stream, client.clone(), ask.subscribe()));
        }
        drop(client);
        tokio::select! {
            () = reading.over() => drop(ask.send_replace(true)),
            () = all(&mut readers) => return,
        }
        all(&mut readers).await;
        drop::<Reading>(reading);
    });
    output
}

async fn all(readers: &mut tokio::task::JoinSet<()>) {
    while readers.join_next().await.is_some() {}
}

/// Reads one stream to its end. Once it is over, the client gets what lies in the pipe and then its end; what comes
/// later is dropped.
async fn read(
    mut pipe: pipe::Receiver,
    stream: Stream,
    client: mpsc::Sender<Chunk>,
    mut over: tokio::sync::watch::Receiver<bool>,
) {
    let mut client = Some(client);
    let mut buffer = vec![0; BUFFER];
    loop {
        let asked = async { drop(over.wait_for(|over| *over).await) };
        let count = tokio::select! {
            biased;
            () = asked, if client.is_some() => {
                rest(&pipe, stream, client.take(), &mut buffer).await;
                continue;
            }
            // A terminal whose last process ended answers EIO.
            count = pipe.read(&mut buffer) => count.unwrap_or(0),
        };
        if count == 0 {
            return;
        }
        hand(stream, &buffer[..count], &mut client).await;
    }
}

/// What lies in the pipe now, and no more: a process that was left behind may print faster than anybody reads.
async fn rest(
    pipe: &pipe::Receiver,
    stream: Stream,
    mut client: Option<mpsc::Sender<Chunk>>,
    buffer: &mut [u8],
) {
    let mut left = rustix::io::ioctl_fionread(pipe.as_fd()).unwrap_or(0);
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        // Not try_read: before the first turn of the reactor it refuses without a look at the pipe.
        let count = rustix::io::read(pipe.as_fd(), &mut buffer[..most]).unwrap_or(0);
        if count == 0 {
            return;
        }
        left = left.saturating_sub(count as u64);
        hand(stream, &buffer[..count], &mut client).await;
    }
}

async fn hand(stream: Stream, bytes: &[u8], client: &mut Option<mpsc::Sender<Chunk>>) {
    let Some(sender) = client else { return };
    if sender.send(Chunk { stream, bytes: Bytes::copy_from_slice(bytes) }).await.is_err() {
        *client = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    fn relayed() -> (OwnedFd, Output, mpsc::Receiver<Chunk>) {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let (sender, receiver) = mpsc::channel(16);
        let pipe = pipe::Receiver::from_file_unchecked(reader.into()).unwrap();
        let output = spawn(vec![(Stream::Stdout, pipe)], &sender, &Handle::current());
        (writer, output, receiver)
    }

    async fn text(receiver: &mut mpsc::Receiver<Chunk>) -> String {
        let chunk = receiver.recv().await.expect("the stream goes on");
        String::from_utf8(chunk.bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn what_was_printed_before_the_end_is_read_after_it() {
        let (writer, output, mut receiver) = relayed();
        rustix::io::write(&writer, b"all").unwrap();
        assert!(!output.settle(Duration::ZERO).await);
        assert_eq!(text(&mut receiver).await, "all");
        // The other end stays open: somebody whom the process left behind has it.
        assert!(receiver.recv().await.is_none());
        // Whoever that is may go on printing.
        assert_eq!(rustix::io::write(&writer, b"more"), Ok(4));
        tokio::task::yield_now().await;
        assert_eq!(rustix::io::write(&writer, b"more"), Ok(4));
        drop(writer);
        output.drained().await;
    }

    #[tokio::test]
    async fn what_is_printed_after_the_end_still_comes() {
        let (writer, output, mut receiver) = relayed();
        let settled = tokio::spawn(async move { output.settle(Duration::from_secs(600)).await });
        tokio::task::yield_now().await;
        rustix::io::write(&writer, b"late").unwrap();
        assert_eq!(text(&mut receiver).await, "late");
        drop(writer);
        assert!(settled.await.unwrap());
        assert!(receiver.recv().await.is_none());
    }
}
