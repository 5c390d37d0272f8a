//! What the store keeps of a network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use store::Table;

/// Id of a network → what it is.
pub(super) const NETWORKS: Table<str, NetworkRecord> = Table::new("networks");

/// A network as its creator said it, with what was chosen for it. Rows of the first release have a name and a driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkRecord {
    /// What it is called.
    pub name: String,
    /// `bridge`, `macvlan`, `ipvlan`, `host` or `null`.
    pub driver: String,
    /// When it was made.
    pub created: Timestamp,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Nothing passes between it and the outside.
    pub internal: bool,
    /// Its containers have IPv4 addresses; what earlier releases wrote does not say so.
    #[serde(default = "yes")]
    pub has_ipv4: bool,
    /// Its containers have IPv6 addresses.
    pub has_ipv6: bool,
    /// Said by the creator; it matters to swarms only.
    pub attachable: bool,
    /// Its addresses.
    pub ipam: Ipam,
    /// It is only what others are made from: nobody is on it.
    pub config_only: bool,
    /// Name of the network of configuration only that it was made from; empty where none.
    pub config_from: String,
}

fn yes() -> bool {
    true
}

/// The addresses of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// Who gives the addresses. Empty is `default`, and another is only what a network of configuration only says.
    pub driver: String,
    /// Options of that driver; shown as they were given.
    pub options: Option<BTreeMap<String, String>>,
    /// Its subnets, in order.
    pub pools: Vec<Pool>,
}

/// One subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// All its addresses.
    pub subnet: IpNet,
    /// Those that are given without being asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<IpNet>,
    /// Where packets for the outside go: on a bridge the machine's own address. Without one a container may have any
    /// address.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Addresses that no container gets unasked, by a name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// The creator named the subnet.
    #[serde(default)]
    pub asked_for: bool,
    /// The creator named the subnet and left the gateway to be chosen: then Docker does not show it.
    #[serde(default)]
    pub hides_gateway: bool,
}

impl Pool {
    /// A subnet of which nothing more is said.
    #[must_use]
    pub fn of(subnet: IpNet) -> Pool {
        let (auxiliary, asked_for, hides_gateway) = (BTreeMap::new(), false, false);
        Pool { subnet, range: None, gateway: None, auxiliary, asked_for, hides_gateway }
    }

    /// Its gateway with the length of the subnet.
    fn gateway_net(&self) -> Option<IpNet> {
        IpNet::new(self.gateway?, self.subnet.prefix_len()).ok()
    }
}

impl NetworkRecord {
    /// The subnets from which its containers get addresses. Those of a family that the network does not have are only shown.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        let is_used = |pool: &&Pool| if pool.subnet.addr().is_ipv4() { self.has_ipv4 } else { self.has_ipv6 };
        self.ipam.pools.iter().filter(|_| !self.config_only).filter(is_used)
    }

    /// Its first subnet of IPv4 addresses.
    pub fn pool(&self) -> Option<&Pool> {
        self.pools().find(|pool| pool.subnet.addr().is_ipv4())
    }

    /// Its first subnet of IPv6 addresses.
    pub fn pool_6(&self) -> Option<&Pool> {
        self.pools().find(|pool| pool.subnet.addr().is_ipv6())
    }

    /// The machine's address on a bridge, with the length of the subnet.
    pub fn gateway(&self) -> Option<Ipv4Net> {
        match self.pool()?.gateway_net()? {
            IpNet::V4(gateway) => Some(gateway),
            IpNet::V6(_) => None,
        }
    }

    /// The machine's IPv6 address on a bridge, with the length of the subnet.
    pub fn gateway_6(&self) -> Option<Ipv6Net> {
        match self.pool_6()?.gateway_net()? {
            IpNet::V6(gateway) => Some(gateway),
            IpNet::V4(_) => None,
        }
    }

    /// Where packets for the outside go from this address; an internal network has no such place.
    pub(super) fn way_out(&self, from: IpAddr) -> Option<IpAddr> {
        let mut pools = self.pools().filter(|_| !self.internal);
        pools.find(|pool| pool.subnet.contains(&from))?.gateway
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by an engine before networks could be without IPv4.
    #[test]
    fn an_older_row_has_ipv4_and_its_gateway() {
        let row = r#"{"name":"n","driver":"bridge","ipam":{"options":null,"pools":[
            {"subnet":"10.1.0.0/16","gateway":"10.1.0.1"}]}}"#;
        let record: NetworkRecord = serde_json::from_str(row).unwrap();
        assert!(record.has_ipv4 && !record.config_only);
        assert_eq!(record.gateway().map(|net| net.to_string()).as_deref(), Some("10.1.0.1/16"));
        assert_eq!(record.way_out("10.1.2.3".parse().unwrap()), "10.1.0.1".parse().ok());
    }

    #[test]
    fn subnets_of_a_family_that_is_not_enabled_are_only_shown() {
        let pools = ["10.9.0.0/24", "fd00:9::/64"].map(|subnet| Pool::of(subnet.parse().unwrap()));
        let ipam = Ipam { pools: pools.into(), ..Ipam::default() };
        let record = NetworkRecord { ipam, has_ipv6: true, ..NetworkRecord::default() };
        assert!(record.pool().is_none() && record.pool_6().is_some());
        let config = NetworkRecord { config_only: true, ..record };
        assert_eq!(config.pools().count(), 0);
    }
}
