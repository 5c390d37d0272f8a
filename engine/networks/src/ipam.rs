//! Which addresses a new network gets: pure, without the store and the kernel. The texts are dockerd's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use runtime::network::Addresses;

use super::error::NetworksError;
use super::record::{NetworkRecord, Pool};

/// What is asked of one subnet, as the client wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskedPool {
    /// Empty: one of the default pools.
    pub subnet: String,
    /// Empty: the whole subnet.
    pub range: String,
    /// Empty: its first address.
    pub gateway: String,
    /// By a name.
    pub auxiliary: BTreeMap<String, String>,
}

/// The default pools, in order, and the length of the subnets that they are cut into.
fn defaults() -> impl Iterator<Item = Ipv4Net> {
    let net = |address: Ipv4Addr, length| Ipv4Net::new(address, length).expect("the length is valid");
    let wide = (17..=31u8).map(move |second| net(Ipv4Addr::new(172, second, 0, 0), 16));
    let narrow = (0..=15u8).map(move |part| net(Ipv4Addr::new(192, 168, part << 4, 0), 20));
    wide.chain(narrow)
}

/// Checks what was asked for, all of it: every fault has its line.
///
/// # Errors
/// [`NetworksError::Invalid`].
pub(super) fn check(asked: &[AskedPool]) -> Result<(), NetworksError> {
    let faults: Vec<String> = asked.iter().flat_map(faults).collect();
    match &faults[..] {
        [] => Ok(()),
        [one] => Err(NetworksError::Invalid(format!("invalid network config:\n{one}"))),
        many => {
            let lines: Vec<String> = many.iter().map(|fault| format!("* {fault}")).collect();
            Err(NetworksError::Invalid(format!("invalid network config:\n{}", lines.join("\n"))))
        }
    }
}

fn faults(asked: &AskedPool) -> Vec<String> {
    let Ok(subnet) = asked.subnet.parse::<IpNet>() else {
        if asked.subnet.is_empty() && *asked == AskedPool::default() {
            return vec![];
        }
        return vec![format!("invalid subnet {}: invalid CIDR block notation", asked.subnet)];
    };
    let mut faults = Vec::new();
    let whole = |net: IpNet| if net == net.trunc() { None } else { Some(net.trunc()) };
    if let Some(meant) = whole(subnet) {
        faults.push(format!("invalid subnet {subnet}: it should be {meant}"));
    }
    if !asked.range.is_empty() {
        match asked.range.parse::<IpNet>() {
            Err(_) => faults.push(format!("invalid ip-range {}: invalid CIDR block notation", asked.range)),
            Ok(range) if !subnet.trunc().contains(&range) => {
                faults.push(format!(
                    "invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"
                ));
            }
            Ok(range) => {
                let meant = whole(range);
                faults.extend(meant.map(|meant| format!("invalid ip-range {range}: it should be {meant}")));
            }
        }
    }
    let mut address = |what: String, text: &str| match text.parse::<IpAddr>() {
        Err(_) => faults.push(format!("invalid {what}: invalid address")),
        Ok(address) if !subnet.contains(&address) => {
            faults.push(format!("invalid {what}: parent subnet {subnet} doesn't contain this address"));
        }
        Ok(_) => {}
    };
    if !asked.gateway.is_empty() {
        address(format!("gateway {}", asked.gateway), &asked.gateway);
    }
    for (name, text) in &asked.auxiliary {
        address(format!("auxiliary address {name}"), text);
    }
    faults
}

