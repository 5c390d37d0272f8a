//! What is known of a volume.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use store::Table;

use super::ANONYMOUS;
use super::disk::Disk;

/// Name → what the volume is. There is a volume where there is such a row.
pub const VOLUMES: Table<str, VolumeRecord> = Table::new("volumes");

/// A volume as the store keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    pub(super) created: Timestamp,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) options: BTreeMap<String, String>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name, which is nobody else's.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What the driver was told.
    pub options: BTreeMap<String, String>,
    /// Its folder.
    pub mountpoint: PathBuf,
}

impl VolumeRecord {
    pub(super) fn volume(self, name: String, disk: &Disk) -> Volume {
        let VolumeRecord { created, labels, options } = self;
        Volume { mountpoint: disk.data(&name), name, created, labels, options }
    }
}

impl Volume {
    /// Nobody named it.
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS)
    }
}
