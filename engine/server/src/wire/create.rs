//! The body of `POST /containers/create`.
//!
//! Every field of `HostConfig` is honoured or refused: [`unsupported`] finds the ones this engine does not do yet
//! and whose value asks for something.

use std::collections::{BTreeMap, BTreeSet};

use core::containers::{Config, HostConfig};
use serde::Deserialize;
use serde_json::{Map, Value};

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
    healthcheck: Option<Health>,
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
struct Health {
    test: Vec<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Networking {
    endpoints_config: BTreeMap<String, Map<String, Value>>,
}

/// The fields of `HostConfig` that are honoured.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Host {
    auto_remove: bool,
    network_mode: String,
    log_config: LogConfig,
    restart_policy: RestartPolicy,
    privileged: bool,
    cap_add: Vec<String>,
    cap_drop: Vec<String>,
    security_opt: Vec<String>,
    group_add: Vec<String>,
    shm_size: i64,
    readonly_rootfs: bool,
    tmpfs: BTreeMap<String, String>,
    binds: Vec<String>,
    sysctls: BTreeMap<String, String>,
    ulimits: Vec<Ulimit>,
    oom_score_adj: i32,
    dns: Vec<String>,
    dns_search: Vec<String>,
    dns_options: Vec<String>,
    extra_hosts: Vec<String>,
    pid_mode: String,
    ipc_mode: String,
    #[serde(rename = "UTSMode")]
    uts_mode: String,
    cgroupns_mode: String,
    memory: i64,
    memory_swap: i64,
    nano_cpus: i64,
    pids_limit: i64,
    console_size: (u16, u16),
    masked_paths: Option<Vec<String>>,
    readonly_paths: Option<Vec<String>>,
    runtime: String,
    isolation: String,
    memory_swappiness: Option<i64>,
    #[serde(rename = "ContainerIDFile")]
    container_id_file: String,
    volume_driver: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct LogConfig {
    r#type: String,
    config: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RestartPolicy {
    name: String,
    maximum_retry_count: i64,
}

impl RestartPolicy {
    fn read(&self) -> Result<core::containers::RestartPolicy, ApiError> {
        core::containers::RestartPolicy::read(&self.name, self.maximum_retry_count)
            .map_err(ApiError::bad_request)
    }
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Ulimit {
    name: String,
    soft: i64,
    hard: i64,
}

/// Names of the fields of [`Host`].
const HONOURED: [&str; 36] = [
    "AutoRemove",
    "NetworkMode",
    "LogConfig",
    "RestartPolicy",
    "Privileged",
    "CapAdd",
    "CapDrop",
    "SecurityOpt",
    "GroupAdd",
    "ShmSize",
    "ReadonlyRootfs",
    "Tmpfs",
    "Binds",
    "Sysctls",
    "Ulimits",
    "OomScoreAdj",
    "Dns",
    "DnsSearch",
    "DnsOptions",
    "ExtraHosts",
    "PidMode",
    "IpcMode",
    "UTSMode",
    "CgroupnsMode",
    "Memory",
    "MemorySwap",
    "NanoCpus",
    "PidsLimit",
    "ConsoleSize",
    "MaskedPaths",
    "ReadonlyPaths",
    "Runtime",
    "Isolation",
    "MemorySwappiness",
    "ContainerIDFile",
    "VolumeDriver",
];

/// A field that asks for something this engine does not do yet.
fn unsupported(host: &Map<String, Value>) -> Option<&str> {
    host.iter()
        .find(|(name, value)| !HONOURED.contains(&name.as_str()) && asks(value))
        .map(|(name, _)| name.as_str())
}

fn asks(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn not_yet(text: impl std::fmt::Display) -> ApiError {
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
        if let Some(field) = unsupported(&self.host_config) {
            return Err(not_yet(format_args!("HostConfig.{field}")));
        }
        if self.healthcheck.is_some_and(|health| health.test.first().is_some_and(|word| word != "NONE")) {
            return Err(not_yet("a healthcheck"));
        }
        if let Some(path) = self.volumes.keys().next() {
            return Err(not_yet(format_args!("the anonymous volume {path}")));
        }
        check_endpoints(&self.networking_config)?;
        let invalid = |error| ApiError::bad_request(format!("invalid JSON: {error}"));
        let host: Host = serde_json::from_value(Value::Object(self.host_config)).map_err(invalid)?;
        let mut host = host.into_core()?;
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

impl Host {
    fn into_core(self) -> Result<HostConfig, ApiError> {
        self.check()?;
        let restart = self.restart_policy.read()?;
        let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
        let network_mode = match self.network_mode.as_str() {
            "" | "default" => "bridge".to_owned(),
            _ => self.network_mode,
        };
        let default = HostConfig::default();
        Ok(HostConfig {
            auto_remove: self.auto_remove,
            restart,
            network_mode,
            log_driver: or(self.log_config.r#type, "json-file"),
            privileged: self.privileged,
            cap_add: self.cap_add,
            cap_drop: self.cap_drop,
            security_opt: self.security_opt,
            group_add: self.group_add,
            shm_size: u64::try_from(self.shm_size).ok().filter(|size| *size > 0).unwrap_or(default.shm_size),
            readonly_rootfs: self.readonly_rootfs,
            tmpfs: self.tmpfs,
            binds: self.binds,
            sysctls: self.sysctls,
            ulimits: self.ulimits.into_iter().map(|limit| (limit.name, limit.soft, limit.hard)).collect(),
            oom_score_adj: self.oom_score_adj,
            dns: self.dns,
            dns_search: self.dns_search,
            dns_options: self.dns_options,
            extra_hosts: self.extra_hosts,
            pid_mode: self.pid_mode,
            ipc_mode: or(self.ipc_mode, "private"),
            uts_mode: self.uts_mode,
            cgroupns_mode: or(self.cgroupns_mode, "private"),
            memory: self.memory,
            nano_cpus: self.nano_cpus,
            pids_limit: self.pids_limit.max(0),
            console_size: self.console_size,
            masked_paths: self.masked_paths,
            readonly_paths: self.readonly_paths,
        })
    }

    fn check(&self) -> Result<(), ApiError> {
        if let Some(option) = self.log_config.config.keys().next() {
            return Err(not_yet(format_args!("the log option {option}")));
        }
        let modes = [
            ("PID", &self.pid_mode, &["", "private", "host"][..]),
            ("IPC", &self.ipc_mode, &["", "private", "none", "host"]),
            ("UTS", &self.uts_mode, &["", "private", "host"]),
            ("cgroup namespace", &self.cgroupns_mode, &["", "private", "host"]),
        ];
        for (name, mode, known) in modes {
            if mode.starts_with("container:") || mode == "shareable" {
                return Err(not_yet(format_args!("{name} mode {mode}")));
            }
            if !known.contains(&mode.as_str()) {
                return Err(ApiError::bad_request(format!("invalid {name} mode: {mode}")));
            }
        }
        if !matches!(self.runtime.as_str(), "" | "runc") {
            return Err(ApiError::bad_request(format!("unknown or invalid runtime name: {}", self.runtime)));
        }
        if !matches!(self.isolation.as_str(), "" | "default") {
            let text = format!("invalid isolation ({}): linux only supports 'default'", self.isolation);
            return Err(ApiError::bad_request(text));
        }
        if self.shm_size < 0 {
            return Err(ApiError::bad_request("SHM size can not be less than 0"));
        }
        if !matches!(self.memory_swap, 0) && self.memory_swap != self.memory.saturating_mul(2) {
            return Err(not_yet("MemorySwap other than twice Memory"));
        }
        if self.memory_swappiness.is_some_and(|value| value != -1) {
            return Err(not_yet("MemorySwappiness"));
        }
        if !matches!(self.volume_driver.as_str(), "" | "local") {
            return Err(not_yet(format_args!("the volume driver {}", self.volume_driver)));
        }
        Ok(())
    }
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
        check(serde_json::json!({"Init": true}), 501, "HostConfig.Init");
        check(serde_json::json!({"Runtime": "kata"}), 400, "unknown or invalid runtime name: kata");
    }
}
