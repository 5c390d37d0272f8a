//! The body of `POST /containers/create`.
//!
//! Its `HostConfig` is [`super::host`]'s.

use std::collections::{BTreeMap, BTreeSet};

use containers::{Config, Create, EndpointSettings};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::conflicts;
use super::endpoint::Endpoint;
use super::host::asks;
use super::ports::port;
use crate::reply::ApiError;
use crate::version::ApiVersion;

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
    mac_address: String,
    healthcheck: Option<images::Healthcheck>,
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
    endpoints_config: BTreeMap<String, Endpoint>,
}

pub(super) fn not_yet(text: impl std::fmt::Display) -> ApiError {
    ApiError::of(
        model::ErrorKind::NotImplemented,
        format!("{text} is not supported by this release of Pinnace yet"),
    )
}

impl Body {
    /// The request in core's words; name and platform are not in the body.
    ///
    /// # Errors
    /// 400 for what is wrong, 501 for what is not done yet.
    pub fn into_create(mut self, version: ApiVersion) -> Result<Create, ApiError> {
        if self.image.is_empty() && self.cmd.is_none() && self.entrypoint.is_none() {
            let text = "config cannot be empty in order to create a container";
            return Err(ApiError::bad_request(text));
        }
        self.host_config = super::host::named(self.host_config);
        if version < ApiVersion(1, 43) {
            self.host_config.remove("Annotations");
        }
        let percent = self.host_config.remove("CpuPercent").filter(asks);
        let discarded = percent.map(|_| "linux does not support CPU percent. Percent discarded.".to_owned());
        let exposed_ports = ports(self.exposed_ports.keys())?;
        let own = conflicts::Own { hostname: !self.hostname.is_empty(), ports: !exposed_ports.is_empty() };
        if let Some(text) = conflicts::find(&self.host_config, &own) {
            return Err(ApiError::bad_request(text));
        }
        let mut endpoints = self.networking_config.read(version)?;
        let mut host = super::host::read(self.host_config)?;
        super::mounts::check(&mut host.mounts, version)?;
        let images = host.mounts.iter().any(|mount| mount.r#type == "image");
        let experimental = images.then(|| "Image mount is an experimental feature".to_owned());
        if self.network_disabled {
            host.network_mode = "none".to_owned();
            endpoints.clear();
        }
        let discarded_ports = (host.network_mode == "host" && !host.port_bindings.is_empty())
            .then(|| "Published ports are discarded when using host network mode".to_owned());
        let main = endpoints.entry(host.network_mode.clone()).or_default();
        let endpoint_mac = std::mem::take(&mut main.mac);
        let (mac, warning) = moved_mac(self.mac_address, endpoint_mac, &host.network_mode, version)?;
        main.mac = mac;
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
            exposed_ports,
            volumes: self.volumes.into_keys().collect(),
            stop_signal: self.stop_signal,
            stop_timeout: self.stop_timeout,
            shell: self.shell,
            healthcheck: self.healthcheck,
            network_disabled: self.network_disabled,
        };
        Ok(Create {
            config,
            host,
            endpoints,
            warnings: warning
                .into_iter()
                .chain(discarded)
                .chain(discarded_ports)
                .chain(experimental)
                .collect(),
            ..Create::default()
        })
    }
}

fn ports<'a>(texts: impl Iterator<Item = &'a String>) -> Result<BTreeSet<String>, ApiError> {
    let invalid = |text: String| ApiError::bad_request(format!("invalid JSON: {text}"));
    texts.map(|text| port(text)).collect::<Result<_, _>>().map_err(invalid)
}

/// The first version whose containers may be on several networks, and whose endpoints have MAC addresses.
pub(super) const ENDPOINTS: ApiVersion = ApiVersion(1, 44);

