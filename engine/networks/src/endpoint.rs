//! A container's place on a network.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use runtime::network::{Exit, Mac};
use serde::{Deserialize, Serialize};

use super::leases::Lease;
use super::link::Plug;

/// A container's place on a network while it runs. It goes with the machine, so it is kept on no disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name of the network.
    pub network: String,
    /// Its id; empty in what an engine of the first release wrote.
    #[serde(default)]
    pub network_id: String,
    /// 64 hexadecimal digits.
    pub endpoint_id: String,
    /// With the subnet's prefix length, where the network has IPv4.
    pub address: Option<Ipv4Net>,
    /// The subnet's way out; an internal network has none.
    pub gateway: Option<Ipv4Addr>,
    /// With the subnet's prefix length, where the network has IPv6.
    #[serde(default)]
    pub ipv6: Option<Ipv6Net>,
    /// The subnet's way out of IPv6.
    #[serde(default)]
    pub gateway_6: Option<Ipv6Addr>,
    /// Addresses that hold on its link alone, beside those of the network.
    #[serde(default)]
    pub link_local: Vec<IpNet>,
    /// What it is connected by.
    #[serde(default)]
    pub plug: Plug,
    /// Packets for the outside go out of the interface as they are, to no gateway.
    #[serde(default)]
    pub without_gateway: bool,
    /// Hardware address; empty where it has its parent's.
    pub mac: String,
    /// Name of the interface in the container.
    #[serde(default = "first_interface")]
    pub interface: String,
    /// Name of the cable's end in the bridge; empty where there is none, and in what an engine of the first release wrote.
    #[serde(default)]
    pub cable: String,
    /// Which of several ways out is taken: the highest.
    #[serde(default)]
    pub priority: i64,
}

fn first_interface() -> String {
    "eth0".to_owned()
}

impl Endpoint {
    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ipv4 = self.address.map(|address| IpAddr::V4(address.addr()));
        ipv4.into_iter().chain(self.ipv6.map(|ipv6| IpAddr::V6(ipv6.addr())))
    }

    /// What the network gave it.
    pub(super) fn lease(&self) -> Lease {
        Lease { ipv4: self.address, ipv6: self.ipv6 }
    }

    /// Where its packets for the outside go, if it is a way out.
    pub(super) fn exit(&self) -> Option<Exit<Ipv4Addr>> {
        let link = self.address.filter(|_| self.without_gateway).map(|_| Exit::Link);
        self.gateway.map(Exit::Via).or(link)
    }

    /// The same for IPv6.
    pub(super) fn exit_6(&self) -> Option<Exit<Ipv6Addr>> {
        let link = self.ipv6.filter(|_| self.without_gateway).map(|_| Exit::Link);
        self.gateway_6.map(Exit::Via).or(link)
    }
}

/// The same for packets of IPv6.
pub fn way_out_6<'a>(places: impl IntoIterator<Item = &'a Endpoint>) -> Option<&'a Endpoint> {
    first(places.into_iter().filter(|place| place.exit_6().is_some()))
}

/// The place over which packets leave for the outside: the one with the highest priority, of several the one whose network's
/// name is first.
pub fn way_out<'a>(places: impl IntoIterator<Item = &'a Endpoint>) -> Option<&'a Endpoint> {
    first(places.into_iter().filter(|place| place.exit().is_some()))
}

/// The place to whose address published ports lead: on a bridge, for nothing is published on other networks. It is the way
/// out, and that of IPv6 where no network has IPv4.
pub fn published<'a>(places: impl IntoIterator<Item = &'a Endpoint>) -> Option<(&'a Endpoint, IpAddr)> {
    let bridged: Vec<&Endpoint> = places.into_iter().filter(|place| place.plug == Plug::Bridge).collect();
    let ipv4 = way_out(bridged.iter().copied());
    let ipv4 = ipv4.and_then(|place| Some((place, IpAddr::V4(place.address?.addr()))));
    ipv4.or_else(|| {
        let place = way_out_6(bridged)?;
        Some((place, IpAddr::V6(place.ipv6?.addr())))
    })
}

