//! What a container finds in /etc about its networks.

use std::net::IpAddr;

use runtime::network::NAME_SERVER;
use runtime::network::files::{self, Asked, Resolver};

use super::endpoint::Endpoint;
use super::{Networks, host};

/// What its /etc/hosts says beside the usual.
#[derive(Debug, Clone, Copy)]
pub struct HostsFile<'a> {
    /// Its own `name:address` words.
    pub extra: &'a [String],
    /// What `host-gateway` stands for, see [`Networks::host_gateway`].
    pub host: IpAddr,
    /// (address, names) of others.
    pub links: &'a [(IpAddr, String)],
    /// Its name.
    pub hostname: &'a str,
    /// Its domain.
    pub domain: &'a str,
}

impl HostsFile<'_> {
    /// The whole text.
    pub fn text<'a>(&self, places: impl IntoIterator<Item = &'a Endpoint>) -> String {
        let extra = self.extra.iter().filter_map(|line| line.split_once([':', '=']));
        let mut lines: Vec<(String, IpAddr)> = extra
            .filter_map(|(name, address)| match address {
                "host-gateway" => Some((name.to_owned(), self.host)),
                address => Some((name.to_owned(), address.trim_matches(['[', ']']).parse().ok()?)),
            })
            .collect();
        lines.extend(self.links.iter().map(|(address, names)| (names.clone(), *address)));
        let mut own: Vec<&Endpoint> = places.into_iter().collect();
        own.sort_by(|one, other| one.interface.cmp(&other.interface));
        let own: Vec<IpAddr> = own.into_iter().flat_map(Endpoint::addresses).collect();
        files::hosts(true, &lines, &own, self.hostname, self.domain)
    }

    /// The lines of one of its places.
    pub fn lines(&self, place: &Endpoint) -> Vec<String> {
        let names = match self.domain {
            "" => self.hostname.to_owned(),
            domain => format!("{0}.{domain} {0}", self.hostname),
        };
        place.addresses().map(|address| format!("{address}\t{names}\n")).collect()
    }
}

/// A hosts file with one more line; whatever else somebody wrote there stays.
pub fn hosts_with(text: &str, line: &str) -> String {
    let break_before = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{break_before}{line}")
}

/// A hosts file without a line that was put there.
pub fn hosts_without(text: &str, line: &str) -> String {
    let keeps = |other: &&str| other.trim_end() != line.trim_end();
    text.split_inclusive('\n').filter(keeps).collect()
}

impl Networks {
    /// What `host-gateway` stands for: the host, and the machine where it has none.
    pub fn host_gateway(&self) -> IpAddr {
        host::address(self.host.as_ref())
    }

    /// Text of a container's /etc/resolv.conf: the machine's where `shared` (it uses the machine's network), this
    /// engine's own server where it is on a network that has `names`, else what can be reached from the default bridge.
    /// What the container asked for itself stands in place of the machine's.
    pub fn resolv_conf(
        &self,
        shared: bool,
        names: bool,
        dns: &[String],
        search: &[String],
        options: &[String],
    ) -> String {
        let mut machine = Resolver::parse(&std::fs::read_to_string(&self.resolv_conf).unwrap_or_default());
        if self.host.is_some() {
            machine.servers = vec![contract::host::NAME_SERVER.into()];
        }
        let servers: Vec<IpAddr> = dns.iter().filter_map(|text| text.parse().ok()).collect();
        let asked = Asked { servers: &servers, search, options };
        if shared {
            machine.overridden(asked).text()
        } else if names {
            let mut own = machine.overridden(asked);
            own.servers = vec![NAME_SERVER.into()];
            // A name without a dot is one of the network's own.
            if !own.options.iter().any(|option| option.starts_with("ndots:")) {
                own.options.push("ndots:0".to_owned());
            }
            own.text()
        } else {
            machine.for_default_bridge(asked, false).text()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_and_go_and_edits_stay() {
        let text = "127.0.0.1\tlocalhost\n10.0.0.1\tmine";
        let with = hosts_with(text, "172.18.0.2\tabc\n");
        assert_eq!(with, "127.0.0.1\tlocalhost\n10.0.0.1\tmine\n172.18.0.2\tabc\n");
        assert_eq!(hosts_without(&with, "172.18.0.2\tabc\n"), "127.0.0.1\tlocalhost\n10.0.0.1\tmine\n");
        assert_eq!(hosts_without(text, "172.18.0.2\tabc\n"), text);
    }
}
