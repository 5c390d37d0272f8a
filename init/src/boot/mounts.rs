//! The kernel's file systems and the temporary ones, as a table.

use std::path::Path;

use contract::paths::{CGROUP, RUN};
use contract::settings::Backend;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use super::phase::Place;
use super::{BootError, Machine};

struct Mount {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static str,
    place: Place,
}

const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const DATA_ONLY: MountFlags = PLAIN.union(MountFlags::NOEXEC);

/// In order: a mount point may lie on the mount before it.
const MOUNTS: &[Mount] = &[
    Mount { kind: "proc", target: "/proc", flags: DATA_ONLY, options: "", place: Place::Both },
    Mount { kind: "sysfs", target: "/sys", flags: DATA_ONLY, options: "", place: Place::Both },
    Mount {
        kind: "devtmpfs",
        target: "/dev",
        flags: MountFlags::NOSUID,
        options: "mode=755",
        place: Place::Vm,
    },
    // devtmpfs is one for the whole host: in namespaces /dev is our own and filled by hand.
    Mount {
        kind: "tmpfs",
        target: "/dev",
        flags: MountFlags::NOSUID,
        options: "mode=755,size=64k",
        place: Place::Namespace,
    },
    Mount {
        kind: "devpts",
        target: "/dev/pts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: "newinstance,mode=620,gid=5,ptmxmode=666",
        place: Place::Both,
    },
    Mount { kind: "tmpfs", target: "/dev/shm", flags: PLAIN, options: "mode=1777", place: Place::Both },
    Mount { kind: "tmpfs", target: "/run", flags: PLAIN, options: "mode=755", place: Place::Both },
    Mount { kind: "tmpfs", target: "/tmp", flags: PLAIN, options: "mode=1777", place: Place::Both },
    // nsdelegate: a container with its own cgroup namespace may not raise the limits it was given.
    // memory_recursiveprot: protection given to a container holds for the cgroups it makes below.
    Mount {
        kind: "cgroup2",
        target: CGROUP,
        flags: DATA_ONLY,
        options: "nsdelegate,memory_recursiveprot",
        place: Place::Both,
    },
];

/// Mounts them all.
pub fn mount_all(machine: &mut Machine) -> Result<(), BootError> {
    let vm = machine.settings.backend == Backend::Vm;
    if !vm {
        // A new mount namespace still shares its mounts with the host's.
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(|error| {
            BootError::Call { what: "part the mounts from the host's", source: error.into() }
        })?;
    }
    MOUNTS.iter().filter(|mount| mount.place.applies(vm)).try_for_each(mount_one)?;
    std::fs::create_dir_all(RUN).map_err(|source| BootError::Write { path: RUN.into(), source })
}

fn mount_one(entry: &Mount) -> Result<(), BootError> {
    let target = Path::new(entry.target);
    // The namespace backend's caller may have put a folder of the host at /run, for the sockets in it.
    if entry.target == "/run" && is_mount_point(target) {
        return Ok(());
    }
    let failed = |source| BootError::Mount { target: target.to_owned(), source };
    match std::fs::create_dir(target) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists && !target.is_dir() => {
            return Err(failed(error));
        }
        _ => {}
    }
    let options = std::ffi::CString::new(entry.options).expect("the table has no NUL");
    mount(entry.kind, target, entry.kind, entry.flags, options.as_c_str())
        .map_err(|error| failed(error.into()))
}

fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    device(path).is_some_and(|here| path.parent().and_then(device) != Some(here))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mount_point_lies_on_the_root_or_on_an_earlier_mount() {
        for vm in [true, false] {
            let targets: Vec<_> = MOUNTS.iter().filter(|m| m.place.applies(vm)).map(|m| m.target).collect();
            for (index, target) in targets.iter().enumerate() {
                assert!(!targets[index + 1..].iter().any(|later| target.starts_with(later)), "{target}");
            }
        }
        assert!(is_mount_point(Path::new("/proc")) && !is_mount_point(Path::new("/etc/..")));
    }
}
