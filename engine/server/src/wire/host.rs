//! `HostConfig`: how a container stands in the machine.
//!
//! Every field that Docker knows is in [`HONOURED`] or in [`REFUSED`], and docs/host-config.md is made from the two. A
//! field in neither is refused as well where its value asks for something.

use std::collections::BTreeMap;

use containers::{DeviceMapping, DeviceRequest, HostConfig, Resources};
use networks::ports::Binding;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::create::not_yet;
use super::resources;
use crate::fold;
use crate::reply::ApiError;

/// What this engine does. A name and what is to be known about it.
const HONOURED: &[(&str, &str)] = &[
    ("Init", ""),
    ("Devices", "below /dev"),
    ("DeviceCgroupRules", ""),
    ("DeviceRequests", "there is no driver: dockerd's error at start"),
    ("Annotations", "from 1.43 on, as in dockerd"),
    ("AutoRemove", ""),
    ("NetworkMode", ""),
    ("Links", "without the environment variables, as dockerd unless it is told to"),
    ("LogConfig", "`json-file`, `local` and `none`"),
    ("RestartPolicy", ""),
    ("Privileged", ""),
    ("CapAdd", ""),
    ("CapDrop", ""),
    (
        "SecurityOpt",
        "`label` and `apparmor` have no effect: the kernel has neither SELinux nor AppArmor enabled",
    ),
    ("GroupAdd", ""),
    ("ShmSize", ""),
    ("ReadonlyRootfs", ""),
    ("Tmpfs", ""),
    ("Binds", ""),
    ("Mounts", "`bind`, `volume`, `tmpfs`, `image`"),
    ("VolumesFrom", ""),
    ("Sysctls", ""),
    ("Ulimits", ""),
    ("OomScoreAdj", ""),
    ("Dns", ""),
    ("DnsSearch", ""),
    ("DnsOptions", ""),
    ("ExtraHosts", ""),
    ("PidMode", ""),
    ("IpcMode", ""),
    ("UTSMode", ""),
    ("CgroupnsMode", ""),
    ("CgroupParent", "made where it is missing; not below the machine's own"),
    ("Memory", ""),
    ("MemorySwap", ""),
    ("MemoryReservation", ""),
    ("MemorySwappiness", "version 1 of control groups only: discarded with dockerd's warning"),
    ("OomKillDisable", "version 1 of control groups only: discarded with dockerd's warning"),
    ("NanoCpus", ""),
    ("CpuShares", ""),
    ("CpuPeriod", ""),
    ("CpuQuota", ""),
    ("CpusetCpus", ""),
    ("CpusetMems", ""),
    ("PidsLimit", ""),
    ("PortBindings", "TCP and UDP"),
    ("PublishAllPorts", ""),
    ("BlkioWeight", ""),
    ("BlkioWeightDevice", ""),
    ("BlkioDeviceReadBps", ""),
    ("BlkioDeviceWriteBps", ""),
    ("BlkioDeviceReadIOps", ""),
    ("BlkioDeviceWriteIOps", ""),
    ("ConsoleSize", ""),
    ("MaskedPaths", ""),
    ("ReadonlyPaths", ""),
    ("Runtime", "`runc` only, as dockerd without others"),
    ("Isolation", "`default` only, as dockerd on Linux"),
    ("ContainerIDFile", "the client's own"),
    ("VolumeDriver", "`local`"),
    ("CpuCount", "Windows only: no effect, as in dockerd"),
    ("CpuPercent", "Windows only: discarded with dockerd's warning"),
    ("KernelMemory", "gone from Docker: no effect, as in dockerd"),
    ("KernelMemoryTCP", "gone from Docker: no effect, as in dockerd"),
    ("IOMaximumIOps", "Windows only: dockerd's error"),
    ("IOMaximumBandwidth", "Windows only: dockerd's error"),
    ("StorageOpt", "dockerd's error: the disk has no project quotas"),
    ("UsernsMode", "`host`, which changes something where `pinnace up --userns-remap` maps ids"),
];

/// What this engine refuses with an error where a value asks for it. A name and why.
const REFUSED: &[(&str, &str)] = &[
    ("Cgroup", ""),
    ("CpuRealtimePeriod", "the kernel has no groups of real-time tasks"),
    ("CpuRealtimeRuntime", "the kernel has no groups of real-time tasks"),
];

/// The fields under the names that Docker gives them.
pub fn named(fields: Map<String, Value>) -> Map<String, Value> {
    fold::fold(fields, HONOURED.iter().chain(REFUSED).map(|(name, _)| *name))
}

