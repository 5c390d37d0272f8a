//! Which addresses a new network gets: pure, without the store and the kernel. The texts are dockerd's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::endpoint::Ask;
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

/// What a new network needs of its subnets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    /// Addresses of IPv4.
    pub(super) ipv4: bool,
    /// Addresses of IPv6.
    pub(super) ipv6: bool,
    /// A gateway in each, although nobody named one.
    pub(super) gateway: bool,
}

/// The subnets of a new network beside those that `others` have: first those that were asked for, IPv4 before IPv6. One
/// that nobody asked for is also beside what the `machine` reaches, which it would cover.
///
/// # Errors
/// A subnet is another network's, or no default pool is free.
pub(super) fn choose(
    asked: &[AskedPool],
    others: &[IpNet],
    machine: &[IpNet],
    needs: Needs,
) -> Result<Vec<Pool>, NetworksError> {
    let overlaps = |net: &IpNet, with: &[IpNet]| with.iter().any(|other| overlap(net, other));
    let is_used = |net: &IpNet| if net.addr().is_ipv4() { needs.ipv4 } else { needs.ipv6 };
    let mut pools: Vec<Pool> = Vec::new();
    for one in asked.iter().filter(|one| !one.subnet.is_empty()) {
        let mut pool = read(one)?;
        if is_used(&pool.subnet) {
            let own: Vec<IpNet> = pools.iter().map(|pool| pool.subnet).collect();
            if overlaps(&pool.subnet, others) || overlaps(&pool.subnet, &own) {
                return Err(NetworksError::Overlap);
            }
            give_gateway(&mut pool, needs.gateway)?;
        }
        pools.push(pool);
    }
    pools.sort_by_key(|pool| pool.subnet.addr().is_ipv6());
    if needs.ipv4 && !pools.iter().any(|pool| pool.subnet.addr().is_ipv4()) {
        let is_free = |net: &IpNet| !overlaps(net, others) && !overlaps(net, machine);
        let free = defaults().map(IpNet::V4).find(is_free).ok_or(NetworksError::NoPool)?;
        pools.push(chosen(free, needs.gateway));
    }
    if needs.ipv6 && !pools.iter().any(|pool| pool.subnet.addr().is_ipv6()) {
        pools.push(chosen(private_6(others), needs.gateway));
    }
    Ok(pools)
}

/// The subnets of a network of configuration only: as they were asked for.
///
/// # Errors
/// [`NetworksError::Invalid`].
pub(super) fn kept(asked: &[AskedPool]) -> Result<Vec<Pool>, NetworksError> {
    asked.iter().filter(|one| !one.subnet.is_empty()).map(read).collect()
}

fn read(asked: &AskedPool) -> Result<Pool, NetworksError> {
    let unreadable = |_| NetworksError::Invalid(format!("invalid CIDR address: {}", asked.subnet));
    let subnet: IpNet = asked.subnet.parse().map_err(unreadable)?;
    let auxiliary =
        asked.auxiliary.iter().filter_map(|(name, text)| Some((name.clone(), text.parse().ok()?)));
    Ok(Pool {
        range: asked.range.parse().ok(),
        gateway: asked.gateway.parse().ok(),
        auxiliary: auxiliary.collect(),
        asked_for: true,
        hides_gateway: asked.gateway.is_empty(),
        ..Pool::of(subnet)
    })
}

/// Chooses the gateway where that is `wanted` and nobody named one; another of the network's own addresses cannot be it.
fn give_gateway(pool: &mut Pool, wanted: bool) -> Result<(), NetworksError> {
    let chosen = wanted.then(|| first(pool.subnet, pool.range));
    pool.gateway = pool.gateway.or(chosen);
    let Some(gateway) = pool.gateway else { return Ok(()) };
    match pool.auxiliary.iter().find(|(_, address)| **address == gateway) {
        None => Ok(()),
        Some((name, _)) => Err(NetworksError::Forbidden(format!(
            "failed to allocate secondary ip address ({name}:{gateway}): Address already in use"
        ))),
    }
}

