//! What is mounted into a container at its creator's wish: folders of the machine, volumes, memory file systems, images.
//!
//! ```text
//!   Binds, Mounts, VolumesFrom, Volumes ── spec ──► Planned ── make ──► MountPoint, which is recorded
//!                                                                            │ each start, each look
//!                                                  VolumeMount ◄── attach ───┘
//! ```

mod attach;
mod make;
mod populate;
mod request;
mod spec;
mod tmpfs;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::config::{Config, HostConfig};
use super::create::clean;
use super::error::ContainerError;
use super::record::Record;

pub(super) use attach::attach;
pub(super) use make::{Made, held};
pub use request::{BindOptions, DriverConfig, ImageOptions, Mount, TmpfsOptions, VolumeOptions};
pub(super) use spec::check;

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A file or folder of the machine.
    Bind,
    /// A volume.
    Volume,
    /// A memory file system.
    Tmpfs,
    /// The files of an image.
    Image,
}

impl MountKind {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            MountKind::Bind => "bind",
            MountKind::Volume => "volume",
            MountKind::Tmpfs => "tmpfs",
            MountKind::Image => "image",
        }
    }
}

/// Something that is mounted whenever the container runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// What it is.
    pub kind: MountKind,
    /// A volume's name, or an image's as the creator gave it.
    #[serde(default)]
    pub name: String,
    /// Where it is on the machine.
    #[serde(default)]
    pub source: String,
    /// Where it is in the container.
    pub destination: String,
    /// Options as the creator wrote them.
    #[serde(default)]
    pub mode: String,
    /// It takes writes.
    pub writable: bool,
    /// Docker's word; only of folders of the machine.
    #[serde(default)]
    pub propagation: String,
    /// A volume that nobody named, which may go with the container.
    #[serde(default)]
    pub anonymous: bool,
    /// What of a volume or an image is shown; empty is all.
    #[serde(default)]
    pub subpath: String,
    /// A missing folder of the machine is made.
    #[serde(default)]
    pub make_source: bool,
    /// See [`BindOptions`].
    #[serde(default)]
    pub non_recursive: bool,
    /// See [`BindOptions`].
    #[serde(default)]
    pub read_only_non_recursive: bool,
    /// See [`BindOptions`].
    #[serde(default)]
    pub read_only_force_recursive: bool,
    /// Options of a memory file system, as `--tmpfs` has them.
    #[serde(default)]
    pub tmpfs: String,
    /// Id of the image.
    #[serde(default)]
    pub image_id: String,
}

impl MountPoint {
    fn new(kind: MountKind, destination: String, writable: bool) -> MountPoint {
        MountPoint {
            kind,
            name: String::new(),
            source: String::new(),
            destination,
            mode: String::new(),
            writable,
            propagation: String::new(),
            anonymous: false,
            subpath: String::new(),
            make_source: false,
            non_recursive: false,
            read_only_non_recursive: false,
            read_only_force_recursive: false,
            tmpfs: String::new(),
            image_id: String::new(),
        }
    }
}

impl Record {
    /// What is mounted besides the memory file systems of `--tmpfs`.
    pub fn mount_points(&self) -> Cow<'_, [MountPoint]> {
        match &self.points {
            Some(points) => Cow::Borrowed(points),
            // Recorded by a release that had nothing else.
            None => Cow::Owned(spec::of_binds(&self.host)),
        }
    }

    /// The volumes among them.
    pub(super) fn volume_points(&self) -> Vec<MountPoint> {
        let volumes = |point: &&MountPoint| point.kind == MountKind::Volume;
        self.mount_points().iter().filter(volumes).cloned().collect()
    }
}

/// Whether a new container with these configurations mounts anything that has to be made or looked up.
pub(super) fn any(config: &Config, host: &HostConfig) -> bool {
    let nothing = config.volumes.is_empty()
        && host.binds.is_empty()
        && host.mounts.is_empty()
        && host.volumes_from.is_empty();
    !nothing
}

fn invalid(text: impl Into<String>) -> ContainerError {
    ContainerError::Invalid(text.into())
}

/// Where something is mounted, in its shortest form; or what is wrong with it.
fn destination(text: &str) -> Result<String, String> {
    if clean(&format!("/{text}")) == "/" {
        return Err("invalid specification: destination can't be '/'".to_owned());
    }
    match text.starts_with('/') {
        true => Ok(clean(text)),
        false => Err(format!("invalid mount path: '{text}' mount path must be absolute")),
    }
}

/// The memory file systems of `--tmpfs` and their places.
fn tmpfs_places(host: &HostConfig) -> Result<Vec<(String, &String)>, ContainerError> {
    host.tmpfs.iter().map(|(target, options)| Ok((destination(target).map_err(invalid)?, options))).collect()
}
