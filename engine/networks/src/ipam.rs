//! Which addresses a new network gets: pure, without the store and the kernel. The texts are dockerd's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
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

/// The subnets of a new network beside those that `others` have. One that nobody asked for is also beside what the
/// `machine` reaches, which it would cover.
///
/// # Errors
/// A subnet is another network's, or no default pool is free.
pub(super) fn choose(
    asked: &[AskedPool],
    others: &[IpNet],
    machine: &[IpNet],
    ipv6: bool,
) -> Result<Vec<Pool>, NetworksError> {
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
        let is_free = |net: &IpNet| !overlaps(net, others) && !overlaps(net, machine);
        let free = defaults().map(IpNet::V4).find(is_free).ok_or(NetworksError::NoPool)?;
        let gateway = first(free, None);
        let (auxiliary, asked_for, hides_gateway) = (BTreeMap::new(), false, false);
        let pool = Pool { subnet: free, range: None, gateway, auxiliary, asked_for, hides_gateway };
        pools.insert(0, pool);
    }
    if ipv6 && !pools.iter().any(|pool| pool.subnet.addr().is_ipv6()) {
        pools.push(private_6(others));
    }
    Ok(pools)
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// A subnet of the machine's own, of 64 bits, below a random prefix of the private ones (RFC 4193).
fn private_6(others: &[IpNet]) -> Pool {
    let subnets = std::iter::repeat_with(|| {
        let [a, b, c, d, e]: [u8; 5] = rand::random();
        let part = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        let address = Ipv6Addr::new(part(0xfd, a), part(b, c), part(d, e), 0, 0, 0, 0, 0);
        IpNet::V6(Ipv6Net::new(address, 64).expect("the length is valid"))
    });
    let mut subnets = subnets.filter(|net| !others.iter().any(|other| overlap(net, other)));
    let subnet = subnets.next().expect("the source never ends");
    let gateway = first(subnet, None);
    let (auxiliary, asked_for, hides_gateway) = (BTreeMap::new(), false, false);
    Pool { subnet, range: None, gateway, auxiliary, asked_for, hides_gateway }
}

/// What a table of routes as /proc/net/route shows it leads to, but for the way to everywhere.
pub(super) fn routed(table: &str) -> Vec<IpNet> {
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
    let route = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (destination, mask) = (number(words.next()?)?, number(words.nth(5)?)?);
        let net = Ipv4Net::with_netmask(destination.into(), mask.into()).ok()?;
        (net.prefix_len() > 0).then_some(IpNet::V4(net))
    };
    // The numbers are in the order of the network, read as this machine's.
    let native = |net| if cfg!(target_endian = "little") { Some(net) } else { None };
    table.lines().filter_map(route).filter_map(native).collect()
}

/// The first address of the range is the gateway's; the subnet's own is nobody's.
fn first(subnet: IpNet, range: Option<IpNet>) -> IpAddr {
    let within = range.unwrap_or(subnet);
    match within.network() {
        own if own == subnet.network() => within.hosts().find(|address| *address != own).unwrap_or(own),
        other => other,
    }
}

/// The addresses of a network, with those that no container gets taken: the gateway's as well where there `has_gateway`.
pub(super) fn addresses(record: &NetworkRecord, has_gateway: bool) -> Option<Addresses> {
    let pool = record.pool()?;
    let IpNet::V4(subnet) = pool.subnet else { return None };
    let range = match pool.range {
        Some(IpNet::V4(range)) => Some(range),
        _ => None,
    };
    let mut addresses = Addresses::new(subnet, range);
    for own in pool.auxiliary.values().chain(has_gateway.then_some(&pool.gateway)) {
        if let IpAddr::V4(own) = own
            && let Err(error) = addresses.reserve(*own)
        {
            tracing::debug!(%error, "an address of the network itself is not kept from containers");
        }
    }
    Some(addresses)
}

/// The addresses that a container asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) ipv4: Option<Ipv4Addr>,
    pub(super) ipv6: Option<Ipv6Addr>,
}