/// Reads a `HostConfig` of [`named`] fields.
///
/// # Errors
/// 400 for what is wrong, 501 for what is not done yet.
pub fn read(fields: Map<String, Value>) -> Result<HostConfig, ApiError> {
    if let Some(field) = unsupported(&fields) {
        return Err(refuse(field));
    }
    let resources = resources::read(&fields)?;
    let host: Host = fold::from_value(Value::Object(fields)).map_err(invalid)?;
    host.into_core(resources)
}

/// The restart policy of an update; an empty name changes nothing.
///
/// # Errors
/// 400 with dockerd's words.
pub fn restart_policy(value: Value) -> Result<Option<containers::RestartPolicy>, ApiError> {
    let policy: RestartPolicy = fold::from_value(value).map_err(invalid)?;
    if policy.name.is_empty() { Ok(None) } else { policy.read().map(Some) }
}

/// Drops what an update cannot change: dockerd passes over it as well.
pub fn keep_updated(fields: &mut Map<String, Value>) {
    const UPDATED: [&str; 18] = [
        "BlkioDeviceReadBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceWriteIOps",
        "BlkioWeight",
        "BlkioWeightDevice",
        "CpuPeriod",
        "CpuQuota",
        "CpuShares",
        "CpusetCpus",
        "CpusetMems",
        "Memory",
        "MemoryReservation",
        "MemorySwap",
        "MemorySwappiness",
        "NanoCpus",
        "OomKillDisable",
        "PidsLimit",
    ];
    fields.retain(|name, _| UPDATED.contains(&name.as_str()));
}

/// 501 for a field.
pub fn refuse(field: &str) -> ApiError {
    let known = REFUSED.iter().find(|(name, _)| *name == field);
    match known.map_or("", |(_, why)| why) {
        "" => not_yet(format_args!("HostConfig.{field}")),
        why => not_yet(format_args!("HostConfig.{field} ({why})")),
    }
}

pub(super) fn invalid(error: serde_json::Error) -> ApiError {
    ApiError::bad_request(format!("invalid JSON: {error}"))
}

/// A field that asks for something this engine does not do yet.
fn unsupported(host: &Map<String, Value>) -> Option<&str> {
    host.iter()
        .find(|(name, value)| !HONOURED.iter().any(|(known, _)| known == name) && asks(value))
        .map(|(name, _)| name.as_str())
}

