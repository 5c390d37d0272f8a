//! The contents of a container's /etc/resolv.conf, /etc/hosts and /etc/hostname, as text from text.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

/// Servers to ask where the machine knows none that a container could reach.
const PUBLIC_SERVERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)), IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4))];

/// A resolver configuration, see resolv.conf(5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolver {
    /// `nameserver` lines, in order.
    pub servers: Vec<IpAddr>,
    /// The last `search` (or `domain`) line.
    pub search: Vec<String>,
    /// Words of all `options` lines.
    pub options: Vec<String>,
}

/// What a container asked for itself; an empty list leaves what the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked<'a> {
    /// `--dns`.
    pub servers: &'a [IpAddr],
    /// `--dns-search`; a single `.` asks for none.
    pub search: &'a [String],
    /// `--dns-option`.
    pub options: &'a [String],
}

impl Resolver {
    /// Reads resolv.conf(5); lines that say nothing to a resolver are skipped, as it does.
    #[must_use]
    pub fn parse(text: &str) -> Resolver {
        let mut resolver = Resolver::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.servers.extend(words.next().and_then(server)),
                Some("search") => resolver.search = words.map(str::to_owned).collect(),
                Some("domain") => resolver.search = words.take(1).map(str::to_owned).collect(),
                Some("options") => resolver.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        resolver
    }

    /// With what the container asked for in place of what the machine has.
    #[must_use]
    pub fn overridden(mut self, asked: Asked<'_>) -> Resolver {
        if !asked.servers.is_empty() {
            self.servers = asked.servers.to_vec();
        }
        match asked.search {
            [] => {}
            [dot] if dot == "." => self.search.clear(),
            search => self.search = search.to_vec(),
        }
        if !asked.options.is_empty() {
            self.options = asked.options.to_vec();
        }
        self
    }

    /// For a container that asks the servers itself, as on the default bridge: without servers on the machine's
    /// own loopback interface, which is not the container's, and without IPv6 ones where the container has no
    /// IPv6; public servers where none is left.
    #[must_use]
    pub fn reachable(mut self, ipv6: bool) -> Resolver {
        self.servers.retain(|server| !server.is_loopback() && (ipv6 || server.is_ipv4()));
        if self.servers.is_empty() {
            self.servers = PUBLIC_SERVERS.to_vec();
        }
        self
    }

    /// The configuration for a container on `self`'s machine, on the default bridge.
    #[must_use]
    pub fn for_default_bridge(self, asked: Asked<'_>, ipv6: bool) -> Resolver {
        let machine = if asked.servers.is_empty() { self.reachable(ipv6) } else { self };
        machine.overridden(asked)
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::from("# Made for this container by Pinnace. It may be edited here.\n");
        for server in &self.servers {
            line(&mut text, format_args!("nameserver {server}"));
        }
        for (key, words) in [("search", &self.search), ("options", &self.options)] {
            if !words.is_empty() {
                line(&mut text, format_args!("{key} {}", words.join(" ")));
            }
        }
        text
    }
}

/// An address, perhaps with a zone (`fe80::1%eth0`), which means nothing to a container.
fn server(text: &str) -> Option<IpAddr> {
    if text.contains('%') { None } else { text.parse().ok() }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string cannot fail");
}

/// The text of /etc/hosts: the loopback names, then `extra` (name, address), then the container's own addresses
/// with its names.
#[must_use]
pub fn hosts(ipv6: bool, extra: &[(String, IpAddr)], own: &[IpAddr], hostname: &str, domain: &str) -> String {
    const LOOPBACK_6: &str = "::1\tlocalhost ip6-localhost ip6-loopback\n\
                              fe00::\tip6-localnet\n\
                              ff00::\tip6-mcastprefix\n\
                              ff02::1\tip6-allnodes\n\
                              ff02::2\tip6-allrouters\n";
    let mut text = String::from("127.0.0.1\tlocalhost\n");
    if ipv6 {
        text.push_str(LOOPBACK_6);
    }
    for (name, address) in extra {
        line(&mut text, format_args!("{address}\t{name}"));
    }
    for address in own {
        match domain {
            "" => line(&mut text, format_args!("{address}\t{hostname}")),
            domain => line(&mut text, format_args!("{address}\t{hostname}.{domain} {hostname}")),
        }
    }
    text
}

/// The text of /etc/hostname.
#[must_use]
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn check(machine: &str, ipv6: bool, expected: &str) {
        let text = Resolver::parse(machine).for_default_bridge(Asked::default(), ipv6).text();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines.join("|"), expected, "{machine:?}");
    }

    #[test]
    fn the_machines_servers_are_taken_over_without_its_loopback() {
        check("nameserver 10.0.2.3\n", false, "nameserver 10.0.2.3");
        check(
            "nameserver 127.0.0.53\nnameserver 1.1.1.1 # x\nsearch a b\n",
            false,
            "nameserver 1.1.1.1|search a b",
        );
        check(
            "nameserver 127.0.0.53\noptions edns0\n",
            false,
            "nameserver 8.8.8.8|nameserver 8.8.4.4|options edns0",
        );
        check("", false, "nameserver 8.8.8.8|nameserver 8.8.4.4");
        check("nameserver fd00::1\nnameserver ::1\n", false, "nameserver 8.8.8.8|nameserver 8.8.4.4");
        check("nameserver fd00::1\nnameserver ::1\n", true, "nameserver fd00::1");
        check(
            "; c\ndomain d.e\nnameserver x\nnameserver fe80::1%eth0\nsortlist 1\noptions a\noptions b",
            false,
            "nameserver 8.8.8.8|nameserver 8.8.4.4|search d.e|options a b",
        );
    }

    #[test]
    fn a_container_may_ask_for_its_own() {
        let machine = Resolver::parse("nameserver 10.0.2.3\nsearch lan\noptions ndots:2\n");
        let (dot, own) = ([".".to_owned()], ["x".to_owned(), "y".to_owned()]);
        let servers = [ip("127.0.0.1"), ip("9.9.9.9")];
        let asked = Asked { servers: &servers, search: &dot, options: &own };
        let got = machine.clone().for_default_bridge(asked, false);
        assert_eq!(got, Resolver { servers: servers.to_vec(), search: vec![], options: own.to_vec() });
        let got = machine.clone().for_default_bridge(Asked { search: &own, ..Asked::default() }, false);
        assert_eq!((got.search, got.options), (own.to_vec(), machine.options));
    }

    #[test]
    fn hosts_has_dockers_lines() {
        let extra = [("db".to_owned(), ip("10.0.0.9"))];
        assert_eq!(
            hosts(true, &extra, &[ip("172.17.0.2")], "abc", ""),
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n10.0.0.9\tdb\n\
             172.17.0.2\tabc\n"
        );
        assert_eq!(
            hosts(false, &[], &[ip("172.17.0.2")], "abc", "lan"),
            "127.0.0.1\tlocalhost\n172.17.0.2\tabc.lan abc\n"
        );
        assert_eq!(hostname("abc"), "abc\n");
    }
}
