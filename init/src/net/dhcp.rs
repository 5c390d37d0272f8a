//! The DHCP client of RFC 2131 figure 5 as a pure state machine: time and packets in, [`Act`]s out.
//!
//! ```text
//!              offer              ack               T1              T2
//!   Selecting ───────► Requesting ────► Bound ────────► Renewing ───────► Rebinding
//!      ▲  ▲ no answer, nak │              ▲   ack          │ │      ack       │
//!      │  └────────────────┘              └────────────────┘─┘────────────────┤
//!      └────────────────────────────── nak or lease over: Lost ───────────────┘
//! ```
//!
//! It does not probe the address by ARP: the links it runs on are a hypervisor's.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::wire::{Answer, AnswerKind, Mac, Options, Question, QuestionKind};

/// First wait for an answer. RFC 2131 says 4 s, for networks that span buildings; a hypervisor answers in
/// milliseconds and a lost first packet should not cost a boot 4 s.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(64);
/// RFC 2131 section 4.4.5: no renewal is tried more often than each minute.
const RENEW_WAIT: Duration = Duration::from_secs(60);
/// Tries of an offer before it is given up.
const SELECT_TRIES: u32 = 4;
/// An infinite lease, RFC 2132 section 9.2; shorter here so that time arithmetic stays in range.
const FOREVER: u32 = 10 * 365 * 86400;

/// An address and all that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
    /// The rest.
    pub options: Options,
}

/// What the caller shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Send the question to this server, or to all.
    Send {
        /// The packet's bytes.
        bytes: Vec<u8>,
        /// Where to; broadcast where `None`.
        to: Option<Ipv4Addr>,
    },
    /// Configure the card.
    Apply(Lease),
    /// Take the address from the card.
    Lost(Lease),
}

#[derive(Debug)]
struct Bound {
    lease: Lease,
    server: Ipv4Addr,
    t1: Instant,
    t2: Instant,
    over: Instant,
}

#[derive(Debug)]
enum State {
    Selecting,
    Requesting { address: Ipv4Addr, server: Ipv4Addr, tries: u32 },
    Bound(Bound),
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    mac: Mac,
    transaction: u32,
    state: State,
    /// When the next question is due.
    next: Instant,
    wait: Duration,
    /// When the question being answered was sent: a lease counts from there.
    asked: Instant,
}

impl Client {
    /// A client that asks at `now`. `seed` makes its transactions differ from those of others.
    pub fn new(mac: Mac, seed: u32, now: Instant) -> Client {
        Client { mac, transaction: seed, state: State::Selecting, next: now, wait: FIRST_WAIT, asked: now }
    }

    /// When [`Client::tick`] has something to do.
    pub fn deadline(&self) -> Instant {
        self.next
    }

    /// Time passes.
    pub fn tick(&mut self, now: Instant) -> Vec<Act> {
        if now < self.next {
            return Vec::new();
        }
        match &mut self.state {
            State::Bound(bound) if now >= bound.over => {
                let lost = Act::Lost(bound.lease.clone());
                self.restart(now);
                vec![lost, self.ask(now)]
            }
            State::Requesting { tries, .. } if *tries >= SELECT_TRIES => {
                self.restart(now);
                vec![self.ask(now)]
            }
            _ => vec![self.ask(now)],
        }
    }

    /// A packet came.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Vec<Act> {
        let Some(answer) = Answer::decode(bytes) else { return Vec::new() };
        if answer.transaction != self.transaction || answer.mac != self.mac {
            return Vec::new();
        }
        match (&self.state, answer.kind, answer.server) {
            (State::Selecting, AnswerKind::Offer, Some(server)) => {
                self.state = State::Requesting { address: answer.address, server, tries: 0 };
                self.wait = FIRST_WAIT;
                vec![self.ask(now)]
            }
            (State::Requesting { address, server, .. }, AnswerKind::Ack, _) if *address == answer.address => {
                let server = *server;
                vec![self.bind(answer, server)]
            }
            (State::Requesting { .. }, AnswerKind::Nak, _) => {
                // Not at once: a server that offers what it then refuses would be asked without end.
                self.restart(now + FIRST_WAIT);
                Vec::new()
            }
            (State::Bound(bound), kind, _) if now >= bound.t1 => self.renewed(kind, answer, now),
            _ => Vec::new(),
        }
    }

    fn renewed(&mut self, kind: AnswerKind, answer: Answer, now: Instant) -> Vec<Act> {
        let State::Bound(bound) = &self.state else { return Vec::new() };
        match kind {
            AnswerKind::Offer => Vec::new(),
            AnswerKind::Ack => {
                let (old, server) = (bound.lease.clone(), answer.server.unwrap_or(bound.server));
                let apply = self.bind(answer, server);
                if apply == Act::Apply(old.clone()) { Vec::new() } else { vec![Act::Lost(old), apply] }
            }
            AnswerKind::Nak => {
                let lost = Act::Lost(bound.lease.clone());
                self.restart(now);
                vec![lost, self.ask(now)]
            }
        }
    }

    fn restart(&mut self, next: Instant) {
        self.transaction = self.transaction.wrapping_add(1);
        (self.state, self.next, self.wait) = (State::Selecting, next, FIRST_WAIT);
    }

    /// Makes the question of the present state and sets when it is due again.
    fn ask(&mut self, now: Instant) -> Act {
        let (kind, to, next) = match &mut self.state {
            State::Selecting => (QuestionKind::Discover, None, now + self.wait),
            State::Requesting { address, server, tries } => {
                *tries += 1;
                (QuestionKind::Select { address: *address, server: *server }, None, now + self.wait)
            }
            State::Bound(bound) => {
                let (to, end) =
                    if now < bound.t2 { (Some(bound.server), bound.t2) } else { (None, bound.over) };
                // Half of what remains, RFC 2131 section 4.4.5.
                let half = (end.saturating_duration_since(now) / 2).max(RENEW_WAIT);
                (QuestionKind::Renew { address: bound.lease.address }, to, (now + half).min(end))
            }
        };
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.next = next.max(now + FIRST_WAIT);
        self.asked = now;
        Act::Send { bytes: Question { transaction: self.transaction, mac: self.mac, kind }.encode(), to }
    }

    fn bind(&mut self, answer: Answer, server: Ipv4Addr) -> Act {
        let options = answer.options;
        let total = options.lease.unwrap_or(86400).clamp(60, FOREVER);
        let t2 = options.t2.filter(|t2| *t2 < total).unwrap_or(total / 8 * 7);
        let t1 = options.t1.filter(|t1| *t1 < t2).unwrap_or(total / 2).min(t2);
        let after = |seconds: u32| self.asked + Duration::from_secs(seconds.into());
        let (t1, t2, over) = (after(t1), after(t2), after(total));
        let lease = Lease { address: answer.address, prefix: options.prefix.unwrap_or(24), options };
        self.state = State::Bound(Bound { lease: lease.clone(), server, t1, t2, over });
        self.next = t1;
        self.wait = FIRST_WAIT;
        Act::Apply(lease)
    }
}

#[cfg(test)]
#[path = "dhcp_tests.rs"]
mod tests;
