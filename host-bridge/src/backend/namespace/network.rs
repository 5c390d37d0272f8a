//! The appliance's way out: a veth pair, a /30 of its own, and NAT through the host's uplink.

use super::tool;
use crate::backend::BackendError;
use contract::settings::Net;
use std::net::Ipv4Addr;
use std::path::Path;

/// Our links' names begin so.
pub const LINK_PREFIX: &str = "pn";
/// 10.213.0.0/16 is cut into networks of four addresses: network, host, guest, broadcast.
const RANGE: u32 = 0x0ad5_0000;
const SLOTS: u32 = 1 << 14;
/// Where the host knows no resolver that the guest could reach.
const FALLBACK_DNS: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// Exists while forwarding is on because of us; gone with a restart of the host, as is the setting.
const WAS_OFF: &str = "/run/pinnace.forwarding-was-off";

/// One /30.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    network: u32,
}

impl Plan {
    /// A network that no route of this host touches; the same name tries the same one first.
    pub fn choose(key: u32, routes: &str) -> Option<Plan> {
        let taken: Vec<(u32, u32)> = routes.lines().skip(1).filter_map(route).collect();
        let free = |network: u32| !taken.iter().any(|(to, mask)| network & mask == *to || to & !3 == network);
        (0..SLOTS)
            .map(|step| RANGE + (key.wrapping_add(step) % SLOTS) * 4)
            .find(|network| free(*network))
            .map(|network| Plan { network })
    }

    /// The host's end.
    pub fn host(self) -> Ipv4Addr {
        Ipv4Addr::from(self.network + 1)
    }

    /// The guest's settings.
    pub fn net(self) -> Net {
        Net::Static {
            address: Ipv4Addr::from(self.network + 2),
            prefix: 30,
            gateway: self.host(),
            dns: resolver(),
        }
    }

    fn cidr(self) -> String {
        format!("{}/30", Ipv4Addr::from(self.network))
    }
}

/// A line of /proc/net/route as (network, mask), without the default route, which takes nothing.
fn route(line: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let hex = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok().map(u32::from_be);
    let (to, mask) = (hex(1)?, hex(7)?);
    (mask != 0).then_some((to, mask))
}

/// The routes of this host.
pub fn routes() -> Result<String, BackendError> {
    std::fs::read_to_string("/proc/net/route").map_err(BackendError::system("read /proc/net/route"))
}

/// Makes the pair: one end on the host, the other as eth0 in the network namespace of `pid`.
pub fn link(link: &str, plan: Plan, pid: u32) -> Result<(), BackendError> {
    let batch = format!(
        "link add {link} type veth peer name eth0 netns {pid}\naddress add {}/30 dev {link}\nlink set {link} up\n",
        plan.host()
    );
    tool::run("ip", &["-batch", "-"], &batch)
}

/// Lets the guest out through the host. Without nft it only reaches the host.
pub fn masquerade(table: &str, link: &str, plan: Plan) -> Result<(), BackendError> {
    let rules = format!(
        "table ip {table} {{\nchain out {{\ntype nat hook postrouting priority srcnat\n\
         ip saddr {} oifname != \"{link}\" masquerade\n}}\n}}\n",
        plan.cidr()
    );
    tool::run("nft", &["-f", "-"], &rules)
}

/// Turns the host's forwarding on, and notes for all appliances of this host that it was off.
pub fn forward() -> Result<(), BackendError> {
    let read =
        std::fs::read_to_string(FORWARDING).map_err(BackendError::system(format!("read {FORWARDING}")))?;
    if read.trim() != "0" {
        return Ok(());
    }
    std::fs::write(WAS_OFF, "").map_err(BackendError::system(format!("write {WAS_OFF}")))?;
    std::fs::write(FORWARDING, "1").map_err(BackendError::system(format!("write {FORWARDING}")))?;
    tracing::info!("turned on net.ipv4.ip_forward; it is turned off again with the last appliance");
    Ok(())
}

/// Turns forwarding off again with the last appliance, if the first one turned it on.
pub fn stop_forwarding(own_link: &str) {
    let links = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut names = links.map(|entry| entry.file_name().to_string_lossy().into_owned());
    // Our own link may still be on its way out.
    let alone = !names.any(|name| is_our_link(&name) && name != own_link);
    if alone
        && std::fs::remove_file(WAS_OFF).is_ok()
        && let Err(error) = std::fs::write(FORWARDING, "0")
    {
        tracing::warn!("cannot turn off {FORWARDING}: {error}");
    }
}

fn is_our_link(name: &str) -> bool {
    name.strip_prefix(LINK_PREFIX)
        .is_some_and(|key| key.len() == 8 && key.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Removes the rules; the host may have lost them already.
pub fn unmasquerade(table: &str) {
    if let Err(error) = tool::run("nft", &["delete", "table", "ip", table], "") {
        tracing::debug!("{error}");
    }
}

/// Removes the pair, which the end of the namespace removes too, but later.
pub fn unlink(link: &str) {
    if Path::new("/sys/class/net").join(link).exists()
        && let Err(error) = tool::run("ip", &["link", "delete", link], "")
    {
        tracing::debug!("{error}");
    }
}

/// The host's first resolver that is not its own loopback (systemd-resolved keeps the real ones aside).
fn resolver() -> Ipv4Addr {
    ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .find_map(|text| first_resolver(&text))
        .unwrap_or(FALLBACK_DNS)
}

fn first_resolver(text: &str) -> Option<Ipv4Addr> {
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.filter_map(|rest| rest.trim().parse::<Ipv4Addr>().ok()).find(|address| !address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n";

    #[test]
    fn networks_in_use_are_left_alone() {
        let check = |key: u32, routes: &str, host: Option<[u8; 4]>| {
            let plan = Plan::choose(key, &format!("{HEAD}{routes}"));
            assert_eq!(plan.map(Plan::host), host.map(Ipv4Addr::from));
        };
        check(0, "eth0\t00000000\t010000C0\t3\t0\t0\t0\t00000000\n", Some([10, 213, 0, 1]));
        // 10.213.0.0/30 is taken.
        check(0, "pn0\t0000D50A\t0\t1\t0\t0\t0\tFCFFFFFF\n", Some([10, 213, 0, 5]));
        check(SLOTS - 1, "", Some([10, 213, 255, 253]));
        // All of 10.0.0.0/8 is taken.
        check(7, "eth0\t0000000A\t0\t1\t0\t0\t0\t000000FF\n", None);
        // One host of 10.213.0.0/30 is taken.
        check(0, "eth0\t0200D50A\t0\t1\t0\t0\t0\tFFFFFFFF\n", Some([10, 213, 0, 5]));
    }

    #[test]
    fn the_guest_gets_a_resolver_it_can_reach() {
        let check =
            |text: &str, want: Option<[u8; 4]>| assert_eq!(first_resolver(text), want.map(Ipv4Addr::from));
        check("nameserver 127.0.0.53\nnameserver 9.9.9.9\n", Some([9, 9, 9, 9]));
        check("# x\nsearch a\nnameserver ::1\n", None);
    }

    #[test]
    fn only_our_own_links_count() {
        assert!(is_our_link("pn0123abcd"));
        assert!(!is_our_link("pnet0"));
        assert!(!is_our_link("eth0"));
    }
}
