//! From a recorded mount point to a mount that can be attached.

// All of it runs on a launching thread or a file worker.
#![allow(clippy::disallowed_methods)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use images::ImageId;
use runtime::launch::{PreparedMount, VolumeKind, VolumeMount};
use runtime::rootfs;
use runtime::volume::{Access, How, Stage, copy_of, inner, limit, share_mount_of};
use rustix::fs::{Mode, OFlags};
use sys::mounts::Propagation;

use super::make::source_of_bind;
use super::tmpfs::tmpfs;
use super::{MountKind, MountPoint, tmpfs_places};
use crate::error::ContainerError;
use crate::record::Record;
use crate::registry::Shared;
use volumes::VolumeError;

/// All that the creator wished for, those that others may lie in first. For a run's `user` volumes stay mounted until it is
/// over.
///
/// # Errors
/// dockerd's words for what is not there any more, or cannot be mounted.
pub(crate) fn attach(
    shared: &Shared,
    record: &Record,
    user: Option<&str>,
) -> Result<Vec<VolumeMount>, ContainerError> {
    let mut mounts = Vec::new();
    for (target, options) in tmpfs_places(&record.host)? {
        mounts.push(VolumeMount { target, kind: VolumeKind::Tmpfs(tmpfs(options)?) });
    }
    for point in record.mount_points().iter() {
        let target = point.destination.clone();
        let (mount, source) = match point.kind {
            MountKind::Tmpfs => {
                mounts.push(VolumeMount { target, kind: VolumeKind::Tmpfs(tmpfs(&point.tmpfs)?) });
                continue;
            }
            MountKind::Bind => (bind(shared, record, point, user.is_some())?, point.source.clone()),
            MountKind::Volume => (volume(shared, point, user)?, point.name.clone()),
            MountKind::Image => (image(shared, point)?, point.name.clone()),
        };
        let prepared = PreparedMount { mount: Arc::new(mount), source };
        mounts.push(VolumeMount { target, kind: VolumeKind::Prepared(prepared) });
    }
    Ok(mounts)
}

fn access(point: &MountPoint) -> Result<Access, ContainerError> {
    match (point.writable, point.read_only_non_recursive) {
        (true, _) => Ok(Access::Write),
        (false, true) if point.read_only_force_recursive => Err(ContainerError::unprepared(
            "mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive",
        )),
        (false, true) => Ok(Access::ReadTop),
        (false, false) => Ok(Access::Read),
    }
}

/// For a look at the files nothing propagates: what the look mounts in there is for nobody else.
fn bind(
    shared: &Shared,
    record: &Record,
    point: &MountPoint,
    for_a_run: bool,
) -> Result<OwnedFd, ContainerError> {
    let source = shared.settings.source_of_bind(Path::new(&point.source));
    let propagation = match point.propagation.trim_start_matches('r') {
        "shared" if for_a_run => Propagation::Shared,
        "slave" if for_a_run => Propagation::Slave,
        _ => Propagation::Private,
    };
    let how = How { access: access(point)?, recursive: !point.non_recursive, propagation };
    if !source.exists() {
        source_of_bind(shared, point)?;
        let root = shared.ids(&record.host).root();
        make_folders(source, root).map_err(|error| {
            let text = format!("error while creating mount source path '{}': {error}", point.source);
            ContainerError::unprepared(text)
        })?;
    }
    let copy = || {
        if propagation != Propagation::Private {
            share_mount_of(source)?;
        }
        let place = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        copy_of(place.as_fd(), how)
    };
    copy().map_err(|error| ContainerError::unprepared(format!("bind {}: {error}", point.source)))
}

/// Missing folders belong to the container's root.
fn make_folders(path: &Path, root: u32) -> io::Result<()> {
    let mut missing: Vec<PathBuf> = Vec::new();
    let mut known = path;
    while !known.exists() {
        missing.push(known.to_owned());
        let Some(parent) = known.parent() else { break };
        known = parent;
    }
    for folder in missing.into_iter().rev() {
        match std::fs::DirBuilder::new().mode(0o755).create(&folder) {
            Ok(()) => std::os::unix::fs::chown(&folder, Some(root), Some(root))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("mkdir {}: {error}", folder.display())));
            }
        }
    }
    Ok(())
}

fn volume(shared: &Shared, point: &MountPoint, user: Option<&str>) -> Result<OwnedFd, ContainerError> {
    let access = if point.writable { Access::Write } else { Access::Read };
    let how = How { access, recursive: true, propagation: Propagation::Private };
    Ok(shared.volumes.mount(&point.name, Path::new(&point.subpath), how, user)?)
}

fn image(shared: &Shared, point: &MountPoint) -> Result<OwnedFd, ContainerError> {
    let id: ImageId = point.image_id.parse()?;
    let layers = shared.images.rootfs(&id)?;
    let how = How { access: Access::Read, recursive: false, propagation: Propagation::Private };
    let failed =
        |error: io::Error| ContainerError::unprepared(format!("mount image {}: {error}", point.name));
    let path = Path::new(&point.subpath);
    let no_path = |errno| VolumeError::no_path(Path::new(&point.source), path, errno);
    if let [only] = &layers[..] {
        // The kernel wants two layers for an overlay without a writable one.
        let folder =
            rustix::fs::open(only, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let folder = folder.map_err(|errno| failed(errno.into()))?;
        let place = inner(folder.as_fd(), path).map_err(no_path)?;
        return copy_of(place.as_fd(), how).map_err(failed);
    }
    let overlay = rootfs::layers(&layers).map_err(|error| failed(io::Error::other(error)))?;
    if point.subpath.is_empty() {
        limit(overlay.as_fd(), how).map_err(failed)?;
        return Ok(overlay);
    }
    drop(inner(overlay.as_fd(), path).map_err(no_path)?);
    Stage::new(overlay).and_then(|stage| stage.copy(path, how)).map_err(failed)
}
