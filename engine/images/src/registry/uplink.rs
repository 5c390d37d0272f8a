//! Waiting for the machine's way out.
//!
//! The driver of the network card comes behind the API's first answer, and the address behind that. Who pulls in the machine's first
//! moments would be told that the network is unreachable, and be right a second later.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::Uri;

/// For so long after the boot a way out may still come.
const LIMIT: Duration = Duration::from_secs(30);
const PERIOD: Duration = Duration::from_millis(50);

/// Returns when the machine has a default route, when it is too late for one to come by itself, or at once where none is
/// needed.
pub(super) async fn wait(url: &Uri) {
    static SEEN: AtomicBool = AtomicBool::new(false);
    let is_own = matches!(url.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
    while !is_own && !SEEN.load(Ordering::Relaxed) {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        if has_default_route(&read("/proc/net/route"), &read("/proc/net/ipv6_route"))
            || !is_young(&read("/proc/uptime"))
        {
            SEEN.store(true, Ordering::Relaxed);
        } else {
            tokio::time::sleep(PERIOD).await;
        }
    }
}

/// In the files of proc_net(5): a destination of zeros; of version 6 one that is not the kernel's own "unreachable" on `lo`.
fn has_default_route(v4: &str, v6: &str) -> bool {
    let v4 = v4.lines().any(|line| line.split_whitespace().nth(1) == Some("00000000"));
    let is_default = |line: &&str| line.starts_with("00000000000000000000000000000000 00 ");
    v4 || v6.lines().filter(is_default).any(|line| line.split_whitespace().next_back() != Some("lo"))
}

/// By /proc/uptime, see proc_uptime(5).
fn is_young(uptime: &str) -> bool {
    let seconds = uptime.split(['.', ' ']).next().and_then(|text| text.parse().ok());
    seconds.is_some_and(|seconds: u64| seconds < LIMIT.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_known() {
        let head = "Iface\tDestination\tGateway \tFlags\n";
        let bridge = "docker0\t000011AC\t00000000\t0001\n";
        let out = "eth0\t00000000\t0202000A\t0003\n";
        let zeros = "0".repeat(32);
        let lo = format!("{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo\n");
        let eth = format!("{zeros} 00 {zeros} 00 {zeros} 00000400 00000001 00000000 00000003     eth0\n");
        for (v4, v6, expected) in [
            (String::new(), String::new(), false),
            (format!("{head}{bridge}"), lo.clone(), false),
            (format!("{head}{bridge}{out}"), lo, true),
            (head.to_owned(), eth, true),
        ] {
            assert_eq!(has_default_route(&v4, &v6), expected, "{v4}{v6}");
        }
    }

    #[test]
    fn a_machine_is_young_for_half_a_minute() {
        assert!(is_young("3.07 4.11\n") && is_young("29.99 1.00\n"));
        assert!(!is_young("30.00 1.00\n") && !is_young(""));
    }
}
