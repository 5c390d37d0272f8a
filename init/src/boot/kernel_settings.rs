//! Kernel settings below /proc/sys, each with its reason, and this process's resource limits.

use std::io::ErrorKind;

use contract::settings::Backend;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::messages::say;

use super::phase::Place;
use super::{BootError, Machine};

/// Path below /proc/sys, value, where. What belongs to the whole kernel is not changed on somebody's host.
const SETTINGS: &[(&str, &str, Place)] = &[
    // Containers reach the world through this machine.
    ("net/ipv4/ip_forward", "1", Place::Both),
    // A container must not announce itself as router to a bridge (CVE-2020-13401); the uplink gets its own value.
    ("net/ipv6/conf/default/accept_ra", "0", Place::Both),
    // File watchers of development servers: the defaults are for one user, here all containers are root.
    ("fs/inotify/max_user_instances", "8192", Place::Vm),
    ("fs/inotify/max_user_watches", "1048576", Place::Vm),
    // Memory limits open files by itself; a count beside it only surprises.
    ("fs/file-max", "9223372036854775807", Place::Vm),
    // 32768 is few for hundreds of containers, and reuse of process ids comes later.
    ("kernel/pid_max", "4194304", Place::Vm),
    // Elasticsearch and its kin refuse to start with the default of 65530.
    ("vm/max_map_count", "1048576", Place::Vm),
    // Databases that fork to write a snapshot fail under the heuristic; containers are limited by their cgroup.
    ("vm/overcommit_memory", "1", Place::Vm),
    // As every distribution sets them: no following of other people's links and pipes in /tmp.
    ("fs/protected_hardlinks", "1", Place::Vm),
    ("fs/protected_symlinks", "1", Place::Vm),
    ("fs/protected_fifos", "1", Place::Vm),
    ("fs/protected_regular", "1", Place::Vm),
    // As systemd sets it: room above the limit of every container, for a launch (see the engine's `launch::plan`).
    ("fs/nr_open", "1073741816", Place::Vm),
    // The lowest 16 MiB are kept back for devices of the ISA bus, which no such machine has: 8 MiB of 2 GiB.
    ("vm/lowmem_reserve_ratio", "0 256 32 0 0", Place::Vm),
    // Each processor hoards free pages, up to an eighth of the memory, which nobody else sees as free, the host neither
    // (free page reporting). A thousandth is enough for a burst.
    ("vm/percpu_pagelist_high_fraction", "1024", Place::Vm),
    // A kernel panic, or the death of PID 1, restarts the machine (or ends QEMU) instead of hanging.
    ("kernel/panic", "5", Place::Vm),
];

/// Open files for the engine, which has several for each container, and by inheritance for containers.
const NOFILE: u64 = 1_048_576;

/// Writes them. A setting that this kernel lacks is not missed; one that it refuses is told.
pub fn write(machine: &mut Machine) -> Result<(), BootError> {
    let vm = machine.settings.backend == Backend::Vm;
    for (path, value, _) in SETTINGS.iter().filter(|(_, _, place)| place.applies(vm)) {
        match std::fs::write(format!("/proc/sys/{path}"), value) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                say!("kernel setting {path}={value} was refused: {error}");
            }
            _ => {}
        }
    }
    if vm {
        shrink_reserve();
    }
    limit(Resource::Nofile, Some(NOFILE));
    limit(Resource::Nproc, None);
    limit(Resource::Core, None);
    Ok(())
}

/// Where huge pages are enabled the kernel keeps 67 MiB free to find them more easily (khugepaged,
/// set_recommended_min_free_kbytes): in a machine of 2 GiB that is memory taken from containers. What it keeps without
/// them is enough for what must not wait.
fn shrink_reserve() {
    let path = "/proc/sys/vm/min_free_kbytes";
    let info = rustix::system::sysinfo();
    let reserve = reserve_kib(info.totalram * u64::from(info.mem_unit) / 1024);
    if let Err(error) = std::fs::write(path, reserve.to_string()) {
        say!("{path}={reserve} was refused: {error}");
    }
}

/// The kernel's own measure (mm/page_alloc.c, calculate_min_free_kbytes).
fn reserve_kib(memory_kib: u64) -> u64 {
    (memory_kib * 16).isqrt().clamp(128, 256 << 10)
}

/// Without CAP_SYS_RESOURCE (a container as the host) the hard limit stays, and is all there is to have.
fn limit(resource: Resource, value: Option<u64>) {
    if setrlimit(resource, Rlimit { current: value, maximum: value }).is_ok() {
        return;
    }
    let maximum = getrlimit(resource).maximum;
    if let Err(error) = setrlimit(resource, Rlimit { current: maximum, maximum }) {
        say!("limit {resource:?} was refused: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_grows_as_the_root_of_the_memory() {
        assert_eq!(reserve_kib(0), 128);
        assert_eq!(reserve_kib(2 << 20), 5792);
        assert_eq!(reserve_kib(64 << 20), 32768);
        assert_eq!(reserve_kib(1 << 40), 256 << 10);
    }
}
