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
//! A carrier that comes back, or a machine that slept, leads from Bound to Rebinding at once: the address is kept and
//! asked for anew, since the card may be in another network now (RFC 2131 section 3.7).
//!
//! It does not probe the address by ARP: the links it runs on are a hypervisor's.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::changes;
use super::wire::{Answer, AnswerKind, Mac, Options, Question, QuestionKind};

/// A time, counted from the boot and through every sleep of the machine (CLOCK_BOOTTIME): a lease ends while it sleeps.
pub type Moment = Duration;

/// First wait for an answer. RFC 2131 says 4 s, for networks that span buildings; a hypervisor answers in
/// milliseconds and a lost first packet should not cost a boot 4 s.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(64);
/// RFC 2131 section 4.4.5: no renewal is tried more often than each minute; of a short lease, each 16th of it.
const RENEW_WAIT: Duration = Duration::from_secs(60);
/// Tries of an offer before it is given up.
const SELECT_TRIES: u32 = 4;
/// Where a server names no time. One of 0 would be asked for without end.
const LEASE: std::ops::RangeInclusive<u32> = 4..=FOREVER;
const DEFAULT_LEASE: u32 = 86400;
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
    /// Configure the card, which has the configuration of `before`.
    Apply {
        /// The last lease, if it is not lost.
        before: Option<Lease>,
        /// The new one.
        lease: Lease,
    },
    /// Take the address from the card.
    Lost(Lease),
}

/// Whom a bound client asks to keep its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// Nobody yet.
    Nobody,
    /// The server that gave it.
    Server,
    /// All.
    Everybody,
}

#[derive(Debug)]
struct Bound {
    lease: Lease,
    server: Ipv4Addr,
    asks: Asks,
    t1: Moment,
    t2: Moment,
    over: Moment,
    /// Between two questions at least.
    pause: Duration,
}

#[derive(Debug)]
enum State {
    Selecting,
    Requesting { address: Ipv4Addr, server: Ipv4Addr, tries: u32 },
    Bound(Box<Bound>),
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    mac: Mac,
    transaction: u32,
    /// Of the next random number.
    random: u32,
    state: State,
    /// When the next question is due.
    next: Moment,
    wait: Duration,
    /// When the present exchange began: a lease counts from there at the earliest.
    asked: Moment,
}

impl Client {
    /// A client that asks at `now`. `seed` makes its transactions and its waits differ from those of others.
    pub fn new(mac: Mac, seed: u32, now: Moment) -> Client {
        let (state, wait) = (State::Selecting, FIRST_WAIT);
        let mut client = Client { mac, transaction: 0, random: seed | 1, state, next: now, wait, asked: now };
        client.transaction = client.random();
        client
    }

    /// When [`Client::tick`] has something to do.
    pub fn deadline(&self) -> Moment {
        self.next
    }

