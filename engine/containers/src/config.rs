//! What a container shall be, as its creator said it and as it is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::devices::{DeviceMapping, DeviceRequest};
use super::mounts::Mount;
use super::resources::Resources;
use super::restart::RestartPolicy;
use images::Healthcheck;
use networks::ports::Binding;

/// What runs in the container: Docker's `Config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Empty until create fills in the first 12 digits of the id.
    pub hostname: String,
    /// NIS domain.
    pub domainname: String,
    /// `user[:group]`, empty is root.
    pub user: String,
    /// The creator said it would attach.
    pub attach_stdin: bool,
    /// The creator said it would attach.
    pub attach_stdout: bool,
    /// The creator said it would attach.
    pub attach_stderr: bool,
    /// A terminal instead of pipes.
    pub tty: bool,
    /// Standard input stays open.
    pub open_stdin: bool,
    /// Standard input closes after the first attached client has gone.
    pub stdin_once: bool,
    /// `KEY=value` words.
    pub env: Vec<String>,
    /// Arguments, or program and arguments without an entrypoint.
    pub cmd: Option<Vec<String>>,
    /// Program and first arguments.
    pub entrypoint: Option<Vec<String>>,
    /// As the creator wrote it.
    pub image: String,
    /// Absolute path, empty is `/`.
    pub working_dir: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `port/protocol`.
    pub exposed_ports: BTreeSet<String>,
    /// Paths of anonymous volumes.
    pub volumes: BTreeSet<String>,
    /// Signal that `stop` sends, empty is SIGTERM.
    pub stop_signal: String,
    /// Seconds that `stop` waits; absent is 10.
    pub stop_timeout: Option<i64>,
    /// Shell of shell forms.
    pub shell: Option<Vec<String>>,
    /// How to ask whether the container is well.
    pub healthcheck: Option<Healthcheck>,
    /// No network at all.
    pub network_disabled: bool,
}

/// How the container stands in the machine: Docker's `HostConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostConfig {
    /// Removed when it ends.
    pub auto_remove: bool,
    /// When the engine starts it again by itself.
    pub restart: RestartPolicy,
    /// `bridge`, `none`, `host`, `container:ID`, or the name or id of a network.
    pub network_mode: String,
    /// Containers on the default bridge, `name:alias`, that its hosts file names.
    pub links: Vec<String>,
    /// `json-file`, `local` or `none`.
    pub log_driver: String,
    /// Options of the driver, as the creator wrote them.
    pub log_options: BTreeMap<String, String>,
    /// Everything permitted.
    pub privileged: bool,
    /// Capabilities beyond the default set.
    pub cap_add: Vec<String>,
    /// Capabilities taken from the default set.
    pub cap_drop: Vec<String>,
    /// An init of the engine's as process 1.
    pub init: Option<bool>,
    /// As the creator wrote them.
    pub security_opt: Vec<String>,
    /// Supplementary groups.
    pub group_add: Vec<String>,
    /// Bytes of /dev/shm.
    pub shm_size: u64,
    /// Root file system without writes.
    pub readonly_rootfs: bool,
    /// Path → options.
    pub tmpfs: BTreeMap<String, String>,
    /// `source:target[:options]`.
    pub binds: Vec<String>,
    /// As the creator wrote them.
    pub mounts: Vec<Mount>,
    /// `container[:options]`: what others have mounted is mounted here, too.
    pub volumes_from: Vec<String>,
    /// Driver of the volumes that `binds` and paths name.
    pub volume_driver: String,
    /// Name → value.
    pub sysctls: BTreeMap<String, String>,
    /// (name, soft, hard); -1 is unlimited.
    pub ulimits: Vec<(String, i64, i64)>,
    /// -1000 to 1000.
    pub oom_score_adj: i32,
    /// Name servers instead of the machine's.
    pub dns: Vec<String>,
    /// Search domains instead of the machine's.
    pub dns_search: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// `name:address` lines of /etc/hosts.
    pub extra_hosts: Vec<String>,
    /// Empty, `host` or `container:ID`.
    pub pid_mode: String,
    /// `private`, `shareable`, `none`, `host` or `container:ID`.
    pub ipc_mode: String,
    /// Empty or `host`.
    pub uts_mode: String,
    /// Empty or `host`, which are the same where the engine maps no ids.
    pub userns_mode: String,
    /// Path of the cgroup that the container's own is below; empty is `/docker`.
    pub cgroup_parent: String,
    /// `private` or `host`.
    pub cgroupns_mode: String,
    /// Devices of the machine.
    pub devices: Vec<DeviceMapping>,
    /// What it may open beyond its devices: `c 42:* rmw`.
    pub device_cgroup_rules: Vec<String>,
    /// For drivers of devices.
    pub device_requests: Vec<DeviceRequest>,
    /// What it may use.
    pub resources: Resources,
    /// For whoever reads them.
    pub annotations: BTreeMap<String, String>,
    /// Where the host listens for the container, by the container's port in the form `80/tcp`.
    pub port_bindings: BTreeMap<String, Vec<Binding>>,
    /// Every exposed port is published, each by any number.
    pub publish_all_ports: bool,
    /// Rows and columns of the first terminal.
    pub console_size: (u16, u16),
    /// Instead of the default list.
    pub masked_paths: Option<Vec<String>>,
    /// Instead of the default list.
    pub readonly_paths: Option<Vec<String>>,
}

