//! A container's place on a network.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use runtime::network::Mac;
use serde::{Deserialize, Serialize};

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
    /// With the subnet's prefix length.
    pub address: Ipv4Net,
    /// The subnet's way out; an internal network has none.
    pub gateway: Option<Ipv4Addr>,
    /// With the subnet's prefix length, where the network has IPv6.
    #[serde(default)]
    pub ipv6: Option<Ipv6Net>,
    /// The subnet's way out of IPv6.
    #[serde(default)]
    pub gateway_6: Option<Ipv6Addr>,
    /// Hardware address.
    pub mac: String,
    /// Name of the interface in the container.
    #[serde(default = "first_interface")]
    pub interface: String,
    /// Name of the cable's end in the bridge; empty in what an engine of the first release wrote.
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
        let ipv6 = self.ipv6.map(|ipv6| IpAddr::V6(ipv6.addr()));
        std::iter::once(IpAddr::V4(self.address.addr())).chain(ipv6)
    }
}

/// The same for packets of IPv6.
pub fn way_out_6<'a>(places: impl IntoIterator<Item = &'a Endpoint>) -> Option<&'a Endpoint> {
    let open = places.into_iter().filter(|place| place.gateway_6.is_some());
    open.max_by_key(|place| (place.priority, Reverse(&place.network)))
}

/// The place over which packets leave for the outside: the one with the highest priority, of several the one whose network's
/// name is first.
pub fn way_out<'a>(places: impl IntoIterator<Item = &'a Endpoint>) -> Option<&'a Endpoint> {
    let open = places.into_iter().filter(|place| place.gateway.is_some());
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

    #[test]
    fn the_way_out_is_the_one_with_the_highest_priority_or_the_first_name() {
        let place = |network: &str, priority, open: bool| Endpoint {
            network: network.to_owned(),
            network_id: String::new(),
            endpoint_id: String::new(),
            address: "10.0.0.2/24".parse().unwrap(),
            gateway: open.then(|| Ipv4Addr::new(10, 0, 0, 1)),
            ipv6: None,
            gateway_6: None,
            mac: String::new(),
            interface: String::new(),
            cable: String::new(),
            priority,
        };
        let check = |places: &[Endpoint], expected: Option<&str>| {
            assert_eq!(way_out(places).map(|place| place.network.as_str()), expected);
        };
        check(&[], None);
        check(&[place("a", 0, false)], None);
        check(&[place("b", 0, true), place("a", 0, true)], Some("a"));
        check(&[place("b", 1, true), place("a", 0, true)], Some("b"));
        check(&[place("b", 1, false), place("a", 0, true)], Some("a"));
        check(&[place("b", -1, true), place("a", 0, true)], Some("a"));
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
