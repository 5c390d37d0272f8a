//! What the store keeps about images. The configuration itself is a blob.

use serde::{Deserialize, Serialize};

use model::reference::Digest;
use model::timestamp::Timestamp;

/// In [`store::Table::Images`], by image id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    /// Manifests and lists of manifests that were pulled for it; blobs.
    pub(super) manifests: Vec<Digest>,
    /// When a name was last given to it.
    pub(super) last_tagged: Timestamp,
}

/// In [`store::Table::Layers`], by diff id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    /// The compressed form as received; a blob.
    pub(super) blob: Option<Digest>,
    /// Content of its files, in bytes.
    pub(super) size: u64,
    /// It hides every layer below it.
    pub(super) opaque: bool,
}
