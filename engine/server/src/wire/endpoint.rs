//! A container's place on a network, as clients ask for it and as they are shown it.

use std::collections::BTreeMap;

use containers::{AskedAddresses, EndpointSettings, Record, Recorded, Snapshot};
use networks::Networks;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::create::ENDPOINTS;
use crate::reply::ApiError;
use crate::version::ApiVersion;

/// `EndpointSettings`. What inspect shows besides is sent back by clients that make a container anew, and asks for nothing.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<Addresses>,
    links: Vec<String>,
    aliases: Vec<String>,
    mac_address: String,
    driver_opts: BTreeMap<String, String>,
    gw_priority: i64,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Addresses {
    #[serde(rename = "IPv4Address")]
    ipv4: String,
    #[serde(rename = "IPv6Address")]
    ipv6: String,
    #[serde(rename = "LinkLocalIPs")]
    link_local: Vec<String>,
}

impl Endpoint {
    /// In the words of the containers' room.
    ///
    /// # Errors
    /// What this release cannot do.
    pub fn read(self, version: ApiVersion) -> Result<EndpointSettings, ApiError> {
        let addresses = self.ipam_config.map(Addresses::read);
        Ok(EndpointSettings {
            mac: if version >= ENDPOINTS { self.mac_address } else { String::new() },
            addresses,
            aliases: self.aliases,
            links: self.links,
            driver_opts: self.driver_opts,
            priority: self.gw_priority,
        })
    }
}

impl Addresses {
    fn read(self) -> AskedAddresses {
        AskedAddresses { ipv4: self.ipv4, ipv6: self.ipv6, link_local: self.link_local }
    }
}

/// `Networks` by name: its addresses while it runs, before and after only what it asks for.
pub fn endpoints(record: &Record, snapshot: &Snapshot, networks: &Networks) -> Value {
    let mut shown = Map::new();
    let ran = !matches!(record.state, Recorded::Created(_));
    for (name, asked) in &record.spec.endpoints {
        let place = record.endpoints.get(name).filter(|_| snapshot.state.running().is_some());
        let id = match place {
            Some(place) if !place.network_id.is_empty() => Some(place.network_id.clone()),
            _ => networks.id(name).filter(|_| ran),
        };
        let names = if ran { record.dns_names(name) } else { vec![] };
        let value = json!({
            "IPAMConfig": asked.addresses.as_ref().map(shown_addresses),
            "Links": list(&asked.links), "Aliases": list(&asked.aliases),
            "MacAddress": place.map_or(asked.mac.as_str(), |p| p.mac.as_str()),
            "DriverOpts": if asked.driver_opts.is_empty() { Value::Null } else { json!(asked.driver_opts) },
            "GwPriority": asked.priority, "NetworkID": id.unwrap_or_default(),
            "EndpointID": place.map_or("", |p| p.endpoint_id.as_str()),
            "Gateway": place.and_then(|p| p.gateway).map_or(String::new(), |gateway| gateway.to_string()),
            "IPAddress": place.and_then(|p| p.address).map_or(String::new(), |net| net.addr().to_string()),
            "IPPrefixLen": place.and_then(|p| p.address).map_or(0, |net| net.prefix_len()), "IPv6Gateway": place.and_then(|p| p.gateway_6).map_or(String::new(), |gateway| gateway.to_string()),
            "GlobalIPv6Address": place.and_then(|p| p.ipv6).map_or(String::new(), |ipv6| ipv6.addr().to_string()),
            "GlobalIPv6PrefixLen": place.and_then(|p| p.ipv6).map_or(0, |ipv6| ipv6.prefix_len()), "DNSNames": list(&names),
        });
        shown.insert(name.clone(), value);
    }
    shown.into()
}

fn shown_addresses(asked: &AskedAddresses) -> Value {
    let given = [("IPv4Address", &asked.ipv4), ("IPv6Address", &asked.ipv6)];
    let given = given.into_iter().filter(|(_, text)| !text.is_empty());
    let mut shown: Map<_, _> = given.map(|(key, text)| (key.to_owned(), json!(text))).collect();
    if !asked.link_local.is_empty() {
        shown.insert("LinkLocalIPs".to_owned(), json!(asked.link_local));
    }
    shown.into()
}

fn list(words: &[String]) -> Value {
    if words.is_empty() { Value::Null } else { json!(words) }
}
