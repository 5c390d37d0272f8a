//! What `up` was asked for, complete and plain: it travels from `up` to the bridge process as JSON.

use contract::config::{Config, Host};
use contract::settings::{Backend, ConfigSource, Net, Settings};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Serial number of the data disk's block device, by which the guest finds it.
pub const DISK_SERIAL: &str = "pinnace-data";

/// How the appliance is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// A virtual machine under QEMU.
    Qemu,
    /// New namespaces of this host's kernel.
    Namespace,
}

impl BackendKind {
    /// Networks by which the machine has this host's own services: QEMU's user network leads `.2` to the host's loopback
    /// interface and `.3` to its resolver, on every port, and the same for IPv6.
    fn barred(self) -> Vec<String> {
        match self {
            BackendKind::Qemu => ["10.0.2.0/24", "fec0::/64"].map(str::to_owned).into(),
            BackendKind::Namespace => Vec::new(),
        }
    }

    /// For people, before it is known how it runs there.
    pub fn word(self) -> &'static str {
        match self {
            BackendKind::Qemu => "qemu",
            BackendKind::Namespace => "namespace",
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Name of the appliance and of its docker context.
    pub name: String,
    /// Folder of the appliance.
    pub dir: PathBuf,
    /// Folder of `vmlinuz` and `initramfs.zst`.
    pub image: PathBuf,
    /// Where it runs.
    pub backend: BackendKind,
    /// The machine's memory.
    pub memory_mib: u64,
    /// The machine's processors.
    pub cpus: u32,
    /// The data disk's file.
    pub disk: PathBuf,
    /// The data disk's size when it is made, and its size to grow to when it was asked for.
    pub disk_bytes: u64,
    /// The size was asked for, not the default.
    pub disk_size_given: bool,
    /// A guest that has not answered after so many seconds is given up.
    pub timeout_secs: u64,
    /// Registries spoken to without verified TLS.
    pub insecure_registries: Vec<String>,
    /// Mirrors of Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// The machine's number of the containers' root, where it is not 0.
    pub userns_remap: Option<u32>,
    /// Folders of this host that are in the machine at the same path.
    pub shares: Vec<PathBuf>,
    /// The socket of the user's ssh agent.
    #[serde(default)]
    pub ssh_agent: Option<PathBuf>,
    /// The engine's log level.
    pub log: Option<String>,
}

impl Order {
    /// The settings of the boot in a machine.
    pub fn machine_settings(&self) -> Settings {
        Settings { data: Some(DISK_SERIAL.to_owned()), ..self.settings(Backend::Vm, Net::Dhcp) }
    }

    /// The settings of the boot in namespaces with this network.
    pub fn namespace_settings(&self, net: Net) -> Settings {
        self.settings(Backend::Namespace, net)
    }

    /// What the guest is told on its control line.
    pub fn config(&self) -> Config {
        Config {
            insecure_registries: self.insecure_registries.clone(),
            registry_mirrors: self.registry_mirrors.clone(),
            userns_remap: self.userns_remap,
            host_folders: Some(self.shares.iter().map(|path| path.display().to_string()).collect()),
            ssh_agent: self.ssh_agent.as_ref().map(|path| path.display().to_string()),
            host: Some(Host { barred: self.backend.barred() }),
            ..Config::default()
        }
    }

    fn settings(&self, backend: Backend, net: Net) -> Settings {
        Settings {
            backend,
            net,
            hostname: Some(self.name.clone()),
            config: ConfigSource::Line,
            log: self.log.clone(),
            ..Settings::default()
        }
    }
}
