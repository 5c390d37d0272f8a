//! The host's folders, brought to the path they have on the host.
//!
//! Whoever boots the machine mounts them elsewhere before the engine starts, for what PID 1 mounts at the boot (`/tmp` and
//! `/run` are fresh ones) would hide them at their own path.

// It runs before anything is served.
#![allow(clippy::disallowed_methods)]

use runtime::volume::{Access, How, attach, copy_of};
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};
use sys::mounts::Propagation;

/// Brings in those that are mounted on `mounts`/0, `mounts`/1, … and says which are there. One that fails is told and left out;
/// an engine after the first finds them in place.
pub fn bring_in(mounts: &Path, folders: &[String]) -> Vec<PathBuf> {
    let mut there = Vec::new();
    for (number, path) in folders.iter().enumerate() {
        let (from, path) = (mounts.join(number.to_string()), PathBuf::from(path));
        match bring(&from, &path) {
            Ok(()) => there.push(path),
            Err(error) => tracing::error!("the host's folder {} is not shared: {error}", path.display()),
        }
    }
    there
}

/// Nothing is made at its path before it is known to be there.
fn bring(from: &Path, path: &Path) -> io::Result<()> {
    let known = identity(from)?;
    if identity(path).is_ok_and(|there| there == known) {
        return Ok(());
    }
    let open = |path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let how = How { access: Access::Write, recursive: true, propagation: Propagation::Private };
    let copy = copy_of(open(from)?.as_fd(), how)?;
    fs::create_dir_all(path)?;
    attach(copy.as_fd(), open(path)?.as_fd())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}
