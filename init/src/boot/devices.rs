//! What /dev needs beyond what the kernel puts there; in namespaces, where the kernel puts nothing, all of it.

use std::path::Path;

use contract::settings::Backend;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::{BootError, Machine};

/// Links that every program expects, proc(5).
const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Character devices of Documentation/admin-guide/devices.txt: path, major, minor.
const NODES: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
    ("/dev/net/tun", 10, 200),
    ("/dev/fuse", 10, 229),
];

/// Makes them.
pub fn make(machine: &mut Machine) -> Result<(), BootError> {
    LINKS.iter().try_for_each(|(target, path)| link(target, path))?;
    if machine.settings.backend == Backend::Namespace {
        link("pts/ptmx", "/dev/ptmx")?;
        NODES.iter().try_for_each(|(path, major, minor)| node(path, *major, *minor))?;
    }
    Ok(())
}

fn link(target: &str, path: &str) -> Result<(), BootError> {
    match std::os::unix::fs::symlink(target, path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(BootError::Write { path: path.into(), source: error })
        }
        _ => Ok(()),
    }
}

fn node(path: &str, major: u32, minor: u32) -> Result<(), BootError> {
    let failed = |source| BootError::Write { path: path.into(), source };
    if let Some(folder) = Path::new(path).parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(major, minor))
        .map_err(|error| failed(error.into()))
}
