//! New volumes get what the image has in their places.

// All of it runs on a file worker.
#![allow(clippy::disallowed_methods)]

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use images::ImageId;
use runtime::rootfs;
use rustix::fs::{FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::error::ContainerError;
use crate::registry::Shared;
use volumes::Volume;

/// Each volume and the place of the image's that it covers.
pub(super) fn populate(
    shared: &Shared,
    image: &ImageId,
    empty: &[(Arc<Volume>, String)],
) -> Result<(), ContainerError> {
    let mut layers: Vec<PathBuf> = vec![shared.settings.data.join("base")];
    layers.extend(shared.images.rootfs(image)?);
    let root = rootfs::layers(&layers).map_err(|error| {
        ContainerError::machine("mount the container's image")(std::io::Error::other(error))
    })?;
    for (volume, place) in empty {
        let machine = |errno: Errno| ContainerError::machine(format!("look at {place}"))(errno.into());
        let there = match rootfs::open_in(root.as_fd(), Path::new(place), OFlags::PATH) {
            // The image has nothing there.
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            other => other.map_err(machine)?,
        };
        let stat = rustix::fs::fstat(&there).map_err(machine)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(not_a_folder(volume, place));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(&there, ".", flags, Mode::empty()).map_err(machine)?;
        shared
            .volumes
            .populate(&volume.name, folder.as_fd())
            .map_err(|error| ContainerError::Populate(Box::new(error.into())))?;
    }
    Ok(())
}

/// The two texts of dockerd's.
fn not_a_folder(volume: &Volume, place: &str) -> ContainerError {
    ContainerError::MountOver(match volume.is_anonymous() {
        true => format!("cannot mount volume over existing file, file exists {place}"),
        false => format!("source {place} is not directory"),
    })
}
