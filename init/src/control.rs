//! The control lines of [`contract::control`]: a handful of connections, each a line at a time, or the bytes of an engine.
//!
//! What a request means is decided by the caller; here are only bytes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use contract::control::{Answer, LINE_MAX, Request};
use contract::vsock::HOST_CID;
use nix::sys::socket::{VsockAddr, getpeername};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use crate::messages::say;
use crate::upload::Upload;

/// The host program has one or two; whoever opens more is not it.
const MOST: usize = 32;

/// Bytes read at a time.
const CHUNK: usize = 16 << 10;

/// So often a connection is read before the others have their turn.
const READS: usize = 64;

/// What a connection asks.
#[derive(Debug)]
pub enum Asked {
    /// A line.
    Line(Request),
    /// Every byte of [`Request::Engine`] has arrived.
    Engine(Upload),
}

/// Open connections.
#[derive(Debug, Default)]
pub struct Connections(Vec<Connection>);

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    /// What has arrived and was not acted on.
    bytes: Vec<u8>,
    upload: Option<Upload>,
}

impl Connections {
    /// To be watched for reading.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|connection| connection.socket.as_fd())
    }

    /// Takes what waits at the unix socket; its file mode has decided who may.
    pub fn accept_unix(&mut self, listener: BorrowedFd<'_>) {
        self.accept(listener, |_| true);
    }

    /// Takes what waits at the vsock port, from the host only: vsock(7) reaches from container to guest as well.
    pub fn accept_vsock(&mut self, listener: BorrowedFd<'_>) {
        self.accept(listener, |socket| {
            getpeername::<VsockAddr>(socket.as_raw_fd()).is_ok_and(|peer| peer.cid() == HOST_CID)
        });
    }

    fn accept(&mut self, listener: BorrowedFd<'_>, may: impl Fn(BorrowedFd<'_>) -> bool) {
        loop {
            match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) if self.0.len() < MOST && may(socket.as_fd()) => {
                    self.0.push(Connection { socket, bytes: Vec::new(), upload: None });
                }
                Ok(_) => say!("a control connection is refused"),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
        }
    }

    /// Reads what is there and answers each line, and each engine, with what `answer` says.
    pub fn serve(&mut self, mut answer: impl FnMut(Asked) -> Answer) {
        self.0.retain_mut(|connection| connection.serve(&mut answer).unwrap_or(false));
    }
}

impl Connection {
    /// Whether it stays open.
    fn serve(&mut self, answer: &mut impl FnMut(Asked) -> Answer) -> io::Result<bool> {
        for _ in 0..READS {
            let mut bytes = [0u8; CHUNK];
            match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Ok(false),
                Ok((length, _)) => self.bytes.extend_from_slice(&bytes[..length]),
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if !self.act(answer)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Acts on what has arrived; whether it stays open.
    fn act(&mut self, answer: &mut impl FnMut(Asked) -> Answer) -> io::Result<bool> {
        loop {
            if let Some(mut upload) = self.upload.take() {
                match upload.take(&self.bytes) {
                    Ok(own) => drop(self.bytes.drain(..own)),
                    Err(error) => return self.refuse(&error),
                }
                if !upload.is_whole() {
                    self.upload = Some(upload);
                    return Ok(true);
                }
                self.reply(&answer(Asked::Engine(upload)))?;
            }
            let Some(line) = next_line(&mut self.bytes) else { break };
            match line.as_deref().and_then(Request::decode) {
                Some(Request::Engine(size)) => match Upload::begin(size) {
                    Ok(upload) => self.upload = Some(upload),
                    Err(error) => return self.refuse(&error),
                },
                Some(request) => self.reply(&answer(Asked::Line(request)))?,
                None => self.reply(&Answer::Error("unknown request".to_owned()))?,
            }
        }
        if self.bytes.len() > LINE_MAX {
            self.reply(&Answer::Error("line too long".to_owned()))?;
            return Ok(false);
        }
        Ok(true)
    }

    /// The bytes that were announced still come: with nowhere to put them the connection ends.
    fn refuse(&self, error: &io::Error) -> io::Result<bool> {
        self.reply(&Answer::Error(format!("the engine is not taken: {error}")))?;
        Ok(false)
    }

    /// An answer is shorter than any socket's buffer; a peer that never reads is dropped.
    fn reply(&self, answer: &Answer) -> io::Result<()> {
        let line = answer.encode();
        let sent = send(&self.socket, line.as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
        if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// Takes the first whole line out of `buffer`; the inner `None` is one that is no text.
fn next_line(buffer: &mut Vec<u8>) -> Option<Option<String>> {
    let end = buffer.iter().position(|byte| *byte == b'\n')?;
    let line: Vec<u8> = buffer.drain(..=end).collect();
    Some(String::from_utf8(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn talk(parts: &[&[u8]]) -> (String, bool) {
        let (mut peer, ours) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut connections =
            Connections(vec![Connection { socket: ours.into(), bytes: Vec::new(), upload: None }]);
        for part in parts {
            peer.write_all(part).unwrap();
            connections.serve(|asked| match asked {
                Asked::Line(request) => Answer::Error(format!("{request:?}")),
                Asked::Engine(upload) => Answer::Error(format!("whole: {}", upload.is_whole())),
            });
        }
        let open = !connections.0.is_empty();
        drop(connections);
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        (text, open)
    }

    #[test]
    fn lines_are_answered_however_they_arrive() {
        let check =
            |parts: &[&[u8]], want: &str, open| assert_eq!(talk(parts), (want.to_owned(), open), "{parts:?}");
        check(&[b"status\n"], "error Status\n", true);
        check(&[b"sta", b"tus\npower", b"-off\n"], "error Status\nerror PowerOff\n", true);
        check(&[b"nonsense\n\xff\n"], "error unknown request\nerror unknown request\n", true);
        check(&[&[b'x'; LINE_MAX + 1]], "error line too long\n", false);
        check(&[b"status"], "", true);
        check(
            &[b"engine 0\nstatus\n"],
            "error the engine is not taken: an engine has from 1 to 67108864 bytes\n",
            false,
        );
    }
}
