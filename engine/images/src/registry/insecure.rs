//! Which registries are spoken to without TLS verification: loopback always, and what the settings name.

use std::net::IpAddr;

use tokio::net::lookup_host;

/// `HOST[:PORT]` names and `ADDRESS/PREFIX` networks.
#[derive(Debug, Clone, Default)]
pub(super) struct Insecure {
    hosts: Vec<String>,
    networks: Vec<(IpAddr, u8)>,
}

impl Insecure {
    pub(super) fn new(configured: &[String]) -> Insecure {
        let (networks, hosts): (Vec<&String>, _) =
            configured.iter().partition(|word| parse_network(word).is_some());
        let networks = networks.into_iter().filter_map(|word| parse_network(word)).collect();
        Insecure { hosts: hosts.into_iter().cloned().collect(), networks }
    }

    /// Whether `host[:port]` may be spoken to without verification. A name is judged by its addresses.
    pub(super) async fn covers(&self, authority: &str) -> bool {
        let host = host_of(authority);
        if self.hosts.iter().any(|configured| configured == authority || configured == host) {
            return true;
        }
        if let Ok(address) = host.parse() {
            return self.covers_address(address);
        }
        match lookup_host((host, 443)).await {
            Ok(mut addresses) => addresses.any(|address| self.covers_address(address.ip())),
            // Docker too takes a name that cannot be resolved for secure; connecting will tell the reason.
            Err(_) => false,
        }
    }

    fn covers_address(&self, address: IpAddr) -> bool {
        address.is_loopback()
            || self.networks.iter().any(|(network, prefix)| within(address, *network, *prefix))
    }
}

fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    }
}

fn parse_network(word: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = word.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    Some((address, prefix.parse().ok().filter(|prefix| *prefix <= longest)?))
}

fn within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_and_the_configured_are_insecure() {
        let insecure = Insecure::new(&["10.1.0.0/16".into(), "reg.test:5000".into(), "plain.test".into()]);
        for (authority, expected) in [
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("localhost:5000", true),
            ("10.1.2.3:80", true),
            ("10.2.2.3", false),
            ("reg.test:5000", true),
            ("reg.test:5001", false),
            ("plain.test:77", true),
            ("192.0.2.1", false),
        ] {
            assert_eq!(insecure.covers(authority).await, expected, "{authority}");
        }
    }
}
