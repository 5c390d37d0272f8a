//! Fields of a creation that exclude one another because of whose network the container uses.

use serde_json::{Map, Value};

use super::host::asks;

/// What stands outside `HostConfig`, as the client wrote it.
pub struct Own {
    /// A host name was given.
    pub hostname: bool,
    /// Ports were exposed.
    pub ports: bool,
}

/// dockerd's text about the first contradiction.
pub fn find(host: &Map<String, Value>, own: &Own) -> Option<&'static str> {
    let asks = |field: &str| host.get(field).is_some_and(asks);
    let mode = host.get("NetworkMode").and_then(Value::as_str).unwrap_or_default();
    let joins = mode.strip_prefix("container:");
    let uts_of_host = host.get("UTSMode").is_some_and(|mode| mode == "host");
    let rules = [
        (joins == Some(""), "Invalid network mode: invalid container format container:<name|id>"),
        (uts_of_host && own.hostname, "conflicting options: hostname and the UTS mode"),
        (
            mode == "host" && asks("Links"),
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        ),
        (joins.is_some() && own.hostname, "conflicting options: hostname and the network mode"),
        (
            joins.is_some() && asks("Links"),
            "conflicting options: container type network can't be used with links. This would result in undefined \
             behavior",
        ),
        (joins.is_some() && asks("Dns"), "conflicting options: dns and the network mode"),
        (
            joins.is_some() && asks("ExtraHosts"),
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (
            joins.is_some() && (asks("PortBindings") || asks("PublishAllPorts")),
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            joins.is_some() && own.ports,
            "conflicting options: port exposing and the container type network mode",
        ),
    ];
    rules.into_iter().find(|(broken, _)| *broken).map(|(_, text)| text)
}
