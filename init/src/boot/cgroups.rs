//! The tree of cgroups: `pinnace/init`, `pinnace/engine` and `docker`, with every controller that there is.

use std::fs;
use std::path::{Path, PathBuf};

use contract::paths::{CGROUP, CGROUP_CARRIER, CGROUP_CONTAINERS, CGROUP_ENGINE, CGROUP_INIT};

use crate::messages::say;

use super::{BootError, Machine};

/// Makes the tree and moves this process to its place: a cgroup with processes of its own may not have controllers
/// enabled for its children (cgroups(7), "no internal processes").
pub fn make(_: &mut Machine) -> Result<(), BootError> {
    let root = Path::new(CGROUP);
    for cgroup in [CGROUP_INIT, CGROUP_ENGINE, CGROUP_CARRIER, CGROUP_CONTAINERS] {
        let path = root.join(cgroup);
        fs::create_dir_all(&path).map_err(|source| BootError::Write { path, source })?;
    }
    write(&root.join(CGROUP_INIT).join("cgroup.procs"), "0")?;
    let system = Path::new(CGROUP_INIT).parent().unwrap_or(Path::new(""));
    [root.to_owned(), root.join(system), root.join(CGROUP_CONTAINERS)]
        .iter()
        .try_for_each(|cgroup| delegate(cgroup))
}

/// Enables every controller for the children of `cgroup`. One that the kernel refuses is told and left out: what
/// needs it says so later.
fn delegate(cgroup: &Path) -> Result<(), BootError> {
    let list = cgroup.join("cgroup.controllers");
    let names = fs::read_to_string(&list).map_err(|source| BootError::Read { path: list, source })?;
    let control = cgroup.join("cgroup.subtree_control");
    let all: Vec<String> = names.split_ascii_whitespace().map(|name| format!("+{name}")).collect();
    if all.is_empty() || write(&control, &all.join(" ")).is_ok() {
        return Ok(());
    }
    for one in all {
        if let Err(error) = write(&control, &one) {
            say!("cgroup controller {one} is left out: {}", crate::messages::chain(&error));
        }
    }
    Ok(())
}

fn write(path: &PathBuf, text: &str) -> Result<(), BootError> {
    fs::write(path, text).map_err(|source| BootError::Write { path: path.clone(), source })
}
