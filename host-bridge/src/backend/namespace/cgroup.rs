//! The appliance's cgroup, below the host's unified hierarchy.

use crate::backend::BackendError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Killed processes leave their cgroup within moments.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Makes the cgroup and hands down every controller the host gives.
pub fn make(name: &str) -> Result<PathBuf, BackendError> {
    let mounts =
        std::fs::read_to_string("/proc/mounts").map_err(BackendError::system("read /proc/mounts"))?;
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    let root = unified(&mounts).ok_or_else(missing).map_err(BackendError::system(
        "find the host's cgroup2 mount: mount -t cgroup2 none /sys/fs/cgroup/unified",
    ))?;
    hand_down(&root);
    let path = root.join(name);
    match std::fs::create_dir(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(BackendError::system(format!("make the cgroup {}", path.display()))(error))
        }
        _ => Ok(path),
    }
}

/// Where the unified hierarchy is mounted: at /sys/fs/cgroup, or beside the old ones.
fn unified(mounts: &str) -> Option<PathBuf> {
    let fields = mounts.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    fields.into_iter().find(|fields| fields.get(2) == Some(&"cgroup2")).map(|fields| PathBuf::from(fields[1]))
}

/// One controller at a time: a host that keeps one to its old hierarchy still gives the others.
fn hand_down(root: &Path) {
    let controllers = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_ascii_whitespace() {
        if let Err(error) = std::fs::write(root.join("cgroup.subtree_control"), format!("+{controller}")) {
            tracing::info!("the host keeps its cgroup controller {controller} to itself: {error}");
        }
    }
}

/// Kills everything in the cgroup and removes it with all below.
pub fn remove(path: &Path) -> io::Result<()> {
    for _ in 0..TRIES {
        // Kernels before 5.14 have no cgroup.kill; there PID 1's end has killed all already.
        let _ = std::fs::write(path.join("cgroup.kill"), "1");
        match remove_tree(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(PAUSE),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => return done,
        }
    }
    remove_tree(path)
}

/// A cgroup's files are the kernel's; only folders can be removed, the lowest first (cgroups(7)).
fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    std::fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_is_found_where_it_is() {
        let check = |mounts: &str, want: Option<&str>| assert_eq!(unified(mounts), want.map(PathBuf::from));
        check("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", Some("/sys/fs/cgroup"));
        check(
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
            Some("/sys/fs/cgroup/unified"),
        );
        check("proc /proc proc rw 0 0\n", None);
    }
}
