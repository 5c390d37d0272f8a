//! The host door: what the engine asks of the host, on a connection that the host dials and that lasts.
//!
//! Served by the engine on vsock port [`crate::vsock::DOOR_PORT`] and, in the namespace backend, on
//! [`crate::paths::DOOR_SOCKET`]. The listener outlives the engine.
//!
//! ```text
//!   host                                             guest
//!     door 1 ──────────────────────────────────────►
//!     ◄───────────────────────────────────── door 1
//!     ◄───── 1 publish tcp * 8080 8080 172.17.0.2 80         said again for all that is published, then
//!     ◄───────────────────────────────── 2 settled           what was not said again is closed
//!     1 port 8080 ──────────────────────────────────►
//!     2 ok ─────────────────────────────────────────►
//!     ◄──── 3 publish udp 127.0.0.1 0 0 172.17.0.3 53
//!     3 error in-use address already in use ────────►
//!     ◄────────────────────────────────── 4 watch
//!     4 changed ────────────────────────────────────►         and again whenever there is something to be read
//! ```
//!
//! A port that is published again in the same place gets the new target and keeps its connections. The host that dialled last is
//! the one that is asked. Either side may be of another release: the lower of the two versions is spoken, words behind those
//! that a line is known to have are passed over, and a request that the host does not know is answered with `error unknown`.

use crate::carrier::Protocol;
use std::net::{IpAddr, SocketAddr};

/// Raised when lines get another form.
pub const VERSION: u16 = 1;

/// Longest line, newline included, in bytes.
pub const LINE_MAX: usize = 1024;

/// Which of the host's addresses a port is opened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostAddress {
    /// `*`: all of them, of IPv4 and, where the host has it, IPv6, by the same number.
    All,
    /// This one; `0.0.0.0` and `::` are all of one kind.
    One(IpAddr),
}

/// A port of the host's that is to lead to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication {
    /// What is spoken.
    pub protocol: Protocol,
    /// Where the host listens.
    pub host: HostAddress,
    /// The first of the numbers that will do; 0 for any that is free.
    pub first: u16,
    /// The last of them; 0 for any.
    pub last: u16,
    /// What the carrier is told.
    pub target: SocketAddr,
}

/// What the engine asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `publish PROTOCOL HOST FIRST LAST ADDRESS PORT`: answered with [`Answer::Port`] when the port is open.
    Publish(Publication),
    /// `release PROTOCOL HOST PORT`: answered with [`Answer::Done`] when it is closed, also where it was not open. Connections
    /// that go on are left to their ends.
    Release {
        /// What is spoken.
        protocol: Protocol,
        /// As it was published.
        host: HostAddress,
        /// The number that the host answered.
        port: u16,
    },
    /// `watch`: answered with [`Answer::Changed`] at once and again and again, whenever changes of the host's folders wait to be
    /// read from [`crate::paths::HOST_CHANGES`].
    Watch,
    /// `settled`: all that is published was said on this connection; whatever else is open is closed.
    Settled,
}

/// Why the host does not open a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `in-use`: somebody else has it.
    InUse,
    /// `denied`: the host's user may not have it.
    Denied,
    /// `no-address`: the host has no such address.
    NoAddress,
    /// `unknown`: the host does not know the request.
    Unknown,
    /// `failed`: anything else.
    Failed,
}

/// What the host answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// `ok`.
    Done,
    /// `port NUMBER`: open, by this number.
    Port(u16),
    /// `changed`: folders of the host have changed.
    Changed,
    /// `error WORD TEXT`: not done.
    Refused {
        /// For a program.
        why: Refusal,
        /// For a person.
        text: String,
    },
}

/// The first line of either side, with its newline.
pub fn hello() -> String {
    format!("door {VERSION}\n")
}

/// The version of a first line.
pub fn hello_version(line: &str) -> Option<u16> {
    let mut words = line.split_ascii_whitespace();
    words.next().filter(|word| *word == "door")?;
    words.next()?.parse().ok().filter(|version| *version > 0)
}

impl HostAddress {
    fn encode(self) -> String {
        match self {
            HostAddress::All => "*".to_owned(),
            HostAddress::One(ip) => ip.to_string(),
        }
    }

    fn decode(word: &str) -> Option<HostAddress> {
        match word {
            "*" => Some(HostAddress::All),
            ip => ip.parse().ok().map(HostAddress::One),
        }
    }
}

impl Request {
    /// The line with its newline.
    pub fn encode(&self, number: u32) -> String {
        match *self {
            Request::Publish(Publication { protocol, host, first, last, target }) => format!(
                "{number} publish {protocol} {} {first} {last} {} {}\n",
                host.encode(),
                target.ip(),
                target.port()
            ),
            Request::Release { protocol, host, port } => {
                format!("{number} release {protocol} {} {port}\n", host.encode())
            }
            Request::Watch => format!("{number} watch\n"),
            Request::Settled => format!("{number} settled\n"),
        }
    }

    /// Reads a line, with or without its newline: its number, and the request where it is one of this release. Nothing where
    /// there is not even a number to answer to.
    pub fn decode(line: &str) -> Option<(u32, Option<Request>)> {
        let mut words = line.split_ascii_whitespace();
        let number = words.next()?.parse().ok()?;
        Some((number, Request::of_words(words)))
    }