fn first<'a>(open: impl Iterator<Item = &'a Endpoint>) -> Option<&'a Endpoint> {
    open.max_by_key(|place| (place.priority, Reverse(&place.network)))
}

/// What a container asks of its place on one network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    /// Name or id of the network.
    pub network: String,
    /// Address; empty is any.
    pub address: String,
    /// Address of IPv6; empty is any.
    pub ipv6: String,
    /// Addresses that hold on its link alone, beside those of the network.
    pub link_local: Vec<String>,
    /// Hardware address; a random one where `None`.
    pub mac: Option<Mac>,
    /// Which of several ways out is taken: the highest.
    pub priority: i64,
    /// Name of the interface; the next one where empty.
    pub interface: String,
    /// What it is called there beside its own name, first the aliases.
    pub names: Vec<String>,
    /// What it calls others there: (name, the other's name).
    pub links: Vec<(String, String)>,
}

/// Who is to be on a network: known by an id and a name only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guest<'a> {
    /// 64 hexadecimal digits.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(network: &str, priority: i64, open: bool) -> Endpoint {
        Endpoint {
            network: network.to_owned(),
            network_id: String::new(),
            endpoint_id: String::new(),
            address: "10.0.0.2/24".parse().ok(),
            gateway: open.then(|| Ipv4Addr::new(10, 0, 0, 1)),
            ipv6: None,
            gateway_6: None,
            link_local: vec![],
            plug: Plug::Bridge,
            without_gateway: false,
            mac: String::new(),
            interface: String::new(),
            cable: String::new(),
            priority,
        }
    }

    #[test]
    fn the_way_out_is_the_one_with_the_highest_priority_or_the_first_name() {
        let check = |places: &[Endpoint], expected: Option<&str>| {
            assert_eq!(way_out(places).map(|place| place.network.as_str()), expected);
        };
        check(&[], None);
        check(&[place("a", 0, false)], None);
        check(&[place("b", 0, true), place("a", 0, true)], Some("a"));
        check(&[place("b", 1, true), place("a", 0, true)], Some("b"));
        check(&[place("b", 1, false), place("a", 0, true)], Some("a"));
        check(&[place("b", -1, true), place("a", 0, true)], Some("a"));
        // Without a gateway as well, where none is needed.
        let layer_3 = Endpoint { without_gateway: true, ..place("a", 0, false) };
        check(&[place("b", 0, true), layer_3.clone()], Some("a"));
        check(&[Endpoint { address: None, ..layer_3 }], None);
    }

    #[test]
    fn ports_lead_to_places_on_bridges() {
        let check = |places: &[Endpoint], expected: Option<(&str, &str)>| {
            let got = published(places).map(|(place, address)| (place.network.as_str(), address.to_string()));
            let expected = expected.map(|(network, address)| (network, address.to_owned()));
            assert_eq!(got, expected);
        };
        let macvlan = Endpoint { plug: Plug::Macvlan, ..place("a", 9, true) };
        check(std::slice::from_ref(&macvlan), None);
        check(&[macvlan.clone(), place("b", 0, true)], Some(("b", "10.0.0.2")));
        let (ipv6, gateway_6) = ("fd00::2/64".parse().ok(), "fd00::1".parse().ok());
        let only_6 = Endpoint { address: None, ipv6, gateway_6, ..place("c", 0, false) };
        check(&[macvlan, only_6.clone()], Some(("c", "fd00::2")));
        check(&[only_6, place("d", 0, true)], Some(("d", "10.0.0.2")));
    }

    /// Written by an engine of the first release.
    #[test]
    fn an_old_place_is_read() {
        let place = r#"{"network":"bridge","endpoint_id":"ab","address":"172.17.0.2/16","gateway":"172.17.0.1",
            "mac":"02:42:ac:11:00:02"}"#;
        let place: Endpoint = serde_json::from_str(place).unwrap();
        assert_eq!((place.interface.as_str(), place.gateway), ("eth0", Some(Ipv4Addr::new(172, 17, 0, 1))));
    }
}