impl Networking {
    /// What is asked of each network.
    fn read(self, version: ApiVersion) -> Result<BTreeMap<String, EndpointSettings>, ApiError> {
        let all = self.endpoints_config;
        if all.len() > 1 && version < ENDPOINTS {
            let names: Vec<&str> = all.keys().map(String::as_str).collect();
            let text = "Container cannot be created with multiple network endpoints";
            return Err(ApiError::bad_request(format!("{text}: {}", names.join(", "))));
        }
        let named = |name: String| if name == "default" { "bridge".to_owned() } else { name };
        all.into_iter().map(|(name, endpoint)| Ok((named(name), endpoint.read(version)?))).collect()
    }
}

/// The container's own MAC address was moved to its endpoint by newer versions, with a warning; by now it is as
/// unknown as any other field.
fn moved_mac(
    own: String,
    endpoint: String,
    mode: &str,
    version: ApiVersion,
) -> Result<(String, Option<String>), ApiError> {
    const MOVED: &str = "The container-wide MacAddress field is now deprecated. It should be specified in \
                         EndpointsConfig instead.";
    if own.is_empty() || version >= ApiVersion(1, 52) {
        return Ok((endpoint, None));
    }
    let has_endpoint = !matches!(mode, "host" | "none") && !mode.starts_with("container:");
    let warning = (version >= ENDPOINTS).then(|| MOVED.to_owned());
    match (has_endpoint, &warning) {
        (false, None) => Err(ApiError::bad_request("conflicting options: mac-address and the network mode")),
        (false, Some(_)) => Ok((endpoint, warning)),
        (true, Some(_)) if !endpoint.is_empty() && endpoint != own => {
            let text = "the container-wide MAC address must match the endpoint-specific MAC address for the main \
                        network, or be left empty";
            Err(ApiError::bad_request(text))
        }
        (true, _) => Ok((own, warning)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::version::NEWEST;
    use containers::HostConfig;

    fn create_at(json: Value, version: ApiVersion) -> Result<Create, ApiError> {
        serde_json::from_value::<Body>(json).unwrap().into_create(version)
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
        let create = create_at(body, NEWEST).unwrap();
        assert_eq!(create.config.cmd, Some(vec!["true".to_owned()]));
        assert_eq!(create.host, HostConfig { auto_remove: true, ..HostConfig::default() });
    }

    #[test]
    fn what_is_not_done_is_refused() {
        let check = |host: Value, status: u16, text: &str| {
            let error = create_at(serde_json::json!({"Image": "x", "HostConfig": host}), NEWEST).unwrap_err();
            assert_eq!(error.status.as_u16(), status);
            assert!(error.message.contains(text), "{}", error.message);
        };
        check(
            serde_json::json!({"PortBindings": {"x/tcp": [{}]}}),
            400,
            "invalid JSON: invalid port 'x': invalid syntax",
        );
        check(serde_json::json!({"RestartPolicy": {"Name": "x"}}), 400, "unknown policy 'x'");
        check(serde_json::json!({"IpcMode": "x"}), 400, "invalid IPC mode: x");
        check(serde_json::json!({"Runtime": "kata"}), 400, "unknown or invalid runtime name: kata");
    }

    #[test]
    fn the_mac_address_moved_with_the_versions() {
        const OWN: &str = "02:00:00:00:00:01";
        let check = |minor: u16, mode: &str, expected: Result<(&str, usize), u16>| {
            let host = serde_json::json!({"NetworkMode": mode});
            let body = serde_json::json!({"Image": "x", "MacAddress": OWN, "HostConfig": host});
            let got = create_at(body, ApiVersion(1, minor));
            let mac = |create: &Create| create.endpoints.values().next().map(|e| e.mac.clone()).unwrap();
            let got = got.map(|create| (mac(&create), create.warnings.len()));
            let expected = expected.map(|(mac, warnings)| (mac.to_owned(), warnings));
            assert_eq!(got.map_err(|error| error.status.as_u16()), expected, "{minor} {mode}");
        };
        check(43, "host", Err(400));
        check(43, "", Ok((OWN, 0)));
        check(44, "none", Ok(("", 1)));
        check(51, "bridge", Ok((OWN, 1)));
        check(52, "bridge", Ok(("", 0)));
    }
}
