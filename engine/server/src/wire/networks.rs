//! Networks as clients ask for them and as they are shown.

use std::collections::BTreeMap;
use std::net::IpAddr;

use networks::{AskedPool, Create, Network, Pool};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The body of `POST /networks/create`.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct Body {
    name: String,
    driver: String,
    scope: String,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_only: bool,
    config_from: Reference,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Reference {
    network: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Ipam {
    driver: String,
    options: Option<BTreeMap<String, String>>,
    config: Vec<Subnet>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Subnet {
    subnet: String,
    #[serde(rename = "IPRange")]
    range: String,
    gateway: String,
    #[serde(alias = "AuxAddress")]
    auxiliary_addresses: BTreeMap<String, String>,
}

impl Body {
    /// In the words of the networks' room.
    pub fn into_create(self) -> Create {
        let asked = |subnet: Subnet| AskedPool {
            subnet: subnet.subnet,
            range: subnet.range,
            gateway: subnet.gateway,
            auxiliary: subnet.auxiliary_addresses,
        };
        Create {
            name: self.name,
            driver: self.driver,
            options: self.options,
            labels: self.labels,
            scope: self.scope,
            ingress: self.ingress,
            config_only: self.config_only,
            config_from: self.config_from.network,
            internal: self.internal,
            has_ipv4: self.enable_ipv4 != Some(false),
            has_ipv6: self.enable_ipv6 == Some(true),
            attachable: self.attachable,
            ipam_driver: self.ipam.driver,
            ipam_options: self.ipam.options,
            pools: self.ipam.config.into_iter().map(asked).collect(),
        }
    }
}

/// The bodies of connect and disconnect.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct Connection {
    /// Name or id.
    pub container: String,
    /// What is asked of the place.
    pub endpoint_config: Option<super::endpoint::Endpoint>,
    /// Although the network may be gone.
    pub force: bool,
}

/// A network without its containers.
pub fn show(network: &Network) -> Value {
    let record = &network.record;
    let pools: Vec<Value> = record.ipam.pools.iter().map(pool).collect();
    json!({
        "Name": record.name, "Id": network.id, "Created": record.created.rfc3339(), "Scope": "local",
        "Driver": record.driver, "EnableIPv4": record.has_ipv4, "EnableIPv6": record.has_ipv6,
        "IPAM": {
            "Driver": if record.ipam.driver.is_empty() { "default" } else { &record.ipam.driver }, "Options": record.ipam.options,
            "Config": if pools.is_empty() { Value::Null } else { json!(pools) },
        },
        "Internal": record.internal, "Attachable": record.attachable, "Ingress": false,
        "ConfigFrom": { "Network": record.config_from },
        "ConfigOnly": record.config_only, "Options": record.options, "Labels": record.labels,
    })
}

fn pool(pool: &Pool) -> Value {
    let mut shown = json!({ "Subnet": pool.subnet.to_string() });
    if let Some(range) = pool.range {
        shown["IPRange"] = json!(range.to_string());
    }
    if let Some(gateway) = pool.gateway.filter(|_| !pool.hides_gateway) {
        shown["Gateway"] = json!(gateway.to_string());
    }
    if !pool.auxiliary.is_empty() {
        let text = |(name, address): (&String, &IpAddr)| (name.clone(), json!(address.to_string()));
        shown["AuxiliaryAddresses"] = pool.auxiliary.iter().map(text).collect::<Map<_, _>>().into();
    }
    shown
}

/// Those that run on the network, by id.
pub fn containers(network: &Network) -> Value {
    let shown = network.members().into_iter().map(|(id, member)| {
        let place = &member.endpoint;
        let value = json!({
            "Name": member.name, "EndpointID": place.endpoint_id, "MacAddress": place.mac,
            "IPv4Address": text(place.address), "IPv6Address": text(place.ipv6),
        });
        (id, value)
    });
    shown.collect::<Map<_, _>>().into()
}

/// What there is, as text.
fn text(shown: Option<impl ToString>) -> String {
    shown.map_or(String::new(), |shown| shown.to_string())
}

/// How full the network's subnets are. The addresses of network and broadcast are in use, too.
pub fn status(network: &Network) -> Value {
    let mut subnets = Map::new();
    if let Some(pool) = network.record.pool() {
        let all = 1u64 << (32 - pool.subnet.prefix_len());
        let used = network.addresses_taken() as u64 + 2;
        let range = pool.range.map_or(all, |range| 1u64 << (32 - range.prefix_len()));
        subnets.insert(
            pool.subnet.to_string(),
            json!({ "IPsInUse": used, "DynamicIPsAvailable": range.saturating_sub(used) }),
        );
    }
    json!({ "IPAM": { "Subnets": subnets } })
}
