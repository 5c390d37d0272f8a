//! The host's folders, brought to the path they have on the host.
//!
//! Whoever boots the machine mounts them elsewhere before the engine starts, for what PID 1 mounts at the boot (`/tmp` and
//! `/run` are fresh ones) would hide them at their own path.

// It runs before anything is served.
#![allow(clippy::disallowed_methods)]

use contract::paths;
use runtime::volume::{Access, FileSystem, How, attach, copy_of, writable_copy};
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};
use sys::mounts::Propagation;

/// Brings in those that are mounted on `mounts`/0, `mounts`/1, … and says which are there. One that fails is told and left out;
/// an engine after the first finds them in place.
pub fn bring_in(mounts: &Path, folders: &[String]) -> Vec<PathBuf> {
    if !folders.is_empty()
        && let Err(error) = mount(mounts)
    {
        tracing::error!("the host's folders are not shared: {error}");
        return Vec::new();
    }
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

/// Mounts the file system that has them all, in a machine whose owner could not mount them one by one.
fn mount(mounts: &Path) -> io::Result<()> {
    if mounts.join("0").exists() {
        return Ok(());
    }
    let shared = FileSystem {
        kind: "virtiofs".to_owned(),
        source: paths::HOST_FOLDERS_TAG.to_owned(),
        ..FileSystem::default()
    };
    let mount = shared.mount()?;
    make_folder(mounts)?;
    attach(mount.as_fd(), open(mounts)?.as_fd())
}

/// Makes a folder, also on the machine's root: that is read-only where it is mounted, and a mount of it that nobody else
/// sees is not.
fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
        made => return made,
    }
    let root = writable_copy(open(Path::new("/"))?.as_fd())?;
    let mut folder = root;
    for name in path.strip_prefix("/").unwrap_or(path) {
        match mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        folder = openat(
            &folder,
            name,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
    }
    Ok(())
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// Nothing is made at its path before it is known to be there.
fn bring(from: &Path, path: &Path) -> io::Result<()> {
    let known = identity(from)?;
    if identity(path).is_ok_and(|there| there == known) {
        return Ok(());
    }
    let how = How { access: Access::Write, recursive: true, propagation: Propagation::Private };
    let copy = copy_of(open(from)?.as_fd(), how)?;
    make_folder(path)?;
    attach(copy.as_fd(), open(path)?.as_fd())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}