/// A subnet that nobody asked for.
fn chosen(subnet: IpNet, has_gateway: bool) -> Pool {
    Pool { gateway: has_gateway.then(|| first(subnet, None)), ..Pool::of(subnet) }
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// A subnet of the machine's own, of 64 bits, below a random prefix of the private ones (RFC 4193).
fn private_6(others: &[IpNet]) -> IpNet {
    let mut subnets = std::iter::repeat_with(|| {
        let [a, b, c, d, e]: [u8; 5] = rand::random();
        let part = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        let address = Ipv6Addr::new(part(0xfd, a), part(b, c), part(d, e), 0, 0, 0, 0, 0);
        IpNet::V6(Ipv6Net::new(address, 64).expect("the length is valid"))
    });
    let is_free = |net: &IpNet| !others.iter().any(|other| overlap(net, other));
    subnets.find(is_free).expect("the source never ends")
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

/// The addresses that a container asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) ipv4: Option<Ipv4Addr>,
    pub(super) ipv6: Option<Ipv6Addr>,
    /// Beside those of the network, whichever they are; [`link_local`] says whether they can be.
    pub(super) link_local: Vec<IpAddr>,
}

/// Reads the addresses that a container asks for; an empty text asks for none. Every fault has its line.
///
/// # Errors
/// [`NetworksError::Invalid`].
pub(super) fn check_addresses(
    record: &NetworkRecord,
    is_default: bool,
    ask: &Ask,
) -> Result<Fixed, NetworksError> {
    let mut faults = Vec::new();
    let fixed = ask.address.is_empty() && ask.ipv6.is_empty();
    if is_default && !fixed {
        faults.push("user specified IP address is supported on user defined networks only".to_owned());
    }
    let ipv4: Option<Ipv4Addr> = ask.address.parse().ok();
    let ipv6: Option<Ipv6Addr> = ask.ipv6.parse().ok();
    let mut unreadable = |kind: &str, text: &str, is_read: bool| {
        if !text.is_empty() && !is_read {
            faults.push(format!("invalid {kind} address: {text}"));
        }
    };
    unreadable("IPv4", &ask.address, ipv4.is_some());
    unreadable("IPv6", &ask.ipv6, ipv6.is_some());
    let mut local = Vec::new();
    for text in &ask.link_local {
        match text.parse::<IpAddr>() {
            Ok(address) if !address.is_unspecified() => local.push(address),
            _ => faults.push(format!("invalid link-local IP address: {text}").trim_end().to_owned()),
        }
    }
    faults.extend(outside(record, &ask.address, ipv4.map(IpAddr::V4), |pool| pool.subnet.addr().is_ipv4()));
    faults.extend(outside(record, &ask.ipv6, ipv6.map(IpAddr::V6), |pool| pool.subnet.addr().is_ipv6()));
    match &faults[..] {
        [] => Ok(Fixed { ipv4, ipv6, link_local: local }),
        [one] => Err(NetworksError::Invalid(format!("invalid endpoint settings:\n{one}"))),
        many => {
            let lines: Vec<String> = many.iter().map(|fault| format!("* {fault}")).collect();
            Err(NetworksError::Invalid(format!("invalid endpoint settings:\n{}", lines.join("\n"))))
        }
    }
}

/// Why an address cannot be one of the network's.
fn outside(
    record: &NetworkRecord,
    text: &str,
    address: Option<IpAddr>,
    is_of_family: impl Fn(&Pool) -> bool,
) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let pools = || record.ipam.pools.iter().filter(|pool| is_of_family(pool));
    if !pools().any(|pool| pool.asked_for) {
        let only = "user specified IP address is supported only when connecting to networks with user configured subnets";
        return Some(only.to_owned());
    }
    let is_inside = address.is_some_and(|address| pools().any(|pool| pool.subnet.contains(&address)));
    (!is_inside).then(|| format!("no configured subnet or ip-range contain the IP address {text}"))
}

