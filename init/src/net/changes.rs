//! What must be done to a card that is configured by one lease so that it is configured by another. Pure.
//!
//! What stays is not touched: an address that is taken away for a moment takes the card's routes with it, and every
//! connection that is translated to it.

use std::net::Ipv4Addr;

use super::dhcp::Lease;
use super::wire::Options;

/// Destination, prefix length, gateway.
pub type Route = (Ipv4Addr, u8, Ipv4Addr);

/// One thing that is done by itself: where it fails the others are done all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Take the address from the card.
    RemoveAddress(Ipv4Addr, u8),
    /// Largest packet of the link.
    Mtu(u16),
    /// Give the card the address.
    AddAddress(Ipv4Addr, u8),
    /// Take the route away.
    RemoveRoute(Route),
    /// Make the route, or lead it another way.
    SetRoute(Route),
    /// Resolvers and search domain.
    Resolver(Vec<Ipv4Addr>, Option<String>),
    /// The machine's name.
    HostName(String),
}

/// In the order in which they are to be done.
pub fn between(before: Option<&Lease>, after: &Lease) -> Vec<Step> {
    let held = before.filter(|before| place(before) == place(after));
    let (old, new) = (held.map(|held| &held.options), &after.options);
    let mut steps = Vec::new();
    // The old address first: one of the same network would be the second behind it, and go with it (in_device's
    // promote_secondaries is off).
    steps.extend(before.filter(|_| held.is_none()).map(|old| Step::RemoveAddress(old.address, old.prefix)));
    // An MTU below IPv4's least (RFC 791) would switch the protocol off.
    steps.extend(news(old, new, |options| options.mtu.filter(|mtu| *mtu >= 576)).map(Step::Mtu));
    if held.is_none() {
        steps.push(Step::AddAddress(after.address, after.prefix));
    }
    steps.extend(route_changes(old.map(routes).unwrap_or_default(), routes(new)));
    let names = |options: &Options| Some((options.dns.clone(), options.domain.clone()));
    steps.extend(news(old, new, names).map(|(dns, domain)| Step::Resolver(dns, domain)));
    steps.extend(news(old, new, |options| options.host_name.clone()).map(Step::HostName));
    steps
}

fn place(lease: &Lease) -> (Ipv4Addr, u8) {
    (lease.address, lease.prefix)
}

/// What `field` has in `new`, where `old` has not the same.
fn news<T: PartialEq>(
    old: Option<&Options>,
    new: &Options,
    field: impl Fn(&Options) -> Option<T>,
) -> Option<T> {
    field(new).filter(|new| old.and_then(&field).as_ref() != Some(new))
}

/// Those that go, then those that come: a route to the same destination is led another way, never missing.
fn route_changes(old: Vec<Route>, new: Vec<Route>) -> Vec<Step> {
    let leads = |routes: &[Route], to: &Route| routes.iter().any(|route| (route.0, route.1) == (to.0, to.1));
    let gone = old.iter().filter(|route| !leads(&new, route)).copied().map(Step::RemoveRoute);
    let come = new.iter().filter(|route| !old.contains(route)).copied().map(Step::SetRoute);
    gone.chain(come).collect()
}

/// RFC 3442: classless routes replace the router. A link's own routes come first, for gateways behind them.
fn routes(options: &Options) -> Vec<Route> {
    if options.routes.is_empty() {
        return options.router.map(|router| (Ipv4Addr::UNSPECIFIED, 0, router)).into_iter().collect();
    }
    let mut routes = options.routes.clone();
    routes.sort_by_key(|(_, _, gateway)| !gateway.is_unspecified());
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

    fn lease(change: impl Fn(&mut Lease)) -> Lease {
        let options = Options {
            router: Some(GATEWAY),
            dns: vec![GATEWAY],
            mtu: Some(1400),
            host_name: Some("boat".into()),
            lease: Some(3600),
            t1: Some(1800),
            ..Options::default()
        };
        let mut lease = Lease { address: Ipv4Addr::new(10, 0, 0, 5), prefix: 24, options };
        change(&mut lease);
        lease
    }

    #[test]
    fn a_card_without_configuration_gets_all() {
        let want = [
            Step::Mtu(1400),
            Step::AddAddress(Ipv4Addr::new(10, 0, 0, 5), 24),
            Step::SetRoute((ANY, 0, GATEWAY)),
            Step::Resolver(vec![GATEWAY], None),
            Step::HostName("boat".into()),
        ];
        assert_eq!(between(None, &lease(|_| {})), want);
    }

    #[test]
    fn only_what_differs_is_done() {
        let check = |change: fn(&mut Lease), want: &[Step]| {
            assert_eq!(between(Some(&lease(|_| {})), &lease(change)), want);
        };
        check(|_| {}, &[]);
        // dnsmasq gives each renewal times of its own.
        check(
            |new| (new.options.t1, new.options.t2, new.options.lease) = (Some(1700), Some(3000), None),
            &[],
        );
        check(|new| new.options.dns = vec![OTHER], &[Step::Resolver(vec![OTHER], None)]);
        check(
            |new| new.options.domain = Some("a.b".into()),
            &[Step::Resolver(vec![GATEWAY], Some("a.b".into()))],
        );
        check(|new| new.options.mtu = Some(1500), &[Step::Mtu(1500)]);
        check(|new| new.options.mtu = Some(68), &[]);
        check(|new| new.options.host_name = Some("ship".into()), &[Step::HostName("ship".into())]);
        check(|new| new.options.router = Some(OTHER), &[Step::SetRoute((ANY, 0, OTHER))]);
        check(|new| new.options.router = None, &[Step::RemoveRoute((ANY, 0, GATEWAY))]);
        let private = (Ipv4Addr::new(10, 0, 0, 0), 8, OTHER);
        check(
            |new| new.options.routes = vec![(ANY, 0, GATEWAY), (Ipv4Addr::new(10, 0, 0, 0), 8, OTHER)],
            &[Step::SetRoute(private)],
        );
    }

    #[test]
    fn another_address_replaces_the_old_with_its_routes() {
        let old = lease(|_| {});
        for change in [(|new| new.prefix = 16) as fn(&mut Lease), |new| new.address = OTHER] {
            let new = lease(change);
            let mut want = vec![Step::RemoveAddress(old.address, old.prefix)];
            want.extend(between(None, &new));
            assert_eq!(between(Some(&old), &new), want);
        }
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let mut options = Options { router: Some(GATEWAY), ..Options::default() };
        assert_eq!(routes(&options), [(ANY, 0, GATEWAY)]);
        options.routes = vec![(ANY, 0, OTHER), (OTHER, 32, ANY)];
        assert_eq!(routes(&options), [(OTHER, 32, ANY), (ANY, 0, OTHER)]);
    }
}
