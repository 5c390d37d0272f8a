//! The control line of [`contract::line`]: a handful of connections, each a line at a time, or the bytes that one announced.
//!
//! What a request means is decided by the caller; here are only bytes. Nothing here waits: what a peer does not take is
//! kept up to a limit, and a peer beyond it is dropped.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};

use contract::line::{Answer, BadLine, Event, FromHost, Hello, LineBuffer, REQUESTS, Request};
use contract::vsock::HOST_CID;
use nix::sys::socket::{VsockAddr, getpeername};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use crate::body::Body;
use crate::messages::say;

/// The host program has one or two; whoever opens more is not it.
const MOST: usize = 32;

/// Bytes read at a time.
const CHUNK: usize = 16 << 10;

/// So often a connection is read before the others have their turn.
const READS: usize = 64;

/// A peer that leaves so many bytes of answers and events unread is dropped.
const UNREAD: usize = 64 << 10;

/// Who hears of the end of this process: a panic has no other way to the connections.
static MOURNERS: Mutex<Vec<Weak<OwnedFd>>> = Mutex::new(Vec::new());

/// What a connection asks.
#[derive(Debug)]
pub enum Asked {
    /// A line.
    Line(Request),
    /// One with every byte that it announced.
    Whole(Request, Body),
}

/// Open connections.
#[derive(Debug, Default)]
pub struct Connections(Vec<Connection>);

#[derive(Debug)]
struct Connection {
    socket: Arc<OwnedFd>,
    /// What has arrived and was not acted on.
    input: LineBuffer,
    /// What the socket did not take yet.
    output: Vec<u8>,
    /// What the host takes, once it said so.
    peer: Option<Hello>,
    /// What is on its way, for which request and its number.
    body: Option<(Option<u32>, Request, Body)>,
}

/// Whether a connection stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Open,
    Closed,
}

impl Connections {
    /// To be watched for reading; the second says whether for writing too.
    pub fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        self.0.iter().map(|connection| ((*connection.socket).as_fd(), !connection.output.is_empty()))
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
                    self.0.push(Connection::of(socket));
                }
                Ok(_) => say!("a control connection is refused"),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
        }
    }

    /// Reads what is there and answers each line, and each body, with what `answer` says.
    pub fn serve(&mut self, mut answer: impl FnMut(Asked) -> Answer) {
        self.0.retain_mut(|connection| matches!(connection.serve(&mut answer), Ok(Then::Open)));
    }

    /// Tells every host that takes it.
    pub fn tell(&mut self, event: &Event) {
        self.0.retain_mut(|connection| connection.tell(event).is_ok());
    }
}

/// Tells every host that takes it that this process gives up. Works from a panic.
pub fn last_words(reason: &str) {
    let event = Event::GaveUp { reason: reason.to_owned() }.encode();
    let Ok(mourners) = MOURNERS.try_lock() else { return };
    for socket in mourners.iter().filter_map(Weak::upgrade) {
        // Whoever does not take it reads the console.
        let _ = send(&*socket, event.as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
}

impl Connection {
    fn of(socket: OwnedFd) -> Connection {
        let (input, output) = (LineBuffer::default(), Vec::new());
        Connection { socket: Arc::new(socket), input, output, peer: None, body: None }
    }

    fn serve(&mut self, answer: &mut impl FnMut(Asked) -> Answer) -> io::Result<Then> {
        self.flush()?;
        for _ in 0..READS {
            let mut bytes = [0u8; CHUNK];
            match recv(&*self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Ok(Then::Closed),
                Ok((length, _)) => self.input.add(&bytes[..length]),
                Err(Errno::AGAIN) => return Ok(Then::Open),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if self.act(answer)? == Then::Closed {
                return Ok(Then::Closed);
            }
        }
        Ok(Then::Open)
    }

    /// Acts on what has arrived.
    fn act(&mut self, answer: &mut impl FnMut(Asked) -> Answer) -> io::Result<Then> {
        loop {
            if self.body.is_some() {
                match self.take_body()? {
                    Some((number, request, body)) => {
                        self.reply(number, &answer(Asked::Whole(request, body)))?;
                    }
                    None if self.body.is_some() => return Ok(Then::Open),
                    None => return Ok(Then::Closed),
                }
            }
            let line = match self.input.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(Then::Open),
                Err(long) => {
                    self.reply(None, &Answer::Refused { text: long.to_string() })?;
                    return Ok(Then::Closed);
                }
            };
            if self.act_on(&line, answer)? == Then::Closed {
                return Ok(Then::Closed);
            }
        }
    }

    fn act_on(&mut self, line: &str, answer: &mut impl FnMut(Asked) -> Answer) -> io::Result<Then> {
        match FromHost::decode(line) {
            Ok(FromHost::Hello(hello)) => self.greet(hello)?,
            Ok(FromHost::Request { number, request }) => match Body::begin(&request) {
                None => self.reply(number, &answer(Asked::Line(request)))?,
                Some(Ok(body)) => self.body = Some((number, request, body)),
                // The bytes that were announced still come: with nowhere to put them the connection ends.
                Some(Err(error)) => return self.refuse(number, request.word(), &error),
            },
            Err(BadLine { number }) => {
                self.reply(number, &Answer::Refused { text: "unknown request".to_owned() })?;
            }
        }
        Ok(Then::Open)
    }

    /// Takes what has arrived of the announced bytes; returns them when they are whole. Where they cannot be kept there is
    /// no body any more.
    fn take_body(&mut self) -> io::Result<Option<(Option<u32>, Request, Body)>> {
        let Some((number, request, mut body)) = self.body.take() else { return Ok(None) };
        match body.take(self.input.bytes()) {
            Ok(own) => self.input.consume(own),
            Err(error) => {
                self.refuse(number, body.noun, &error)?;
                return Ok(None);
            }
        }
        if body.is_whole() {
            return Ok(Some((number, request, body)));
        }
        self.body = Some((number, request, body));
        Ok(None)
    }

    /// The guest's own `hello` names what it takes, and the host is remembered if it wants to hear of the end.
    fn greet(&mut self, hello: Hello) -> io::Result<()> {
        let last_word = Event::GaveUp { reason: String::new() };
        if hello.takes(last_word.word())
            && let Ok(mut mourners) = MOURNERS.lock()
        {
            mourners.retain(|socket| socket.strong_count() > 0);
            mourners.push(Arc::downgrade(&self.socket));
        }
        self.peer = Some(hello);
        self.send(&Hello::ours(REQUESTS).encode())
    }

    fn tell(&mut self, event: &Event) -> io::Result<()> {
        match self.peer.as_ref().is_some_and(|peer| peer.takes(event.word())) {
            true => self.send(&event.encode()),
            false => Ok(()),
        }
    }

    fn refuse(&mut self, number: Option<u32>, noun: &str, error: &io::Error) -> io::Result<Then> {
        self.reply(number, &Answer::Refused { text: format!("the {noun} is not taken: {error}") })?;
        Ok(Then::Closed)
    }

    fn reply(&mut self, number: Option<u32>, answer: &Answer) -> io::Result<()> {
        self.send(&answer.encode(number))
    }

    fn send(&mut self, line: &str) -> io::Result<()> {
        self.output.extend_from_slice(line.as_bytes());
        self.flush()?;
        if self.output.len() > UNREAD { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }

    /// Sends what the socket takes.
    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match send(&*self.socket, &self.output, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