/// The addresses of the link alone, each with the length of the subnet that all of them are in (RFC 3927, RFC 4291).
///
/// # Errors
/// [`NetworksError::Invalid`]: one is of no link.
pub(super) fn link_local(asked: &[IpAddr]) -> Result<Vec<IpNet>, NetworksError> {
    let with_length = |address: &IpAddr| {
        let length = match address {
            IpAddr::V4(address) if address.is_link_local() => Some(16),
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(64),
            _ => None,
        };
        let net = length.and_then(|length| IpNet::new(*address, length).ok());
        net.ok_or_else(|| NetworksError::Invalid(format!("invalid link local IP address: {address}")))
    };
    asked.iter().map(with_length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(subnet: &str, range: &str, gateway: &str) -> AskedPool {
        let (subnet, range, gateway) = (subnet.to_owned(), range.to_owned(), gateway.to_owned());
        AskedPool { subnet, range, gateway, ..AskedPool::default() }
    }

    const BRIDGE: Needs = Needs { ipv4: true, ipv6: false, gateway: true };

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
        let pool = choose(&[], &others, &[], BRIDGE).unwrap().remove(0);
        assert_eq!((pool.subnet, pool.gateway), (net("172.18.0.0/16"), "172.18.0.1".parse().ok()));
        others.extend([net("172.16.0.0/12"), net("192.168.16.0/24")]);
        assert_eq!(choose(&[], &others, &[], BRIDGE).unwrap()[0].subnet, net("192.168.0.0/20"));
        others.push(net("192.168.0.0/21"));
        assert_eq!(choose(&[], &others, &[], BRIDGE).unwrap()[0].subnet, net("192.168.32.0/20"));
        others.push(net("0.0.0.0/0"));
        assert!(matches!(choose(&[], &others, &[], BRIDGE), Err(NetworksError::NoPool)));
        assert!(matches!(
            choose(&[asked("10.0.0.0/8", "", "")], &others, &[], BRIDGE),
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
        assert_eq!(choose(&[], &[], &machine, BRIDGE).unwrap()[0].subnet.to_string(), "172.18.0.0/16");
    }

    #[test]
    fn what_was_asked_for_is_kept() {
        let mut one = asked("10.1.0.0/16", "10.1.5.0/24", "");
        one.auxiliary.insert("r".to_owned(), "10.1.5.1".to_owned());
        let pools = choose(&[one], &[], &[], BRIDGE).unwrap();
        assert_eq!(pools[0].gateway, "10.1.5.0".parse().ok());
        let mut both = asked("10.2.0.0/16", "", "");
        both.auxiliary.insert("r".to_owned(), "10.2.0.1".to_owned());
        assert!(matches!(choose(&[both], &[], &[], BRIDGE), Err(NetworksError::Forbidden(_))));
        let record = NetworkRecord {
            ipam: super::super::record::Ipam { pools, ..Default::default() },
            has_ipv4: true,
            ..NetworkRecord::default()
        };
        let mut leases = crate::leases::Leases::of("ab", &record, true);
        let first = leases.take(&Fixed::default()).unwrap();
        assert_eq!(first.ipv4.unwrap().to_string(), "10.1.5.2/16");
        let told = |text: &str| {
            let ask = Ask { address: text.to_owned(), ..Ask::default() };
            check_addresses(&record, false, &ask).map(|fixed| fixed.ipv4).map_err(|error| error.to_string())
        };
        assert_eq!(told(""), Ok(None));
        assert_eq!(told("10.1.9.9"), Ok(Some("10.1.9.9".parse().unwrap())));
        let outside = "no configured subnet or ip-range contain the IP address";
        assert_eq!(told("10.9.0.1"), Err(format!("invalid endpoint settings:\n{outside} 10.9.0.1")));
        let both = format!("invalid endpoint settings:\n* invalid IPv4 address: abc\n* {outside} abc");
        assert_eq!(told("abc"), Err(both));
    }
    #[test]
    fn a_network_has_the_families_that_it_needs() {
        let subnets = |asked: &[AskedPool], needs: Needs| {
            let pools = choose(asked, &["fd00:9::/64".parse().unwrap()], &[], needs).unwrap();
            let text =
                |pool: &Pool| (pool.subnet.to_string(), pool.gateway.map(|gateway| gateway.to_string()));
            pools.iter().map(text).collect::<Vec<_>>()
        };
        let net = |subnet: &str, gateway: Option<&str>| (subnet.to_owned(), gateway.map(str::to_owned));
        let only_6 = Needs { ipv4: false, ipv6: true, gateway: true };
        assert!(subnets(&[], only_6)[0].0.starts_with("fd") && subnets(&[], only_6).len() == 1);
        // A subnet of the other family is shown, has no gateway, and takes nobody's place.
        let both = [asked("fd00:8::/64", "", ""), asked("10.9.0.0/24", "", "")];
        let expected = [net("10.9.0.0/24", None), net("fd00:8::/64", Some("fd00:8::1"))];
        assert_eq!(subnets(&both, only_6), expected);
        let taken = [asked("fd00:9::/64", "", "")];
        assert_eq!(subnets(&taken, BRIDGE)[1], net("172.17.0.0/16", Some("172.17.0.1")));
        assert!(subnets(&[], Needs { ipv4: false, ipv6: false, gateway: true }).is_empty());
        let internal = Needs { gateway: false, ..BRIDGE };
        assert_eq!(subnets(&[], internal), [net("172.17.0.0/16", None)]);
        assert_eq!(
            subnets(&[asked("10.1.0.0/24", "", "10.1.0.9")], internal)[0].1.as_deref(),
            Some("10.1.0.9")
        );
    }

    #[test]
    fn addresses_of_the_link_alone_are_read() {
        let read = |texts: &[&str]| {
            let link_local = texts.iter().map(|text| (*text).to_owned()).collect();
            let ask = Ask { link_local, ..Ask::default() };
            let fixed = check_addresses(&NetworkRecord::default(), true, &ask).map_err(|e| e.to_string())?;
            link_local_texts(&fixed.link_local)
        };
        assert_eq!(read(&["169.254.10.11", "fe80::9"]).unwrap(), ["169.254.10.11/16", "fe80::9/64"]);
        assert_eq!(
            read(&["169.254.1.1", "10.9.9.9"]).unwrap_err(),
            "invalid link local IP address: 10.9.9.9"
        );
        let lead = "invalid endpoint settings:\n";
        assert_eq!(read(&["zzz"]).unwrap_err(), format!("{lead}invalid link-local IP address: zzz"));
        assert_eq!(read(&[""]).unwrap_err(), format!("{lead}invalid link-local IP address:"));
    }

    fn link_local_texts(asked: &[IpAddr]) -> Result<Vec<String>, String> {
        let nets = link_local(asked).map_err(|error| error.to_string())?;
        Ok(nets.iter().map(IpNet::to_string).collect())
    }
}
