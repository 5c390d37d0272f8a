//! A netlink socket that speaks in batches.
//!
//! The kernel works a batch off inside sendmsg(2), so its answers wait in the socket when the call returns and
//! nothing here ever blocks. A socket belongs to the network namespace of the thread that opened it.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

use netlink_sys::{Socket, SocketAddr};

use super::message::{self, Batch, Reply};

/// Which part of the kernel a socket talks to: `NETLINK_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Route = 0,
    Netfilter = 12,
}

/// Why the kernel's networking did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No socket, or the socket failed.
    #[error("speaking to the kernel's networking failed: {source}")]
    Socket {
        /// Of socket(2), send(2) or recv(2).
        #[from]
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("{purpose} failed: {source}{}", detail.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// What was to be done.
        purpose: &'static str,
        /// Its errno.
        source: io::Error,
        /// The kernel's own words, where it has some.
        detail: Option<String>,
    },
    /// An answer is missing or has no sense.
    #[error("{purpose}: the kernel gave no answer")]
    NoAnswer {
        /// What was asked.
        purpose: &'static str,
    },
    /// A namespace could not be made or entered, or its settings not be written.
    #[error("{action} failed: {source}")]
    Namespace {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A name that cannot be an interface's.
    #[error("invalid interface name {name:?}: use 1 to 15 characters without '/', ':' and spaces")]
    Name {
        /// As given.
        name: String,
    },
}

impl NetworkError {
    /// The kernel's error number, where it gave one.
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            NetworkError::Refused { source, .. }
            | NetworkError::Socket { source }
            | NetworkError::Namespace { source, .. } => rustix::io::Errno::from_io_error(source),
            NetworkError::NoAnswer { .. } | NetworkError::Name { .. } => None,
        }
    }
}

/// A connection to one part of the kernel's networking, in one network namespace.
#[derive(Debug)]
pub(super) struct Netlink(Mutex<Connection>);

#[derive(Debug)]
struct Connection {
    socket: Socket,
    received: Vec<u8>,
    /// An exchange ended early; more answers may wait.
    unread: bool,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(super) fn open(protocol: Protocol) -> Result<Netlink, NetworkError> {
        let mut socket = Socket::new(protocol as isize)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Errors carry the kernel's text and not the whole request.
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        socket.set_non_blocking(true)?;
        debug_assert!(socket.as_raw_fd() >= 0);
        Ok(Netlink(Mutex::new(Connection { socket, received: Vec::with_capacity(32 * 1024), unread: false })))
    }

    /// Sends the batch and waits for its acknowledgement.
    pub(super) fn tell(&self, batch: &mut Batch) -> Result<(), NetworkError> {
        if batch.awaited.is_none() {
            batch.acknowledge();
        }
        self.exchange(batch, |_| {})
    }

    /// Sends the batch and hands each message of the answer to `each`.
    pub(super) fn ask(&self, batch: &Batch, each: impl FnMut(Reply<'_>)) -> Result<(), NetworkError> {
        self.exchange(batch, each)
    }

    fn exchange(&self, batch: &Batch, each: impl FnMut(Reply<'_>)) -> Result<(), NetworkError> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connection.drain()?;
        connection.socket.send(batch.bytes(), 0)?;
        connection.answers(batch, each)
    }
}

impl Connection {
    /// Reads away what an earlier, failed batch left behind.
    fn drain(&mut self) -> Result<(), NetworkError> {
        while self.unread && self.receive()? {}
        self.unread = false;
        Ok(())
    }

    /// Takes one datagram; false where none waits.
    fn receive(&mut self) -> Result<bool, NetworkError> {
        self.received.clear();
        match self.socket.recv(&mut self.received, 0) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn answers(&mut self, batch: &Batch, mut each: impl FnMut(Reply<'_>)) -> Result<(), NetworkError> {
        let last = batch.awaited.unwrap_or(batch.purposes.len() - 1);
        let purpose = |sequence: u32| batch.purposes.get(sequence as usize).copied().unwrap_or("a request");
        let mut failed = None;
        let mut ended = false;
        self.unread = true;
        while !ended && self.receive()? {
            for reply in message::replies(&self.received) {
                match reply.kind {
                    message::ERROR => {
                        let error = refusal(&reply, purpose(reply.sequence));
                        failed = failed.or(error);
                        ended |= reply.sequence as usize == last;
                    }
                    message::DONE => ended = true,
                    _ => {
                        ended |= reply.sequence as usize == last;
                        each(reply);
                    }
                }
            }
        }
        self.unread = failed.is_some() || !ended;
        match failed {
            Some(error) => Err(error),
            None if ended => Ok(()),
            None => Err(NetworkError::NoAnswer { purpose: purpose(0) }),
        }
    }
}

/// The error of an acknowledgement, if it is one (`struct nlmsgerr` and its attributes).
fn refusal(reply: &Reply<'_>, purpose: &'static str) -> Option<NetworkError> {
    const CAPPED: u16 = 0x100;
    const HAS_ATTRIBUTES: u16 = 0x200;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let errno = message::u32_at(reply.payload, 0)?.cast_signed();
    if errno == 0 {
        return None;
    }
    let source = io::Error::from_raw_os_error(-errno);
    // The error number, the header of the request, and its body unless that was capped.
    let body = if reply.flags & CAPPED == 0 { message::u32_at(reply.payload, 4)? as usize } else { 16 };
    let attributes = reply.payload.get(4 + body.next_multiple_of(4)..).unwrap_or_default();
    let attributes = if reply.flags & HAS_ATTRIBUTES == 0 { &[] } else { attributes };
    let detail = message::attributes(attributes).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG);
    Some(NetworkError::Refused { purpose, source, detail: detail.map(|(_, value)| message::text(value)) })
}
