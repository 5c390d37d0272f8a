//! Raw connections behind an HTTP request: attach and exec.

use bytes::{BufMut, Bytes, BytesMut};
use hyper::StatusCode;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use process::{Chunk, Stream};
use rustix::event::{PollFd, PollFlags};
use std::os::fd::AsFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

use crate::call::Call;
use crate::raw::{self, Raw};
use crate::reply::{self, ApiError, Reply};
use crate::version::ApiVersion;

/// Raw bytes (a terminal).
pub const RAW: &str = "application/vnd.docker.raw-stream";
/// Framed streams.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// How output is written onto a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it comes: a terminal's. Standard error has no place in it.
    Raw,
    /// Each piece behind a header of stream and length.
    Framed,
}

impl Form {
    /// Of what a container or an exec prints.
    pub fn of(tty: bool) -> Form {
        if tty { Form::Raw } else { Form::Framed }
    }

    /// The content type that names it.
    pub fn content_type(self, version: ApiVersion) -> &'static str {
        match self {
            Form::Framed if version >= ApiVersion(1, 42) => MULTIPLEXED,
            _ => RAW,
        }
    }

    /// A piece of output as it goes over the wire.
    pub fn piece(self, stream: Stream, bytes: Bytes) -> Bytes {
        match (self, stream) {
            (Form::Raw, Stream::Stdout) => bytes,
            (Form::Raw, Stream::Stderr) => Bytes::new(),
            (Form::Framed, _) => {
                let mut framed = BytesMut::with_capacity(8 + bytes.len());
                self.put(&mut framed, stream, &bytes);
                framed.freeze()
            }
        }
    }

    /// [`Form::piece`], behind others.
    pub fn put(self, out: &mut BytesMut, stream: Stream, bytes: &[u8]) {
        match (self, stream) {
            (Form::Raw, Stream::Stderr) => return,
            (Form::Raw, Stream::Stdout) => {}
            (Form::Framed, _) => {
                out.put_u32(match stream {
                    Stream::Stdout => 1 << 24,
                    Stream::Stderr => 2 << 24,
                });
                out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            }
        }
        out.extend_from_slice(bytes);
    }
}

/// Where the client's bytes go.
pub trait Input: Send + 'static {
    /// Bytes were typed; an error ends the reading.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = std::io::Result<Typed>> + Send;
    /// The client closed its side.
    fn finish(&mut self) -> impl Future<Output = ()> + Send;
}

/// What typing led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typed {
    /// Go on.
    On,
    /// The client typed the keys to detach.
    Detach,
}

/// Turns the connection into a raw one: `output`, begun only when the client has its answer, to the client, the
/// client's bytes to `input`. The connection is closed when `output` ends, or when the client detaches or is gone.
///
/// # Errors
/// The request's body cannot be read.
pub async fn upgrade(
    call: &mut Call,
    form: Form,
    output: impl Future<Output = mpsc::Receiver<Chunk>> + Send + 'static,
    input: impl Input,
) -> Result<Reply, ApiError> {
    call.skip_body().await?;
    let mut reply = match call.wants_upgrade() {
        true => switching(form.content_type(call.version)),
        false => plain(),
    };
    let taken = raw::take_over(&mut reply);
    tokio::spawn(async move {
        match taken.await {
            Ok(Raw { connection, typed }) => copy(connection, typed, form, output.await, input).await,
            // What the client asked for goes on without it.
            Err(_) => drop(output.await),
        }
    });
    Ok(reply)
}

fn switching(content_type: &'static str) -> Reply {
    let mut reply = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    reply.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    reply
}

/// For clients that do not ask for an upgrade. Whatever the streams, dockerd names one type here.
fn plain() -> Reply {
    let mut reply = reply::empty(StatusCode::OK);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(RAW));
    reply
}

/// How long a client that was sent the end is listened to: closing with its bytes unread would reset the
/// connection, and the client might lose output that is still on its way.
pub const LINGER: std::time::Duration = std::time::Duration::from_secs(10);

/// Between the first two looks whether the client has read the answer's head; each pause is twice the one before.
const READ_PAUSE: std::time::Duration = std::time::Duration::from_millis(1);

/// The longest of these pauses: a client that was stopped in between costs next to nothing.
const READ_PAUSE_MAX: std::time::Duration = std::time::Duration::from_millis(256);

/// Between two looks whether a client is still there.
const LOOK: std::time::Duration = std::time::Duration::from_secs(5);

/// `typed` came along with the request.
async fn copy(
    connection: UnixStream,
    typed: Bytes,
    form: Form,
    mut output: mpsc::Receiver<Chunk>,
    mut input: impl Input,
) {
    let (reader, mut writer) = connection.into_split();
    let mut reader = std::io::Cursor::new(typed).chain(reader);
    let (detach, mut detached) = mpsc::channel::<()>(1);
    let mut reading = tokio::spawn(async move {
        let typed = read_client(&mut reader, &mut input).await;
        match typed {
            // Nobody waits for it where the output has ended already.
            Typed::Detach => drop(detach.try_send(())),
            // A half-closed connection goes on in the other direction.
            Typed::On => input.finish().await,
        }
    });
    let (mut first, mut closed) = (true, false);
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = output.recv() => chunk,
            Some(()) = detached.recv() => None,
            _ = &mut reading, if !closed => {
                closed = true;
                continue;
            }
            () = gone(&writer), if closed => None,
        };
        let Some(chunk) = chunk else { break };
        if std::mem::take(&mut first) {
            head_read(&writer).await;
        }
        let bytes = form.piece(chunk.stream, chunk.bytes);
        if writer.write_all(&bytes).await.is_err() {
            break;
        }
    }
    let _ = writer.shutdown().await;
    if !closed && tokio::time::timeout(LINGER, &mut reading).await.is_err() {
        reading.abort();
    }
}

/// Comes when a client that has closed its side has closed the other as well: it has died, and not only ended what it types.
/// The program may print nothing for ever, so no failed write would tell.
async fn gone(writer: &OwnedWriteHalf) {
    loop {
        tokio::time::sleep(LOOK).await;
        // Hang-ups are told in any case, see poll(2).
        let mut polled = [PollFd::new(writer.as_ref(), PollFlags::empty())];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        if rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0) {
            return;
        }
    }
}

/// Waits until the client has read the answer's head. docker-py and others read it through a buffer and the output past
/// it, and would lose what came along with it.
async fn head_read(writer: &OwnedWriteHalf) {
    let mut pause = READ_PAUSE;
    while sys::socket::unread(writer.as_ref().as_fd()).is_ok_and(|bytes| bytes > 0) {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(READ_PAUSE_MAX);
    }
}

/// Reads up to the client's end. What the program does not take any more is read all the same.
async fn read_client(reader: &mut (impl AsyncRead + Unpin), input: &mut impl Input) -> Typed {
    let mut buffer = vec![0; 32 * 1024];
    let mut taken = true;
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return Typed::On,
            Ok(count) if taken => match input.write(&buffer[..count]).await {
                Ok(Typed::On) => {}
                Ok(Typed::Detach) => return Typed::Detach,
                Err(_) => taken = false,
            },
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_stream_and_length() {
        let framed = Form::Framed.piece(Stream::Stderr, Bytes::from_static(b"abc"));
        assert_eq!(&framed[..], [2, 0, 0, 0, 0, 0, 0, 3, b'a', b'b', b'c']);
        assert_eq!(&Form::Raw.piece(Stream::Stdout, Bytes::from_static(b"x"))[..], b"x");
        assert!(Form::Raw.piece(Stream::Stderr, Bytes::from_static(b"x")).is_empty());
    }
}
