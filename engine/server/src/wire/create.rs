//! The body of `POST /containers/create`.
//!
//! Its `HostConfig` is [`super::host`]'s.

use std::collections::{BTreeMap, BTreeSet};

use core::containers::{Config, HostConfig};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::host::asks;
use crate::reply::ApiError;

/// The whole body.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct Body {
    hostname: String,
    domainname: String,
    user: String,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Vec<String>,
    cmd: Option<Words>,
    entrypoint: Option<Words>,
    image: String,
    working_dir: String,
    labels: BTreeMap<String, String>,
    exposed_ports: BTreeMap<String, Value>,
    volumes: BTreeMap<String, Value>,
    stop_signal: String,
    stop_timeout: Option<i64>,
    shell: Option<Vec<String>>,
    network_disabled: bool,
    healthcheck: Option<core::images::Healthcheck>,
    host_config: Map<String, Value>,
    networking_config: Networking,
}

/// A string or a list of strings.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Many(Vec<String>),
}

impl From<Words> for Vec<String> {
    fn from(words: Words) -> Vec<String> {
        match words {
            Words::One(word) => vec![word],
            Words::Many(words) => words,
        }
    }
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Networking {
    endpoints_config: BTreeMap<String, Map<String, Value>>,
}

pub(super) fn not_yet(text: impl std::fmt::Display) -> ApiError {
    ApiError::of(
        core::ErrorKind::NotImplemented,
        format!("{text} is not supported by this release of Pinnace yet"),
    )
}

impl Body {
    /// The request in core's words.
    ///
    /// # Errors
    /// 400 for what is wrong, 501 for what is not done yet.
    pub fn into_parts(self) -> Result<(Config, HostConfig), ApiError> {
        if self.image.is_empty() && self.cmd.is_none() && self.host_config.is_empty() {
            let text = "config cannot be empty in order to create a container";
            return Err(ApiError::bad_request(text));
        }
        if let Some(path) = self.volumes.keys().next() {
            return Err(not_yet(format_args!("the anonymous volume {path}")));
        }
        check_endpoints(&self.networking_config)?;
        let mut host = super::host::read(self.host_config)?;
        if self.network_disabled {
            host.network_mode = "none".to_owned();
        }
        let config = Config {
            hostname: self.hostname,
            domainname: self.domainname,
            user: self.user,
            attach_stdin: self.attach_stdin,
            attach_stdout: self.attach_stdout,
            attach_stderr: self.attach_stderr,
            tty: self.tty,
            open_stdin: self.open_stdin,
            stdin_once: self.stdin_once,
            env: self.env,
            cmd: self.cmd.map(Vec::from),
            entrypoint: self.entrypoint.map(Vec::from),
            image: self.image,
            working_dir: self.working_dir,
            labels: self.labels,
            exposed_ports: self.exposed_ports.into_keys().collect(),
            volumes: BTreeSet::new(),
            stop_signal: self.stop_signal,
            stop_timeout: self.stop_timeout,
            shell: self.shell,
            healthcheck: self.healthcheck,
            network_disabled: self.network_disabled,
        };
        Ok((config, host))
    }
}

/// Addresses, aliases and links need networks of the user's own.
fn check_endpoints(networking: &Networking) -> Result<(), ApiError> {
    for (network, endpoint) in &networking.endpoints_config {
        if !matches!(network.as_str(), "default" | "bridge" | "host" | "none") {
            return Err(not_yet(format_args!("the network {network}")));
        }
        if let Some((field, _)) = endpoint.iter().find(|(_, value)| asks(value)) {
            return Err(not_yet(format_args!("EndpointsConfig.{field}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(json: Value) -> Result<(Config, HostConfig), ApiError> {
        serde_json::from_value::<Body>(json).unwrap().into_parts()
    }

    #[test]
    fn the_clis_default_body_is_accepted() {
        let body = serde_json::json!({
            "Hostname": "", "Image": "busybox", "Cmd": "true", "Labels": {},
            "HostConfig": {
                "NetworkMode": "default", "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
                "AutoRemove": true, "ConsoleSize": [0, 0], "MemorySwappiness": -1, "PidsLimit": 0, "ShmSize": 0,
                "OomKillDisable": false, "BlkioWeightDevice": [], "LogConfig": {"Type": "", "Config": {}},
            },
            "NetworkingConfig": {"EndpointsConfig": {"default": {"MacAddress": "", "GwPriority": 0}}},
        });
        let (config, host) = parts(body).unwrap();
        assert_eq!(config.cmd, Some(vec!["true".to_owned()]));
        assert_eq!(host, HostConfig { auto_remove: true, ..HostConfig::default() });
    }

    #[test]
    fn what_is_not_done_is_refused() {
        let check = |host: Value, status: u16, text: &str| {
            let error = parts(serde_json::json!({"Image": "x", "HostConfig": host})).unwrap_err();
            assert_eq!(error.status.as_u16(), status);
            assert!(error.message.contains(text), "{}", error.message);
        };
        check(serde_json::json!({"PortBindings": {"80/tcp": [{}]}}), 501, "HostConfig.PortBindings");
        check(serde_json::json!({"RestartPolicy": {"Name": "x"}}), 400, "unknown policy 'x'");
        check(serde_json::json!({"IpcMode": "x"}), 400, "invalid IPC mode: x");
        check(serde_json::json!({"Runtime": "kata"}), 400, "unknown or invalid runtime name: kata");
    }
}