/// Docker's default of /dev/shm, in bytes.
const SHM_SIZE: u64 = 64 << 20;

impl Default for HostConfig {
    fn default() -> HostConfig {
        HostConfig {
            auto_remove: false,
            restart: RestartPolicy::No,
            network_mode: "bridge".to_owned(),
            links: vec![],
            log_driver: "json-file".to_owned(),
            log_options: BTreeMap::new(),
            privileged: false,
            cap_add: vec![],
            cap_drop: vec![],
            init: None,
            security_opt: vec![],
            group_add: vec![],
            shm_size: SHM_SIZE,
            readonly_rootfs: false,
            tmpfs: BTreeMap::new(),
            binds: vec![],
            mounts: vec![],
            volumes_from: vec![],
            volume_driver: String::new(),
            sysctls: BTreeMap::new(),
            ulimits: vec![],
            oom_score_adj: 0,
            dns: vec![],
            dns_search: vec![],
            dns_options: vec![],
            extra_hosts: vec![],
            pid_mode: String::new(),
            ipc_mode: "private".to_owned(),
            uts_mode: String::new(),
            userns_mode: String::new(),
            cgroup_parent: String::new(),
            cgroupns_mode: "private".to_owned(),
            devices: vec![],
            device_cgroup_rules: vec![],
            device_requests: vec![],
            resources: Resources::default(),
            annotations: BTreeMap::new(),
            port_bindings: BTreeMap::new(),
            publish_all_ports: false,
            console_size: (0, 0),
            masked_paths: None,
            readonly_paths: None,
        }
    }
}

impl HostConfig {
    /// Paths nobody inside may read.
    pub fn masked(&self) -> Vec<String> {
        self.listed(&self.masked_paths, masked_by_default())
    }

    /// Paths nobody inside may write.
    pub fn readonly(&self) -> Vec<String> {
        self.listed(&self.readonly_paths, &READONLY)
    }

    fn listed(&self, own: &Option<Vec<String>>, default: &[impl ToString]) -> Vec<String> {
        match own {
            _ if self.privileged => vec![],
            Some(own) => own.clone(),
            None => default.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Docker's default lists, and how hot each processor is: what a processor does may be guessed from it.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

#[allow(clippy::disallowed_methods)] // The kernel answers from memory.
fn masked_by_default() -> &'static [String] {
    static PATHS: OnceLock<Vec<String>> = OnceLock::new();
    PATHS.get_or_init(|| {
        let processors =
            possible_processors().map(|n| format!("/sys/devices/system/cpu/cpu{n}/thermal_throttle"));
        let there = processors.filter(|path| Path::new(path).exists());
        MASKED.iter().map(|path| (*path).to_owned()).chain(there).collect()
    })
}

/// Numbers of the processors that the machine may have while it runs.
#[allow(clippy::disallowed_methods)] // The kernel answers from memory.
fn possible_processors() -> impl Iterator<Item = u32> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    super::resources::numbers(&text).unwrap_or_default().into_iter()
}
