//! The API's first answer: the moment a boot counts as done.

use crate::backend::{Link, Port};
use crate::stream::Stream;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Between two dials that were refused: short at first, for a boot in namespaces takes milliseconds.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(10)];
/// After so many dials the longer pause is kept.
const EAGER_DIALS: u32 = 500;

/// Docker's own probe (`GET /_ping`).
const PING: &[u8] = b"GET /_ping HTTP/1.1\r\nHost: pinnace\r\nConnection: close\r\n\r\n";

/// Waits until the guest's API answers.
pub async fn wait(link: &dyn Link) {
    for dials in 0.. {
        // One dial stays open until the guest's driver takes it, so nothing is lost to a pause there.
        if let Ok(stream) = link.dial(Port::Api).await
            && ping(stream).await.unwrap_or(false)
        {
            return;
        }
        tokio::time::sleep(PAUSES[usize::from(dials >= EAGER_DIALS)]).await;
    }
}

/// Whether the API answers within the limit on docker's socket of this host.
pub async fn answers_on(socket: &Path, limit: Duration) -> bool {
    let asked = async { ping(Stream::connect(socket).await?).await };
    matches!(tokio::time::timeout(limit, asked).await, Ok(Ok(true)))
}

/// Asks on an open stream; true for an answer with status 200.
pub async fn ping(mut stream: Stream) -> io::Result<bool> {
    stream.write_all(PING).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.") && answer.ends_with(b" 200"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixStream;

    async fn check(answer: &str, want: Option<bool>) {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(answer.as_bytes()).await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(ping(near.into()).await.ok(), want, "{answer:?}");
    }

    #[tokio::test]
    async fn only_200_is_an_answer() {
        check("HTTP/1.1 200 OK\r\n\r\nOK", Some(true)).await;
        check("HTTP/1.1 503 Service Unavailable\r\n\r\n", Some(false)).await;
        check("SSH-2.0-OpenSSH", Some(false)).await;
        check("", None).await;
    }
}
