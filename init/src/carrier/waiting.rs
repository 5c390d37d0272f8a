//! Clients in the machine that want to reach the host: those of the ssh agent's socket, and those of the address that stands
//! for the host.
//!
//! Only the host dials. So it always has streams waiting here, and a client that comes is joined to one; the host learns of
//! it from the first bytes, and has the next stream waiting. A client for whom none comes is sent away.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use contract::carrier::wanted;
use rustix::net::{SocketFlags, accept_with, sockopt};

/// A host that serves them has the next stream here in milliseconds.
const STREAM_WITHIN: Duration = Duration::from_secs(5);
/// Clients that wait at the same time; the next one stays in the socket's queue.
const WAITING: usize = 256;

/// Which of the host's services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The ssh agent of its user.
    Agent,
    /// Ports of its loopback interface.
    Ports,
}

/// See the module.
pub struct Waiting {
    listener: OwnedFd,
    service: Service,
    /// Links that wait for a client, oldest first.
    spare: VecDeque<usize>,
    /// Clients that wait for a link, oldest first.
    clients: VecDeque<(Client, Instant)>,
}

/// A client with what the host is told of it first.
pub struct Client {
    pub socket: OwnedFd,
    pub head: Vec<u8>,
}

impl Waiting {
    /// Of a socket that listens.
    pub fn new(service: Service, listener: OwnedFd) -> Waiting {
        Waiting { listener, service, spare: VecDeque::new(), clients: VecDeque::new() }
    }

    /// The socket, for watching.
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Which of the host's services it is.
    pub fn service(&self) -> Service {
        self.service
    }

    /// Takes those that have come.
    pub fn accept(&mut self) {
        while self.clients.len() < WAITING {
            // One that has gone again is none.
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(socket) = accept_with(&self.listener, flags) else { return };
            let head = match self.service {
                Service::Agent => Some(Vec::new()),
                Service::Ports => port(&socket),
            };
            if let Some(head) = head {
                self.clients.push_back((Client { socket, head }, Instant::now()));
            }
        }
    }

    /// A link waits.
    pub fn offer(&mut self, link: usize) {
        if !self.spare.contains(&link) {
            self.spare.push_back(link);
        }
    }

    /// A link does not wait any more.
    pub fn withdraw(&mut self, link: usize) {
        self.spare.retain(|spare| *spare != link);
    }

    /// The next link with the client that it gets.
    pub fn pair(&mut self) -> Option<(usize, Client)> {
        let (client, _) = if self.spare.is_empty() { None } else { self.clients.pop_front() }?;
        Some((self.spare.pop_front()?, client))
    }

    /// Whether somebody waits.
    pub fn has_clients(&self) -> bool {
        !self.clients.is_empty()
    }

    /// Sends those away for whom nothing came.
    pub fn look_at_the_time(&mut self, now: Instant) {
        while self.clients.front().is_some_and(|(_, since)| now.duration_since(*since) > STREAM_WITHIN) {
            self.clients.pop_front();
        }
    }
}

/// The port that a client asked for, before the packet filter turned it here; a client that came otherwise is none.
fn port(socket: &OwnedFd) -> Option<Vec<u8>> {
    const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    let asked = sockopt::ip_original_dst(socket).unwrap_or(NOBODY);
    let _ = sockopt::set_tcp_nodelay(socket, true);
    (asked.port() != 0).then(|| wanted(asked.port()).into_bytes())
}
