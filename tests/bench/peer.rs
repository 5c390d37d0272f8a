//! The real dockerd on this machine, in the same run.

use crate::memory::pss;
use crate::{path, say};
use pinnace_tests::{Appliance, Dockerd, Ext4};
use std::path::Path;

/// Enough for the images of the measurements.
const DISK_MIB: u32 = 8192;

/// A running dockerd with its data on an ext4 with a journal, as the appliance's is.
pub struct Peer {
    /// The same clients as for the appliance.
    pub app: Appliance,
    dockerd: Dockerd,
    _disk: Ext4,
}

impl Peer {
    /// Starts the dockerd that `PINNACE_BENCH_DOCKERD` names; nothing where it names none.
    pub fn start() -> Option<Peer> {
        let root = path("PINNACE_BENCH_DOCKERD")?;
        say("starting dockerd");
        let disk = Ext4::new(DISK_MIB);
        let dockerd = Dockerd::start(&root, disk.path());
        Some(Peer { app: Appliance::of_dockerd(&dockerd), dockerd, _disk: disk })
    }

    /// `dockerd 28.5.2`
    pub fn name(&self) -> String {
        let version = self.app.api().get("/version").is(200).json();
        format!(
            "dockerd {}",
            version["Version"].as_str().unwrap_or("of no version").split('+').next().unwrap_or_default()
        )
    }

    /// Proportional set sizes of dockerd and containerd, and of all shims, in KiB.
    pub fn memory_kib(&self) -> (f64, f64) {
        let daemons = self.dockerd.processes().iter().map(|pid| pss(pid)).sum();
        (daemons, shims().iter().map(|pid| pss(pid)).sum())
    }
}

/// The processes of containerd's shims on this machine.
fn shims() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("proc is mounted");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_shim = |pid: &String| {
        let comm = std::fs::read_to_string(Path::new("/proc").join(pid).join("comm"));
        comm.is_ok_and(|comm| comm.starts_with("containerd-shim"))
    };
    pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit())).filter(is_shim).collect()
}