/// Whether a value is more than Go's zero.
pub(super) fn asks(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// The fields of `HostConfig` that are honoured.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Host {
    auto_remove: bool,
    network_mode: String,
    links: Vec<String>,
    log_config: LogConfig,
    restart_policy: RestartPolicy,
    privileged: bool,
    cap_add: Vec<String>,
    cap_drop: Vec<String>,
    init: Option<bool>,
    devices: Vec<Device>,
    device_cgroup_rules: Vec<String>,
    device_requests: Vec<Request>,
    security_opt: Vec<String>,
    group_add: Vec<String>,
    shm_size: i64,
    readonly_rootfs: bool,
    tmpfs: BTreeMap<String, String>,
    binds: Vec<String>,
    mounts: Vec<containers::Mount>,
    volumes_from: Vec<String>,
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
    userns_mode: String,
    storage_opt: BTreeMap<String, String>,
    cgroup_parent: String,
    cgroupns_mode: String,
    annotations: BTreeMap<String, String>,
    console_size: (u16, u16),
    masked_paths: Option<Vec<String>>,
    readonly_paths: Option<Vec<String>>,
    runtime: String,
    isolation: String,
    #[serde(rename = "IOMaximumIOps")]
    io_maximum_iops: u64,
    #[serde(rename = "IOMaximumBandwidth")]
    io_maximum_bandwidth: u64,
    #[serde(rename = "ContainerIDFile")]
    container_id_file: String,
    volume_driver: String,
    port_bindings: BTreeMap<String, Option<Vec<Binding>>>,
    publish_all_ports: bool,
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
    fn read(&self) -> Result<containers::RestartPolicy, ApiError> {
        containers::RestartPolicy::read(&self.name, self.maximum_retry_count).map_err(ApiError::bad_request)
    }
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Device {
    path_on_host: String,
    path_in_container: String,
    cgroup_permissions: String,
}

impl Device {
    fn into_core(self) -> DeviceMapping {
        DeviceMapping {
            on_host: self.path_on_host,
            in_container: self.path_in_container,
            permissions: self.cgroup_permissions,
        }
    }
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    driver: String,
    count: i64,
    #[serde(rename = "DeviceIDs")]
    device_ids: Vec<String>,
    capabilities: Vec<Vec<String>>,
    options: BTreeMap<String, String>,
}

impl Request {
    fn into_core(self) -> DeviceRequest {
        let Request { driver, count, device_ids, capabilities, options } = self;
        DeviceRequest { driver, count, device_ids, capabilities, options }
    }
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Ulimit {
    name: String,
    soft: i64,
    hard: i64,
}

/// By ports in their one form.
fn bindings(
    asked: BTreeMap<String, Option<Vec<Binding>>>,
) -> Result<BTreeMap<String, Vec<Binding>>, ApiError> {
    let mut all: BTreeMap<String, Vec<Binding>> = BTreeMap::new();
    for (text, bindings) in asked {
        let port = super::ports::port(&text)
            .map_err(|text| ApiError::bad_request(format!("invalid JSON: {text}")))?;
        all.entry(port).or_default().extend(bindings.unwrap_or_default());
    }
    Ok(all)
}

impl Host {
    fn into_core(self, resources: Resources) -> Result<HostConfig, ApiError> {
        self.check()?;
        let restart = self.restart_policy.read()?;
        let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
        let network_mode = match self.network_mode.as_str() {
            "" | "default" => "bridge".to_owned(),
            _ => self.network_mode,
        };
        let default = HostConfig::default();
        let unlimited = resources.pids_limit.is_some_and(|limit| limit <= 0);
        let resources = Resources { pids_limit: resources.pids_limit.filter(|_| !unlimited), ..resources };
        Ok(HostConfig {
            auto_remove: self.auto_remove,
            restart,
            network_mode,
            links: self.links,
            log_driver: or(self.log_config.r#type, "json-file"),
            log_options: self.log_config.config,
            privileged: self.privileged,
            cap_add: self.cap_add,
            cap_drop: self.cap_drop,
            init: self.init,
            devices: self.devices.into_iter().map(Device::into_core).collect(),
            device_cgroup_rules: self.device_cgroup_rules,
            device_requests: self.device_requests.into_iter().map(Request::into_core).collect(),
            security_opt: self.security_opt,
            group_add: self.group_add,
            shm_size: u64::try_from(self.shm_size).ok().filter(|size| *size > 0).unwrap_or(default.shm_size),
            readonly_rootfs: self.readonly_rootfs,
            tmpfs: self.tmpfs,
            binds: self.binds,
            mounts: self.mounts,
            volumes_from: self.volumes_from,
            volume_driver: self.volume_driver,
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
            userns_mode: self.userns_mode,
            cgroup_parent: self.cgroup_parent,
            cgroupns_mode: or(self.cgroupns_mode, "private"),
            resources,
            annotations: self.annotations,
            port_bindings: bindings(self.port_bindings)?,
            publish_all_ports: self.publish_all_ports,
            console_size: self.console_size,
            masked_paths: self.masked_paths,
            readonly_paths: self.readonly_paths,
        })
    }

    fn check(&self) -> Result<(), ApiError> {
        let modes = [
            ("PID", &self.pid_mode, &["", "host"][..]),
            ("IPC", &self.ipc_mode, &["", "none", "private", "shareable", "host"]),
            ("UTS", &self.uts_mode, &["", "host"]),
            ("USER", &self.userns_mode, &["", "host"]),
            ("cgroup namespace", &self.cgroupns_mode, &["", "private", "host"]),
        ];
        for (name, mode, known) in modes {
            let joins = matches!(name, "PID" | "IPC")
                && mode.strip_prefix("container:").is_some_and(|other| !other.is_empty());
            if !joins && !known.contains(&mode.as_str()) {
                return Err(ApiError::bad_request(format!("invalid {name} mode: {mode}")));
            }
        }
        if self.annotations.contains_key("") {
            let text = "invalid Annotations: the empty string is not permitted as an annotation key";
            return Err(ApiError::bad_request(text));
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
        check_storage(&self.storage_opt)?;
        if self.io_maximum_iops != 0 || self.io_maximum_bandwidth != 0 {
            let text =
                "invalid option: QoS settings are not supported on linux: Maximum IO Bandwidth and IO IOps";
            return Err(ApiError::bad_request(text));
        }
        Ok(())
    }
}

/// The words of dockerd's overlay2, whose only option needs a disk with project quotas.
fn check_storage(options: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let Some(name) = options.keys().next() else { return Ok(()) };
    let text = match name.to_ascii_lowercase().as_str() {
        "size" => {
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option".to_owned()
        }
        _ => format!("Unknown option {name}"),
    };
    Err(ApiError::of(model::ErrorKind::Internal, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_in_one_list() {
        for (name, _) in HONOURED {
            assert!(!REFUSED.iter().any(|(other, _)| other == name), "{name}");
        }
    }

    #[test]
    fn refused_fields_say_so_where_they_ask() {
        for (name, _) in REFUSED {
            let field = |value: Value| read(Map::from_iter([((*name).to_owned(), value)]));
            assert!(field(Value::Null).is_ok(), "{name}");
            let error = field(serde_json::json!([1])).unwrap_err();
            assert!(
                error.status.as_u16() == 501 && error.message.contains(name),
                "{name}: {}",
                error.message
            );
        }
    }
}
