//! One stream of the host's and what it leads to.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use contract::carrier::{DATAGRAM_MAX, LINE_MAX, Line as Asked, Protocol, Target};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, connect, recv, socket_with, sockopt};

use super::flow::{Flow, Turn, write};
use super::waiting::{Client, Service};

/// Which of a link's two descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The host's stream.
    Host = 0,
    /// The container's socket.
    Target = 1,
}

/// What came of moving a link on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// It waits for an event.
    Waits,
    /// It wants another turn.
    HasMore,
    /// It is to be closed.
    Over,
}

/// See the module.
#[derive(Debug)]
pub struct Link {
    host: OwnedFd,
    born: Instant,
    /// The host's stream is closed altogether: nobody reads it.
    host_gone: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// What was read of the line.
    Line(Vec<u8>),
    /// It waits for a client of this service.
    Spare(Service),
    Tcp {
        target: OwnedFd,
        connected: bool,
        up: Flow,
        down: Flow,
    },
    Udp {
        target: OwnedFd,
        up: Vec<u8>,
        down: Frame,
    },
}

/// A datagram on its way to the host.
#[derive(Debug, Default)]
struct Frame {
    bytes: Vec<u8>,
    written: usize,
}

/// Datagrams of one turn.
const DATAGRAMS: usize = 64;

impl Link {
    /// Of a stream that has said nothing yet.
    pub fn new(host: OwnedFd, born: Instant) -> Link {
        Link { host, born, host_gone: false, stage: Stage::Line(Vec::new()) }
    }

    /// When it was accepted.
    pub fn born(&self) -> Instant {
        self.born
    }

    /// Whether it has not said where to.
    pub fn awaits_line(&self) -> bool {
        matches!(self.stage, Stage::Line(_))
    }

    /// The service whose clients it waits for.
    pub fn waits_for(&self) -> Option<Service> {
        match self.stage {
            Stage::Spare(service) => Some(service),
            _ => None,
        }
    }

    /// Lets a client have it.
    pub fn join(&mut self, client: Client) {
        let down = Flow::beginning_with(&client.head);
        self.stage = Stage::Tcp { target: client.socket, connected: true, up: Flow::default(), down };
    }

    /// The container's socket, once there is one.
    pub fn target(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Line(_) | Stage::Spare(_) => None,
            Stage::Tcp { target, .. } | Stage::Udp { target, .. } => Some(target.as_fd()),
        }
    }

    /// An event of one side.
    pub fn note(&mut self, side: Side, flags: EventFlags) {
        match (side, &mut self.stage) {
            (Side::Host, _) => self.host_gone |= flags.intersects(EventFlags::HUP | EventFlags::ERR),
            (Side::Target, Stage::Tcp { connected, up, .. }) => {
                *connected |= flags.contains(EventFlags::OUT);
                // What it sent before is still to be read, and a refusal is found by reading.
                if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
                    up.give_up();
                }
            }
            (Side::Target, _) => {}
        }
    }

    /// Moves on whatever can be.
    pub fn move_on(&mut self, buffer: &mut [u8]) -> Moved {
        if let Stage::Line(line) = &mut self.stage {
            match read_line(self.host.as_fd(), line) {
                Ok(None) => return Moved::Waits,
                Ok(Some((asked, rest))) => match begin(asked, &rest) {
                    Some(stage) => self.stage = stage,
                    None => return Moved::Over,
                },
                Err(()) => return Moved::Over,
            }
        }
        let host = self.host.as_fd();
        let moved = match &mut self.stage {
            Stage::Line(_) => Moved::Waits,
            Stage::Spare(_) => wait(host),
            Stage::Tcp { target, connected, up, down } => {
                carry(host, target.as_fd(), *connected, up, down, buffer)
            }
            Stage::Udp { target, up, down } => exchange(host, target.as_fd(), up, down, buffer),
        };
        if self.host_gone { Moved::Over } else { moved }
    }
}

/// Where to, and the bytes that came behind the line; nothing before all of it is there.
fn read_line(host: BorrowedFd<'_>, line: &mut Vec<u8>) -> Result<Option<(Asked, Vec<u8>)>, ()> {
    loop {
        let mut bytes = [0; LINE_MAX];
        match rustix::io::read(host, &mut bytes) {
            Ok(0) => return Err(()),
            Ok(count) => line.extend_from_slice(&bytes[..count]),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => continue,
            Err(_) => return Err(()),
        }
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            let text = std::str::from_utf8(&line[..end]).map_err(drop)?;
            let asked = Asked::decode(text).ok_or(())?;
            return Ok(Some((asked, line.split_off(end + 1))));
        }
        if line.len() >= LINE_MAX {
            return Err(());
        }
    }
}

