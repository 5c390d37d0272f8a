//! Where in the tree a container's control group is: below `/docker`, or below what `CgroupParent` names.

// The files of /proc are answered by the kernel from memory.
#![allow(clippy::disallowed_methods)]

use std::path::{Component, Path, PathBuf};

use contract::paths::{CGROUP_CONTAINERS, CGROUP_INIT};
use runtime::cgroup::{self, Cgroup, CgroupError};

use super::note::key;
use super::record::Record;
use super::registry::Shared;

/// What of a `CgroupParent` can be refused before anything exists.
///
/// # Errors
/// It is among the machine's own, or a container's: that one's end would be the end of all below it.
pub(super) fn check(parent: &str) -> Result<(), String> {
    let path = cleaned(parent);
    let own = Path::new(CGROUP_INIT).iter().next();
    if path.iter().next() == own {
        return Err(format!("invalid cgroup parent {parent}: it holds the machine's own processes"));
    }
    let of_container = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| key(name).is_some());
    if path.iter().any(of_container) {
        return Err(format!("invalid cgroup parent {parent}: it is named as a container's own"));
    }
    Ok(())
}

/// The path below the root of the tree. Like dockerd's it leads nowhere else, whatever it is made of.
fn cleaned(parent: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in Path::new(parent).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => drop(path.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    path
}

/// What stands behind the component `id` in /proc/PID/cgroup, see cgroups(7).
fn below<'a>(place: &'a str, id: &str) -> &'a str {
    let path = place.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    path.split_once(id).map_or("", |(_, rest)| rest.trim_matches('/'))
}

/// Processes and threads that the engine, PID 1 and the kernel always find room for.
const ROOM: u64 = 512;

/// Limits what all containers below `group` have together, so that a fork bomb without a limit of its own leaves room for
/// those who are to end it. A limit that is there already stays: it is somebody's wish.
pub(super) fn keep_room(group: &Path) {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let machine = ["/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max"];
    let Some(all) = machine.into_iter().filter_map(number).min() else { return };
    let limited = Cgroup::open(group).and_then(|cgroup| match cgroup.read("pids.max")?.trim() {
        "max" => cgroup.write("pids.max", &most(all).to_string()),
        _ => Ok(()),
    });
    if let Err(error) = limited {
        // An odd host of the namespace backend has no such controller.
        tracing::warn!(%error, "nothing keeps containers from using up the machine's processes");
    }
}

/// What of `all` processes and threads containers get.
fn most(all: u64) -> u64 {
    all.saturating_sub((all / 8).max(ROOM)).max(1)
}

impl Shared {
    /// Cgroup of a container.
    pub(super) fn cgroup(&self, record: &Record) -> PathBuf {
        let parent = match record.host.cgroup_parent.as_str() {
            "" => PathBuf::from(CGROUP_CONTAINERS),
            asked => cleaned(asked),
        };
        let mut path = self.settings.cgroups.join(parent);
        path.push(&record.id);
        path
    }

    /// Cgroup of a container's first process: its own, or where that process has moved itself to below. A cgroup that
    /// hands controllers on takes no processes (cgroups(7), "no internal processes"), so who joins goes there as well.
    pub(super) fn cgroup_of_first(&self, record: &Record, pid: u32) -> PathBuf {
        let own = self.cgroup(record);
        let place = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        own.join(below(&place, &record.id))
    }

    /// Parent of the cgroups of containers that name none.
    pub(super) fn cgroups(&self) -> PathBuf {
        self.settings.cgroups.join(CGROUP_CONTAINERS)
    }

    /// Makes a container's cgroup, and with a parent of its own that parent, which stays as dockerd's does.
    ///
    /// # Errors
    /// The parent is a cgroup with processes, or the kernel refuses it.
    pub(super) fn make_cgroup(&self, record: &Record) -> Result<Cgroup, CgroupError> {
        if !record.host.cgroup_parent.is_empty() {
            let parent = cleaned(&record.host.cgroup_parent);
            cgroup::make_parent(&self.settings.cgroups, &parent)?;
            if let Some(top) = parent.iter().next() {
                keep_room(&self.settings.cgroups.join(top));
            }
        }
        Cgroup::create_anew(&self.cgroup(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_never_leads_out_of_the_tree() {
        for (parent, path) in [
            ("/a/b", "a/b"),
            ("a/b", "a/b"),
            ("/../../etc", "etc"),
            ("a/../../b/./c", "b/c"),
            ("/", ""),
            ("system.slice", "system.slice"),
        ] {
            assert_eq!(cleaned(parent), Path::new(path), "{parent}");
        }
    }

    #[test]
    fn who_joins_goes_where_the_first_process_went() {
        let id = "5a".repeat(32);
        for (place, expected) in [
            (format!("0::/docker/{id}\n"), ""),
            (format!("0::/docker/{id}/init.scope\n"), "init.scope"),
            (format!("1:name=systemd:/x\n0::/a/{id}/b/c\n"), "b/c"),
            ("0::/else\n".to_owned(), ""),
        ] {
            assert_eq!(below(&place, &id), expected, "{place}");
        }
    }

    #[test]
    fn room_is_kept_on_every_machine() {
        for (all, expected) in [(32_768, 28_672), (4096, 3584), (1000, 488), (512, 1), (10, 1)] {
            assert_eq!(most(all), expected, "{all}");
        }
    }

    #[test]
    fn the_machine_and_containers_keep_their_own() {
        let of_container = format!("/docker/{}/below", "5a".repeat(32));
        for parent in ["/pinnace", "pinnace/init", "/x/../pinnace/engine", &of_container] {
            assert!(check(parent).is_err(), "{parent}");
        }
        for parent in ["", "/", "/docker", "/pinnaces", "/x/pinnace"] {
            assert_eq!(check(parent), Ok(()), "{parent}");
        }
    }
}
