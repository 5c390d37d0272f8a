//! The socket of the ssh agent of the host's user.
//!
//! Only the host dials. So it always has a stream waiting here, and a client that comes is joined to it; the host sees the
//! client's first bytes, asks its agent, and has the next stream waiting. A client for whom none comes is sent away: the
//! host's user has no agent.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{SocketFlags, accept_with};

/// A host that has an agent has the next stream here in milliseconds.
const STREAM_WITHIN: Duration = Duration::from_secs(5);
/// Clients that wait at the same time; the next one stays in the socket's queue.
const WAITING: usize = 256;

/// See the module.
pub struct Agent {
    listener: OwnedFd,
    /// Links that wait for a client, oldest first.
    spare: VecDeque<usize>,
    /// Clients that wait for a link, oldest first.
    waiting: VecDeque<(OwnedFd, Instant)>,
}

impl Agent {
    /// Of a socket that listens.
    pub fn new(listener: OwnedFd) -> Agent {
        Agent { listener, spare: VecDeque::new(), waiting: VecDeque::new() }
    }

    /// Takes those that have come.
    pub fn accept(&mut self) {
        while self.waiting.len() < WAITING {
            // One that has gone again is none.
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(client) = accept_with(&self.listener, flags) else { return };
            self.waiting.push_back((client, Instant::now()));
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
    pub fn pair(&mut self) -> Option<(usize, OwnedFd)> {
        let (client, _) = if self.spare.is_empty() { None } else { self.waiting.pop_front() }?;
        Some((self.spare.pop_front()?, client))
    }

    /// Whether somebody waits.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends those away for whom nothing came.
    pub fn look_at_the_time(&mut self, now: Instant) {
        while self.waiting.front().is_some_and(|(_, since)| now.duration_since(*since) > STREAM_WITHIN) {
            self.waiting.pop_front();
        }
    }
}
