//! Tag Network: the networks that every engine has, to be read.

use std::sync::Arc;

use model::timestamp::Timestamp;
use networks::{PREDEFINED, gateway};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::call::Call;
use crate::reply::{self, ApiError, Reply};
use crate::version::ApiVersion;
use crate::wire::inspect::place;

const FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

/// `GET /networks`.
pub async fn list(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let filters = call.query.filters(&FILTERS)?;
    let rows: Vec<Value> = PREDEFINED
        .iter()
        .filter(|(name, driver)| {
            let id = app.networks.id(name).unwrap_or_default();
            filters.allows("name", |wanted| name.contains(wanted.as_str()))
                && filters.allows("driver", |wanted| driver == wanted)
                && filters.allows("id", |wanted| id.starts_with(wanted.as_str()))
                && filters.allows("scope", |wanted| wanted == "local")
                && filters.allows("type", |wanted| wanted == "builtin")
                && filters.allows("dangling", |wanted| !matches!(wanted.as_str(), "true" | "1"))
                && filters.get("label").is_none()
        })
        .map(|(name, driver)| network(&app, name, driver))
        .collect();
    Ok(reply::ok(&rows))
}

/// `GET /networks/{id}`.
pub async fn inspect(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let wanted = call.name.as_str();
    let by_name = PREDEFINED.iter().find(|(name, _)| *name == wanted);
    let by_id =
        || PREDEFINED.iter().find(|(name, _)| app.networks.id(name).is_some_and(|id| id.starts_with(wanted)));
    let Some((name, driver)) = by_name.or_else(by_id) else {
        return Err(ApiError::of(model::ErrorKind::NotFound, format!("network {wanted} not found")));
    };
    let mut value = network(&app, name, driver);
    value["Containers"] = containers(&app, name);
    if call.version >= ApiVersion(1, 52) {
        value["Status"] = status(&app, *driver == "bridge");
    }
    Ok(reply::ok(&value))
}

/// How full the network's subnets are. The addresses of network, gateway and broadcast are in use, too.
fn status(app: &App, bridge: bool) -> Value {
    let mut subnets = Map::new();
    if bridge {
        let subnet = gateway().trunc();
        let all = 1u64 << (32 - subnet.prefix_len());
        let used = app.networks.in_use() as u64 + 2;
        subnets.insert(
            subnet.to_string(),
            json!({ "IPsInUse": used, "DynamicIPsAvailable": all.saturating_sub(used) }),
        );
    }
    json!({ "IPAM": { "Subnets": subnets } })
}

fn network(app: &App, name: &str, driver: &str) -> Value {
    let bridge = driver == "bridge";
    let (gateway, subnet) = (gateway().addr().to_string(), gateway().trunc().to_string());
    let config = if bridge { json!([{ "Subnet": subnet, "Gateway": gateway }]) } else { Value::Null };
    let options = if bridge {
        json!({
            "com.docker.network.bridge.default_bridge": "true", "com.docker.network.bridge.enable_icc": "true",
            "com.docker.network.bridge.enable_ip_masquerade": "true",
            "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
            "com.docker.network.bridge.name": "docker0", "com.docker.network.driver.mtu": "1500",
        })
    } else {
        json!({})
    };
    json!({
        "Name": name, "Id": app.networks.id(name).unwrap_or_default(), "Created": Timestamp(0).rfc3339(),
        "Scope": "local", "Driver": driver, "EnableIPv4": true, "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": null, "Config": config },
        "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": { "Network": "" },
        "ConfigOnly": false, "Options": options, "Labels": {},
    })
}

/// Those that run on the network, by id.
fn containers(app: &App, network: &str) -> Value {
    let mut map = Map::new();
    for container in app.containers.list() {
        let (record, snapshot) = (container.record(), container.snapshot());
        if record.host.network_mode != network || snapshot.state.running().is_none() {
            continue;
        }
        let place = place(&record, &snapshot);
        let value = json!({
            "Name": record.name, "EndpointID": place.map_or("", |p| p.endpoint_id.as_str()),
            "MacAddress": place.map_or("", |p| p.mac.as_str()),
            "IPv4Address": place.map_or(String::new(), |p| p.address.to_string()), "IPv6Address": "",
        });
        map.insert(record.id.clone(), value);
    }
    map.into()
}