    /// The lease, while there is one.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound(bound) => Some(&bound.lease),
            _ => None,
        }
    }

    /// The link is there again, or time has passed that nobody counted: whatever was waited for is asked now.
    pub fn look_again(&mut self, now: Moment) {
        (self.wait, self.next) = (FIRST_WAIT, now);
        if let State::Bound(bound) = &mut self.state {
            (bound.t1, bound.t2) = (bound.t1.min(now), bound.t2.min(now));
            bound.asks = Asks::Nobody;
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now: Moment) -> Vec<Act> {
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
    pub fn receive(&mut self, bytes: &[u8], now: Moment) -> Vec<Act> {
        let Some(answer) = Answer::decode(bytes) else { return Vec::new() };
        if answer.transaction != self.transaction || answer.mac != self.mac {
            return Vec::new();
        }
        match (&self.state, answer.kind, answer.server) {
            (State::Selecting, AnswerKind::Offer, Some(server)) => {
                self.state = State::Requesting { address: answer.address, server, tries: 0 };
                (self.wait, self.asked) = (FIRST_WAIT, now);
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
            (State::Bound(bound), kind, _) if bound.asks != Asks::Nobody => self.renewed(kind, answer, now),
            _ => Vec::new(),
        }
    }

    fn renewed(&mut self, kind: AnswerKind, answer: Answer, now: Moment) -> Vec<Act> {
        let State::Bound(bound) = &self.state else { return Vec::new() };
        match kind {
            AnswerKind::Offer => Vec::new(),
            AnswerKind::Ack => {
                let server = answer.server.unwrap_or(bound.server);
                let apply = self.bind(answer, server);
                let needed = |act: &Act| match act {
                    Act::Apply { before, lease } => !changes::between(before.as_ref(), lease).is_empty(),
                    _ => true,
                };
                Some(apply).filter(needed).into_iter().collect()
            }
            AnswerKind::Nak => {
                let lost = Act::Lost(bound.lease.clone());
                self.restart(now);
                vec![lost, self.ask(now)]
            }
        }
    }

    fn restart(&mut self, next: Moment) {
        self.transaction = self.random();
        (self.state, self.next, self.wait) = (State::Selecting, next, FIRST_WAIT);
    }

    /// Makes the question of the present state and sets when it is due again.
    fn ask(&mut self, now: Moment) -> Act {
        self.begin_exchange(now);
        let wait = self.jittered(self.wait);
        let (kind, to, next) = match &mut self.state {
            State::Selecting => (QuestionKind::Discover, None, now + wait),
            State::Requesting { address, server, tries } => {
                *tries += 1;
                (QuestionKind::Select { address: *address, server: *server }, None, now + wait)
            }
            State::Bound(bound) => {
                let (to, end) = match bound.asks {
                    Asks::Server => (Some(bound.server), bound.t2),
                    _ => (None, bound.over),
                };
                // Half of what remains, RFC 2131 section 4.4.5.
                let half = (end.saturating_sub(now) / 2).max(bound.pause);
                (QuestionKind::Renew { address: bound.lease.address }, to, (now + half).min(end))
            }
        };
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.next = next;
        Act::Send { bytes: Question { transaction: self.transaction, mac: self.mac, kind }.encode(), to }
    }

    /// Where a bound client begins to ask, or begins to ask others: an exchange of its own, so that the answer to an
    /// earlier one counts no more.
    fn begin_exchange(&mut self, now: Moment) {
        let State::Bound(bound) = &mut self.state else { return };
        let asks = if now < bound.t2 { Asks::Server } else { Asks::Everybody };
        if asks != bound.asks {
            bound.asks = asks;
            self.asked = now;
            self.transaction = self.random();
        }
    }

    fn bind(&mut self, answer: Answer, server: Ipv4Addr) -> Act {
        let options = answer.options;
        let total = options.lease.unwrap_or(DEFAULT_LEASE).clamp(*LEASE.start(), *LEASE.end());
        let t2 = options.t2.filter(|t2| *t2 < total).unwrap_or(total / 8 * 7 + total % 8 * 7 / 8);
        let t1 = options.t1.filter(|t1| *t1 < t2).unwrap_or(total / 2).min(t2);
        let after = |seconds: u32| self.asked + Duration::from_secs(seconds.into());
        let (t1, t2, over) = (after(t1), after(t2), after(total));
        let lease = Lease { address: answer.address, prefix: options.prefix.unwrap_or(24), options };
        let pause = RENEW_WAIT.min(Duration::from_secs(total.into()) / 16);
        let before = self.lease().cloned();
        let asks = Asks::Nobody;
        let bound = Bound { lease: lease.clone(), server, asks, t1, t2, over, pause };
        self.state = State::Bound(Box::new(bound));
        self.next = t1;
        self.wait = FIRST_WAIT;
        Act::Apply { before, lease }
    }

    /// A quarter more or less: machines that were started together shall not ask together for ever (RFC 2131 section 4.1).
    fn jittered(&mut self, wait: Duration) -> Duration {
        wait * (768 + self.random() % 513) / 1024
    }

    /// Marsaglia's xorshift: different, not secret.
    fn random(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }
}

#[cfg(test)]
#[path = "dhcp_tests.rs"]
mod tests;