    fn of_words<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Request> {
        match words.next()? {
            "publish" => {
                let protocol = Protocol::of_word(words.next()?)?;
                let host = HostAddress::decode(words.next()?)?;
                let (first, last) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                let target = SocketAddr::new(words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                let is_range = first <= last && (first != 0 || last == 0);
                is_range.then_some(Request::Publish(Publication { protocol, host, first, last, target }))
            }
            "release" => Some(Request::Release {
                protocol: Protocol::of_word(words.next()?)?,
                host: HostAddress::decode(words.next()?)?,
                port: words.next()?.parse().ok()?,
            }),
            "watch" => Some(Request::Watch),
            "settled" => Some(Request::Settled),
            _ => None,
        }
    }
}

impl Refusal {
    fn word(self) -> &'static str {
        match self {
            Refusal::InUse => "in-use",
            Refusal::Denied => "denied",
            Refusal::NoAddress => "no-address",
            Refusal::Unknown => "unknown",
            Refusal::Failed => "failed",
        }
    }

    fn of_word(word: &str) -> Refusal {
        [Refusal::InUse, Refusal::Denied, Refusal::NoAddress, Refusal::Unknown]
            .into_iter()
            .find(|refusal| refusal.word() == word)
            .unwrap_or(Refusal::Failed)
    }
}

impl Answer {
    /// The line with its newline.
    pub fn encode(&self, number: u32) -> String {
        match self {
            Answer::Done => format!("{number} ok\n"),
            Answer::Changed => format!("{number} changed\n"),
            Answer::Port(port) => format!("{number} port {port}\n"),
            Answer::Refused { why, text } => {
                format!("{number} error {} {}\n", why.word(), crate::line::plain(text))
            }
        }
    }

    /// Reads a line, with or without its newline.
    pub fn decode(line: &str) -> Option<(u32, Answer)> {
        let (number, rest) = line.trim_end_matches(['\r', '\n']).split_once(' ')?;
        let number = number.parse().ok()?;
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(match word {
            "ok" => (number, Answer::Done),
            "changed" => (number, Answer::Changed),
            "port" => (number, Answer::Port(rest.split_ascii_whitespace().next()?.parse().ok()?)),
            "error" => {
                let (why, text) = rest.split_once(' ').unwrap_or((rest, ""));
                (number, Answer::Refused { why: Refusal::of_word(why), text: text.to_owned() })
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn protocol() -> impl Strategy<Value = Protocol> {
        prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]
    }

    fn host() -> impl Strategy<Value = HostAddress> {
        prop_oneof![Just(HostAddress::All), any::<IpAddr>().prop_map(HostAddress::One)]
    }

    fn publication() -> impl Strategy<Value = Publication> {
        let range = prop_oneof![Just((0, 0)), (1u16.., 1u16..).prop_map(|(a, b)| (a.min(b), a.max(b)))];
        (protocol(), host(), range, any::<SocketAddr>()).prop_map(
            |(protocol, host, (first, last), target)| {
                // A scope or a flow is no part of a line.
                let target = SocketAddr::new(target.ip(), target.port());
                Publication { protocol, host, first, last, target }
            },
        )
    }

    fn request() -> impl Strategy<Value = Request> {
        prop_oneof![
            publication().prop_map(Request::Publish),
            (protocol(), host(), any::<u16>()).prop_map(|(protocol, host, port)| Request::Release {
                protocol,
                host,
                port
            }),
            Just(Request::Watch),
            Just(Request::Settled),
        ]
    }

    fn answer() -> impl Strategy<Value = Answer> {
        let refusal = prop_oneof![
            Just(Refusal::InUse),
            Just(Refusal::Denied),
            Just(Refusal::NoAddress),
            Just(Refusal::Unknown),
            Just(Refusal::Failed)
        ];
        prop_oneof![
            Just(Answer::Done),
            Just(Answer::Changed),
            any::<u16>().prop_map(Answer::Port),
            (refusal, "[a-z][a-z ]{0,40}").prop_map(|(why, text)| Answer::Refused { why, text }),
        ]
    }

    proptest! {
        #[test]
        fn requests_survive_the_way(number in any::<u32>(), request in request()) {
            let line = request.encode(number);
            prop_assert!(line.len() <= LINE_MAX && line.ends_with('\n'));
            prop_assert_eq!(Request::decode(&line), Some((number, Some(request))));
            let longer = format!("{} later words\n", line.trim_end());
            prop_assert_eq!(Request::decode(&longer), Some((number, Some(request))));
        }

        #[test]
        fn answers_survive_the_way(number in any::<u32>(), answer in answer()) {
            let line = answer.encode(number);
            prop_assert!(line.len() <= LINE_MAX);
            prop_assert_eq!(Answer::decode(&line), Some((number, answer)));
        }

        #[test]
        fn any_line_is_read_without_panic_and_any_text_fits(line in ".{0,1200}") {
            let _ = (Request::decode(&line), Answer::decode(&line), hello_version(&line));
            let refused = Answer::Refused { why: Refusal::Failed, text: line }.encode(u32::MAX);
            prop_assert!(refused.len() <= LINE_MAX && refused.matches('\n').count() == 1);
        }
    }

    #[test]
    fn what_is_no_request_keeps_its_number() {
        for line in
            ["7 swim", "7 publish", "7 publish tcp * 9 8 1.2.3.4 80", "7 publish tcp * 0 8 1.2.3.4 80", "7"]
        {
            assert_eq!(Request::decode(line), Some((7, None)), "{line}");
        }
        for line in ["", "x settled", "-1 settled"] {
            assert_eq!(Request::decode(line), None, "{line}");
        }
    }

    #[test]
    fn hellos_have_a_version() {
        assert_eq!(hello_version(&hello()), Some(VERSION));
        assert_eq!(hello_version("door 7 with more"), Some(7));
        for line in ["", "door", "door 0", "door x", "hello 1"] {
            assert_eq!(hello_version(line), None, "{line}");
        }
    }
}