/// The subnets of a new network beside those that `others` have.
///
/// # Errors
/// A subnet is another network's, or no default pool is free.
pub(super) fn choose(asked: &[AskedPool], others: &[IpNet]) -> Result<Vec<Pool>, NetworksError> {
    let overlaps = |net: &IpNet, with: &[IpNet]| with.iter().any(|other| overlap(net, other));
    let mut pools: Vec<Pool> = Vec::new();
    for one in asked.iter().filter(|one| !one.subnet.is_empty()) {
        let unreadable = |text: &str| NetworksError::Invalid(format!("invalid CIDR address: {text}"));
        let subnet: IpNet = one.subnet.parse().map_err(|_| unreadable(&one.subnet))?;
        let own: Vec<IpNet> = pools.iter().map(|pool| pool.subnet).collect();
        if overlaps(&subnet, others) || overlaps(&subnet, &own) {
            return Err(NetworksError::Overlap);
        }
        let auxiliary =
            one.auxiliary.iter().filter_map(|(name, text)| Some((name.clone(), text.parse().ok()?)));
        let auxiliary: BTreeMap<String, IpAddr> = auxiliary.collect();
        let range: Option<IpNet> = one.range.parse().ok();
        let gateway = one.gateway.parse().ok().unwrap_or_else(|| first(subnet, range));
        if let Some((name, _)) = auxiliary.iter().find(|(_, address)| **address == gateway) {
            let text =
                format!("failed to allocate secondary ip address ({name}:{gateway}): Address already in use");
            return Err(NetworksError::Forbidden(text));
        }
        let hides_gateway = one.gateway.is_empty();
        pools.push(Pool { subnet, range, gateway, auxiliary, asked_for: true, hides_gateway });
    }
    if !pools.iter().any(|pool| pool.subnet.addr().is_ipv4()) {
        let free =
            defaults().map(IpNet::V4).find(|net| !overlaps(net, others)).ok_or(NetworksError::NoPool)?;
        let gateway = first(free, None);
        let (auxiliary, asked_for, hides_gateway) = (BTreeMap::new(), false, false);
        let pool = Pool { subnet: free, range: None, gateway, auxiliary, asked_for, hides_gateway };
        pools.insert(0, pool);
    }
    Ok(pools)
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// The first address of the range is the gateway's; the subnet's own is nobody's.
fn first(subnet: IpNet, range: Option<IpNet>) -> IpAddr {
    let within = range.unwrap_or(subnet);
    match within.network() {
        own if own == subnet.network() => within.hosts().find(|address| *address != own).unwrap_or(own),
        other => other,
    }
}

/// The addresses of a network, with those that no container gets taken.
pub(super) fn addresses(record: &NetworkRecord) -> Option<Addresses> {
    let pool = record.pool()?;
    let IpNet::V4(subnet) = pool.subnet else { return None };
    let range = match pool.range {
        Some(IpNet::V4(range)) => Some(range),
        _ => None,
    };
    let mut addresses = Addresses::new(subnet, range);
    for own in pool.auxiliary.values().chain([&pool.gateway]) {
        if let IpAddr::V4(own) = own
            && let Err(error) = addresses.reserve(*own)
        {
            tracing::debug!(%error, "an address of the network itself is not kept from containers");
        }
    }
    Some(addresses)
}

/// What is wrong with an address that a container asks for; every fault has its line.
///
/// # Errors
/// [`NetworksError::Invalid`].
pub(super) fn check_address(
    record: &NetworkRecord,
    is_default: bool,
    text: &str,
) -> Result<Option<Ipv4Addr>, NetworksError> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut faults = Vec::new();
    if is_default {
        faults.push("user specified IP address is supported on user defined networks only".to_owned());
    }
    let address: Option<Ipv4Addr> = text.parse().ok();
    if address.is_none() {
        faults.push(format!("invalid IPv4 address: {text}"));
    }
    let pools = || record.ipam.pools.iter().filter(|pool| pool.subnet.addr().is_ipv4());
    if !pools().any(|pool| pool.asked_for) {
        let only = "user specified IP address is supported only when connecting to networks with user configured subnets";
        faults.push(only.to_owned());
    } else if !address.is_some_and(|address| pools().any(|pool| pool.subnet.contains(&IpAddr::V4(address)))) {
        faults.push(format!("no configured subnet or ip-range contain the IP address {text}"));
    }
    match &faults[..] {
        [] => Ok(address),
        [one] => Err(NetworksError::Invalid(format!("invalid endpoint settings:\n{one}"))),
        many => {
            let lines: Vec<String> = many.iter().map(|fault| format!("* {fault}")).collect();
            Err(NetworksError::Invalid(format!("invalid endpoint settings:\n{}", lines.join("\n"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(subnet: &str, range: &str, gateway: &str) -> AskedPool {
        let (subnet, range, gateway) = (subnet.to_owned(), range.to_owned(), gateway.to_owned());
        AskedPool { subnet, range, gateway, ..AskedPool::default() }
    }

    #[test]
    fn what_cannot_be_is_told_in_dockerds_words() {
        let check = |asked: AskedPool, expected: &str| {
            let got = check(&[asked]).map_err(|error| error.to_string());
            let got = got.err().unwrap_or_default();
            assert_eq!(got.strip_prefix("invalid network config:\n").unwrap_or(&got), expected);
        };
        check(AskedPool::default(), "");
        check(asked("10.0.0.0/24", "10.0.0.128/25", "10.0.0.1"), "");
        check(asked("10.0.0.1/24", "", ""), "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24");
        check(asked("zzz", "", ""), "invalid subnet zzz: invalid CIDR block notation");
        check(asked("", "", "10.2.0.1"), "invalid subnet : invalid CIDR block notation");
        let outside = "parent subnet 10.1.0.0/24 doesn't contain";
        check(
            asked("10.1.0.0/24", "10.2.0.0/25", ""),
            &format!("invalid ip-range 10.2.0.0/25: {outside} ip-range"),
        );
        check(
            asked("10.1.0.0/24", "10.1.0.5/25", ""),
            "invalid ip-range 10.1.0.5/25: it should be 10.1.0.0/25",
        );
        check(
            asked("10.1.0.0/24", "", "10.2.0.1"),
            &format!("invalid gateway 10.2.0.1: {outside} this address"),
        );
    }

    #[test]
    fn networks_get_the_first_free_pool() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let mut others = vec![net("172.17.0.0/16")];
        let pool = choose(&[], &others).unwrap().remove(0);
        assert_eq!((pool.subnet, pool.gateway.to_string()), (net("172.18.0.0/16"), "172.18.0.1".to_owned()));
        others.extend([net("172.16.0.0/12"), net("192.168.16.0/24")]);
        assert_eq!(choose(&[], &others).unwrap()[0].subnet, net("192.168.0.0/20"));
        others.push(net("192.168.0.0/21"));
        assert_eq!(choose(&[], &others).unwrap()[0].subnet, net("192.168.32.0/20"));
        others.push(net("0.0.0.0/0"));
        assert!(matches!(choose(&[], &others), Err(NetworksError::NoPool)));
        assert!(matches!(choose(&[asked("10.0.0.0/8", "", "")], &others), Err(NetworksError::Overlap)));
    }

    #[test]
    fn what_was_asked_for_is_kept() {
        let mut one = asked("10.1.0.0/16", "10.1.5.0/24", "");
        one.auxiliary.insert("r".to_owned(), "10.1.5.1".to_owned());
        let pools = choose(&[one], &[]).unwrap();
        assert_eq!(pools[0].gateway.to_string(), "10.1.5.0");
        let mut both = asked("10.2.0.0/16", "", "");
        both.auxiliary.insert("r".to_owned(), "10.2.0.1".to_owned());
        assert!(matches!(choose(&[both], &[]), Err(NetworksError::Forbidden(_))));
        let record = NetworkRecord {
            ipam: super::super::record::Ipam { options: None, pools },
            ..NetworkRecord::default()
        };
        let mut addresses = addresses(&record).unwrap();
        assert_eq!(addresses.take().unwrap().to_string(), "10.1.5.2/16");
        let told = |text: &str| check_address(&record, false, text).map_err(|error| error.to_string());
        assert_eq!(told(""), Ok(None));
        assert_eq!(told("10.1.9.9"), Ok(Some("10.1.9.9".parse().unwrap())));
        let outside = "no configured subnet or ip-range contain the IP address";
        assert_eq!(told("10.9.0.1"), Err(format!("invalid endpoint settings:\n{outside} 10.9.0.1")));
        let both = format!("invalid endpoint settings:\n* invalid IPv4 address: abc\n* {outside} abc");
        assert_eq!(told("abc"), Err(both));
    }
}
