//! `HostConfig.Mounts` as Docker's clients write it, and as inspect gives it back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One of `--mount`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs` or `image`.
    #[serde(skip_serializing_if = "is_zero")]
    pub r#type: String,
    /// Path, name or reference; empty is an anonymous volume.
    #[serde(skip_serializing_if = "is_zero")]
    pub source: String,
    /// Path in the container.
    #[serde(skip_serializing_if = "is_zero")]
    pub target: String,
    /// Without writes.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only: bool,
    /// No effect on one machine.
    #[serde(skip_serializing_if = "is_zero")]
    pub consistency: String,
    /// Of the type `bind`.
    #[serde(skip_serializing_if = "is_zero")]
    pub bind_options: Option<BindOptions>,
    /// Of the type `volume`.
    #[serde(skip_serializing_if = "is_zero")]
    pub volume_options: Option<VolumeOptions>,
    /// Of the type `image`.
    #[serde(skip_serializing_if = "is_zero")]
    pub image_options: Option<ImageOptions>,
    /// Of the type `tmpfs`.
    #[serde(skip_serializing_if = "is_zero")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

/// Of a folder of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    /// `rprivate`, `rshared` and so on.
    #[serde(skip_serializing_if = "is_zero")]
    pub propagation: String,
    /// Without what is mounted below it.
    #[serde(skip_serializing_if = "is_zero")]
    pub non_recursive: bool,
    /// A missing folder is made.
    #[serde(skip_serializing_if = "is_zero")]
    pub create_mountpoint: bool,
    /// Read-only is the folder itself, not what is mounted below it.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only_non_recursive: bool,
    /// An error where not all can be read-only.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only_force_recursive: bool,
}

/// Of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeOptions {
    /// It stays empty, whatever the image has there.
    #[serde(skip_serializing_if = "is_zero")]
    pub no_copy: bool,
    /// Of a new one.
    #[serde(skip_serializing_if = "is_zero")]
    pub labels: BTreeMap<String, String>,
    /// What of it is shown.
    #[serde(skip_serializing_if = "is_zero")]
    pub subpath: String,
    /// Of a new one.
    #[serde(skip_serializing_if = "is_zero")]
    pub driver_config: Option<DriverConfig>,
}

/// Of a new volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DriverConfig {
    /// `local`.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// What it is told.
    #[serde(skip_serializing_if = "is_zero")]
    pub options: BTreeMap<String, String>,
}

/// Of the files of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageOptions {
    /// What of it is shown.
    #[serde(skip_serializing_if = "is_zero")]
    pub subpath: String,
}

/// Of a memory file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    /// Its size; 0 is the kernel's own limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_bytes: i64,
    /// Of its folder; 0 is the kernel's 1777.
    #[serde(skip_serializing_if = "is_zero")]
    pub mode: u32,
    /// `exec` and `noexec`.
    #[serde(skip_serializing_if = "is_zero")]
    pub options: Vec<Vec<String>>,
}
