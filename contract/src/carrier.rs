//! What `carrier` is told: one line at the head of a stream that the host dials, then the bytes of a published port.
//!
//! Served on vsock port [`crate::vsock::CARRIER_PORT`] and, in the namespace backend, on [`crate::paths::CARRIER_SOCKET`].
//!
//! ```text
//!   tcp 172.17.0.2 80          both directions as they are, each with an end of its own
//!   udp 172.17.0.2 53          datagrams both ways, each behind its length (two bytes, big-endian)
//!   agent                      waits for the next client of the ssh agent's socket in the machine, then as with tcp
//!   host                       waits for the next client of the host's address; told `PORT`, a line, then as with tcp
//! ```
//!
//! There is no answer: a target that cannot be reached ends the stream. A line of another form does, too.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Longest line, newline included, in bytes: an IPv6 address has 39.
pub const LINE_MAX: usize = 64;

/// Longest datagram that is carried, in bytes: UDP's over IPv4 (65,535 less both headers).
pub const DATAGRAM_MAX: usize = 65_507;

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[allow(missing_docs)] // Their own names say it.
pub enum Protocol {
    Tcp,
    Udp,
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// A published port.
    Port(Target),
    /// A client of [`crate::paths::SSH_AGENT_SOCKET`]: the first bytes say that there is one.
    Agent,
    /// A client of [`crate::host::ADDRESS`]: a line of [`wanted`] says that there is one.
    Host,
}

/// What the guest says at the head of a [`Line::Host`]: the port of the host's that its client asked for.
pub fn wanted(port: u16) -> String {
    format!("{port}\n")
}

/// Reads a line of [`wanted`], with or without its newline.
pub fn read_wanted(line: &str) -> Option<u16> {
    line.trim_end_matches('\n').parse().ok().filter(|port| *port != 0)
}

/// The word of [`Line::Agent`].
const AGENT: &str = "agent";
/// The word of [`Line::Host`].
const HOST: &str = "host";

impl Line {
    /// The line with its newline.
    pub fn encode(&self) -> String {
        match self {
            Line::Port(target) => target.encode(),
            Line::Agent => format!("{AGENT}\n"),
            Line::Host => format!("{HOST}\n"),
        }
    }

    /// Reads a line, with or without its newline.
    pub fn decode(line: &str) -> Option<Line> {
        match line.split_ascii_whitespace().next()? {
            AGENT => Some(Line::Agent),
            HOST => Some(Line::Host),
            _ => Target::decode(line).map(Line::Port),
        }
    }
}

/// Where the bytes of a stream go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// What is spoken.
    pub protocol: Protocol,
    /// A container's address and port.
    pub address: SocketAddr,
}

impl Protocol {
    /// Its word in a line, which is Docker's as well.
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    /// The protocol of that word.
    pub fn of_word(word: &str) -> Option<Protocol> {
        [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| protocol.word() == word)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Target {
    /// The line with its newline.
    pub fn encode(&self) -> String {
        format!("{} {} {}\n", self.protocol, self.address.ip(), self.address.port())
    }

    /// Reads a line, with or without its newline. Words behind those it is known to have are passed over.
    pub fn decode(line: &str) -> Option<Target> {
        let mut words = line.split_ascii_whitespace();
        let protocol = Protocol::of_word(words.next()?)?;
        let ip: IpAddr = words.next()?.parse().ok()?;
        let port = words.next()?.parse().ok().filter(|port| *port != 0)?;
        Some(Target { protocol, address: SocketAddr::new(ip, port) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn targets_survive_the_way(udp in any::<bool>(), ip in any::<IpAddr>(), port in 1u16..) {
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let target = Target { protocol, address: SocketAddr::new(ip, port) };
            let line = target.encode();
            prop_assert!(line.len() <= LINE_MAX && line.ends_with('\n'));
            prop_assert_eq!(Target::decode(&line), Some(target));
            prop_assert_eq!(Line::decode(&line), Some(Line::Port(target)));
        }

        #[test]
        fn any_line_is_read_without_panic(line in ".{0,100}") {
            let _ = Target::decode(&line);
        }
    }

    #[test]
    fn lines_of_one_word_and_ports_survive_the_way() {
        for line in [Line::Agent, Line::Host] {
            assert_eq!(Line::decode(&line.encode()), Some(line));
        }
        for port in [1, 80, u16::MAX] {
            assert_eq!(read_wanted(&wanted(port)), Some(port));
        }
        for line in ["", "0", "65536", "-1", "80 x"] {
            assert_eq!(read_wanted(line), None, "{line}");
        }
    }

    #[test]
    fn other_lines_are_none() {
        for line in
            ["", "tcp", "tcp 1.2.3.4", "tcp 1.2.3.4 0", "tcp 1.2.3.4 65536", "sctp 1.2.3.4 1", "tcp x 1"]
        {
            assert_eq!(Target::decode(line), None, "{line}");
        }
    }
}