/// Reads the addresses that a container asks for; an empty text asks for none. Every fault has its line.
///
/// # Errors
/// [`NetworksError::Invalid`].
pub(super) fn check_addresses(
    record: &NetworkRecord,
    is_default: bool,
    ipv4: &str,
    ipv6: &str,
) -> Result<Fixed, NetworksError> {
    let mut faults = Vec::new();
    if is_default && !(ipv4.is_empty() && ipv6.is_empty()) {
        faults.push("user specified IP address is supported on user defined networks only".to_owned());
    }
    let fixed = Fixed {
        ipv4: fixed(record, ipv4, "IPv4", |pool| pool.subnet.addr().is_ipv4(), &mut faults),
        ipv6: fixed(record, ipv6, "IPv6", |pool| pool.subnet.addr().is_ipv6(), &mut faults),
    };
    match &faults[..] {
        [] => Ok(fixed),
        [one] => Err(NetworksError::Invalid(format!("invalid endpoint settings:\n{one}"))),
        many => {
            let lines: Vec<String> = many.iter().map(|fault| format!("* {fault}")).collect();
            Err(NetworksError::Invalid(format!("invalid endpoint settings:\n{}", lines.join("\n"))))
        }
    }
}

fn fixed<T: std::str::FromStr + Copy + Into<IpAddr>>(
    record: &NetworkRecord,
    text: &str,
    family: &str,
    is_of_family: impl Fn(&Pool) -> bool,
    faults: &mut Vec<String>,
) -> Option<T> {
    if text.is_empty() {
        return None;
    }
    let address: Option<T> = text.parse().ok();
    if address.is_none() {
        faults.push(format!("invalid {family} address: {text}"));
    }
    let pools = || record.ipam.pools.iter().filter(|pool| is_of_family(pool));
    if !pools().any(|pool| pool.asked_for) {
        let only = "user specified IP address is supported only when connecting to networks with user configured subnets";
        faults.push(only.to_owned());
    } else if !address.is_some_and(|address| pools().any(|pool| pool.subnet.contains(&address.into()))) {
        faults.push(format!("no configured subnet or ip-range contain the IP address {text}"));
    }
    address
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
        let pool = choose(&[], &others, &[], false).unwrap().remove(0);
        assert_eq!((pool.subnet, pool.gateway.to_string()), (net("172.18.0.0/16"), "172.18.0.1".to_owned()));
        others.extend([net("172.16.0.0/12"), net("192.168.16.0/24")]);
        assert_eq!(choose(&[], &others, &[], false).unwrap()[0].subnet, net("192.168.0.0/20"));
        others.push(net("192.168.0.0/21"));
        assert_eq!(choose(&[], &others, &[], false).unwrap()[0].subnet, net("192.168.32.0/20"));
        others.push(net("0.0.0.0/0"));
        assert!(matches!(choose(&[], &others, &[], false), Err(NetworksError::NoPool)));
        assert!(matches!(
            choose(&[asked("10.0.0.0/8", "", "")], &others, &[], false),
            Err(NetworksError::Overlap)
        ));
    }

    #[test]
    fn a_default_pool_covers_nothing_that_the_machine_reaches() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let machine = routed(table);
        assert_eq!(machine, ["172.17.0.0/16".parse::<IpNet>().unwrap()]);
        assert_eq!(choose(&[], &[], &machine, false).unwrap()[0].subnet.to_string(), "172.18.0.0/16");
    }

    #[test]
    fn what_was_asked_for_is_kept() {
        let mut one = asked("10.1.0.0/16", "10.1.5.0/24", "");
        one.auxiliary.insert("r".to_owned(), "10.1.5.1".to_owned());
        let pools = choose(&[one], &[], &[], false).unwrap();
        assert_eq!(pools[0].gateway.to_string(), "10.1.5.0");
        let mut both = asked("10.2.0.0/16", "", "");
        both.auxiliary.insert("r".to_owned(), "10.2.0.1".to_owned());
        assert!(matches!(choose(&[both], &[], &[], false), Err(NetworksError::Forbidden(_))));
        let record = NetworkRecord {
            ipam: super::super::record::Ipam { options: None, pools },
            ..NetworkRecord::default()
        };
        let mut addresses = addresses(&record, true).unwrap();
        assert_eq!(addresses.take().unwrap().to_string(), "10.1.5.2/16");
        let told = |text: &str| {
            check_addresses(&record, false, text, "")
                .map(|fixed| fixed.ipv4)
                .map_err(|error| error.to_string())
        };
        assert_eq!(told(""), Ok(None));
        assert_eq!(told("10.1.9.9"), Ok(Some("10.1.9.9".parse().unwrap())));
        let outside = "no configured subnet or ip-range contain the IP address";
        assert_eq!(told("10.9.0.1"), Err(format!("invalid endpoint settings:\n{outside} 10.9.0.1")));
        let both = format!("invalid endpoint settings:\n* invalid IPv4 address: abc\n* {outside} abc");
        assert_eq!(told("abc"), Err(both));
    }
}
