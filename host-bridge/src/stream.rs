//! A connection to a client, to the guest or to a bridge, with what the bridge needs of one and no more. What it is made of
//! differs by system ([`host::Connection`]): a unix socket, a Windows pipe.
//!
//! | operation | meaning |
//! |---|---|
//! | read | bytes, or none once the peer will send no more |
//! | write | bytes, in order |
//! | finish | this side will send no more; it still reads |
//! | closed | waits until the peer is gone altogether, not only done with sending |
//! | unread | bytes of ours that the peer has not read yet |

use crate::host;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// After a connection could not be taken, for want of descriptors or memory.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// See the module. Both directions can be used at once.
#[derive(Debug)]
pub struct Stream(host::Connection);

impl Stream {
    /// Connects to whoever listens at this path on this host.
    pub async fn connect(path: &Path) -> io::Result<Stream> {
        host::Connection::connect(path).await.map(Stream)
    }

    /// Appends what is there to `into`, as far as its capacity goes; 0 once the peer sends no more.
    pub async fn read(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.0.read(into).await
    }

    /// Writes all of it.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.write(bytes).await
    }

    /// Tells the peer that nothing more comes.
    pub async fn finish(&self) -> io::Result<()> {
        self.0.finish().await
    }

    /// Waits until the peer is gone altogether. One task at a time waits for it.
    pub async fn closed(&self) {
        if let Err(error) = self.0.closed().await {
            tracing::warn!("cannot watch a connection: {error}");
            std::future::pending().await
        }
    }

    /// Whether the peer has not read all that was written.
    pub fn unread(&self) -> io::Result<bool> {
        self.0.unread()
    }
}

impl<T: Into<host::Connection>> From<T> for Stream {
    fn from(connection: T) -> Stream {
        Stream(connection.into())
    }
}

/// For protocols of lines, which one task reads and writes.
impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

/// See [`AsyncRead`]; shutting down is [`Stream::finish`].
impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Listens at a path of this host, for its owner alone.
#[derive(Debug)]
pub struct Listener(host::Door);

impl Listener {
    /// Begins; the path must be free.
    pub fn bind(path: &Path) -> io::Result<Listener> {
        host::Door::bind(path).map(Listener)
    }

    /// The next connection.
    pub async fn accept(&mut self) -> io::Result<Stream> {
        self.0.accept().await.map(Stream)
    }

    /// Hands every connection on, for ever. Those that cannot be taken wait, and the log hears of it once and not ten times a
    /// second.
    pub async fn serve(mut self, what: &str, mut take: impl FnMut(Stream)) {
        let mut failures = 0_u64;
        loop {
            match self.accept().await {
                Ok(stream) => {
                    if std::mem::take(&mut failures) > 0 {
                        tracing::info!("{what} are taken again");
                    }
                    take(stream);
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!("cannot take {what}, which wait: {error}");
                    }
                    failures += 1;
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }
}
