//! What the store keeps of a network.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// When it was made.
    pub created: Timestamp,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Nothing passes between it and the outside.
    pub internal: bool,
    /// Its containers have IPv6 addresses as well.
    pub has_ipv6: bool,
    /// Said by the creator; it matters to swarms only.
    pub attachable: bool,
    /// Its addresses.
    pub ipam: Ipam,
}

/// The addresses of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// Options of the driver, which is always `default`; shown as they were given.
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
    /// The machine's own address there.
    pub gateway: IpAddr,
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

impl NetworkRecord {
    /// Its subnet of IPv4 addresses.
    pub fn pool(&self) -> Option<&Pool> {
        self.ipam.pools.iter().find(|pool| pool.subnet.addr().is_ipv4())
    }

    /// Its subnet of IPv6 addresses.
    pub fn pool_6(&self) -> Option<&Pool> {
        self.ipam.pools.iter().find(|pool| pool.subnet.addr().is_ipv6())
    }

    /// The machine's IPv6 address there, with the length of the subnet.
    pub fn gateway_6(&self) -> Option<Ipv6Net> {
        let pool = self.pool_6()?;
        match (pool.subnet, pool.gateway) {
            (IpNet::V6(subnet), IpAddr::V6(gateway)) => Ipv6Net::new(gateway, subnet.prefix_len()).ok(),
            _ => None,
        }
    }

    /// Where a container's packets for the outside go by IPv6.
    pub fn way_out_6(&self) -> Option<Ipv6Addr> {
        self.gateway_6().map(|gateway| gateway.addr()).filter(|_| !self.internal)
    }

    /// The machine's address there, with the length of the subnet.
    pub fn gateway(&self) -> Option<Ipv4Net> {
        let pool = self.pool()?;
        match (pool.subnet, pool.gateway) {
            (IpNet::V4(subnet), IpAddr::V4(gateway)) => Ipv4Net::new(gateway, subnet.prefix_len()).ok(),
            _ => None,
        }
    }

    /// Where a container's packets for the outside go; an internal network has no such place.
    pub fn way_out(&self) -> Option<Ipv4Addr> {
        self.gateway().map(|gateway| gateway.addr()).filter(|_| !self.internal)
    }
}