/// A host says nothing before a client has: what it does is its end.
fn wait(host: BorrowedFd<'_>) -> Moved {
    match rustix::io::read(host, &mut [0; 1]) {
        Err(Errno::AGAIN | Errno::INTR) => Moved::Waits,
        _ => Moved::Over,
    }
}

/// What a line asks for; nothing where that cannot be. A host has nothing to say before its client.
fn begin(asked: Asked, ahead: &[u8]) -> Option<Stage> {
    match asked {
        Asked::Port(target) => connected(target, ahead).ok(),
        Asked::Agent => ahead.is_empty().then_some(Stage::Spare(Service::Agent)),
        Asked::Host => ahead.is_empty().then_some(Stage::Spare(Service::Ports)),
    }
}

/// Begins to connect; what came ahead waits for it.
fn connected(target: Target, ahead: &[u8]) -> Result<Stage, Errno> {
    let family = match target.address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = match target.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match connect(&socket, &target.address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(match target.protocol {
        Protocol::Tcp => {
            sockopt::set_tcp_nodelay(&socket, true)?;
            let up = Flow::beginning_with(ahead);
            Stage::Tcp { target: socket, connected: false, up, down: Flow::default() }
        }
        Protocol::Udp => Stage::Udp { target: socket, up: ahead.to_vec(), down: Frame::default() },
    })
}

fn carry(
    host: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    connected: bool,
    up: &mut Flow,
    down: &mut Flow,
    buffer: &mut [u8],
) -> Moved {
    // The end of what the host sends must not be told to a socket that is not connected yet: that would close it.
    let sent = if connected { up.turn(host, target, buffer) } else { Turn::Waits };
    let came = down.turn(target, host, buffer);
    match (sent, came) {
        (_, Turn::Broken) => Moved::Over,
        (Turn::Broken, _) => {
            up.give_up();
            Moved::HasMore
        }
        _ if up.is_over() && down.is_over() => Moved::Over,
        (Turn::HasMore, _) | (_, Turn::HasMore) => Moved::HasMore,
        (Turn::Waits, Turn::Waits) => Moved::Waits,
    }
}

fn exchange(
    host: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    up: &mut Vec<u8>,
    down: &mut Frame,
    buffer: &mut [u8],
) -> Moved {
    match (send_datagrams(host, target, up, buffer), receive_datagrams(host, target, down, buffer)) {
        (Turn::Broken, _) | (_, Turn::Broken) => Moved::Over,
        (Turn::HasMore, _) | (_, Turn::HasMore) => Moved::HasMore,
        (Turn::Waits, Turn::Waits) => Moved::Waits,
    }
}

/// Takes frames apart. A datagram that cannot be sent now is lost, as datagrams may be.
fn send_datagrams(host: BorrowedFd<'_>, target: BorrowedFd<'_>, up: &mut Vec<u8>, buffer: &mut [u8]) -> Turn {
    for _ in 0..DATAGRAMS {
        let mut rest = &up[..];
        while let Some((length, bytes)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            if length > DATAGRAM_MAX {
                return Turn::Broken;
            }
            let Some((datagram, behind)) = bytes.split_at_checked(length) else { break };
            let _ = write(target, datagram);
            rest = behind;
        }
        *up = rest.to_vec();
        match rustix::io::read(host, &mut *buffer) {
            // A session has no other end.
            Ok(0) => return Turn::Broken,
            Ok(count) => up.extend_from_slice(&buffer[..count]),
            Err(Errno::AGAIN) => return Turn::Waits,
            Err(Errno::INTR) => {}
            Err(_) => return Turn::Broken,
        }
    }
    Turn::HasMore
}

fn receive_datagrams(
    host: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    down: &mut Frame,
    buffer: &mut [u8],
) -> Turn {
    for _ in 0..DATAGRAMS {
        while down.written < down.bytes.len() {
            match write(host, &down.bytes[down.written..]) {
                Ok(count) => down.written += count,
                Err(Errno::AGAIN) => return Turn::Waits,
                Err(_) => return Turn::Broken,
            }
        }
        match recv(target, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, count)) => {
                let length = u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes();
                *down = Frame { bytes: [&length, &buffer[..count]].concat(), written: 0 };
            }
            Err(Errno::AGAIN) => return Turn::Waits,
            // Nobody listened at an earlier one: the next may find somebody.
            Err(Errno::INTR | Errno::CONNREFUSED) => {}
            Err(_) => return Turn::Broken,
        }
    }
    Turn::HasMore
}
