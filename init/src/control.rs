//! The control lines of [`contract::control`]: a handful of connections, each a line at a time.
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

/// The host program has one or two; whoever opens more is not it.
const MOST: usize = 32;

/// Open connections.
#[derive(Debug, Default)]
pub struct Connections(Vec<Connection>);

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    line: Vec<u8>,
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
                    self.0.push(Connection { socket, line: Vec::new() });
                }
                Ok(_) => say!("a control connection is refused"),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
        }
    }

    /// Reads what is there and answers each line with what `answer` says.
    pub fn serve(&mut self, mut answer: impl FnMut(Request) -> Answer) {
        self.0.retain_mut(|connection| connection.serve(&mut answer).unwrap_or(false));
    }
}

impl Connection {
    /// Whether it stays open.
    fn serve(&mut self, answer: &mut impl FnMut(Request) -> Answer) -> io::Result<bool> {
        loop {
            let mut bytes = [0u8; LINE_MAX];
            match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Ok(false),
                Ok((length, _)) => self.line.extend_from_slice(&bytes[..length]),
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            while let Some(request) = next_line(&mut self.line) {
                let known = request.as_deref().and_then(Request::decode);
                self.reply(&known.map_or_else(|| Answer::Error("unknown request".to_owned()), &mut *answer))?;
            }
            if self.line.len() > LINE_MAX {
                self.reply(&Answer::Error("line too long".to_owned()))?;
                return Ok(false);
            }
        }
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
        let mut connections = Connections(vec![Connection { socket: ours.into(), line: Vec::new() }]);
        for part in parts {
            peer.write_all(part).unwrap();
            connections.serve(|request| Answer::Error(format!("{request:?}")));
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
    }
}
