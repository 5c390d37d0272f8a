//! What the store keeps about images. Manifests and configurations themselves are blobs.

use model::Platform;
use model::reference::{Digest, Reference};
use model::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use store::Table;

/// Image id → what is its own.
pub const IMAGES: Table<Digest, ImageRecord> = Table::new("images");
/// Name → what it names.
pub(super) const REFERENCES: Table<Reference, ReferenceRecord> = Table::new("references");
/// Digest of a manifest or an index → what it leads to.
pub(super) const MANIFESTS: Table<Digest, ManifestRecord> = Table::new("manifests");
/// Diff id → the layer.
pub(super) const LAYERS: Table<Digest, LayerRecord> = Table::new("layers");

/// Most repositories that are remembered for a blob.
const ORIGINS_MAX: usize = 8;

/// An image that is here, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// When a name was last given to it.
    pub(super) last_tagged: Timestamp,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReferenceRecord {
    /// What the registry gave for the name, an index or a manifest; the configuration where no manifest is known.
    pub(super) target: Descriptor,
    /// Of the images that the target leads to, the one that was named last.
    pub(super) image: Digest,
}

/// A blob as others describe it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

impl Descriptor {
    /// A configuration of which only the digest is known.
    pub(super) fn of_config(digest: &Digest) -> Descriptor {
        let media_type = "application/vnd.oci.image.config.v1+json".to_owned();
        Descriptor { media_type, digest: digest.clone(), size: 0 }
    }
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ManifestRecord {
    pub(super) media_type: String,
    /// Its bytes.
    pub(super) size: u64,
    pub(super) kind: ManifestKind,
}

/// What a manifest leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ManifestKind {
    /// Other manifests, of which some may be here.
    Index { manifests: Vec<IndexEntry> },
    /// One image.
    Image {
        /// Its digest is the image's id.
        config: Descriptor,
        /// Lowest first.
        layers: Vec<Descriptor>,
        /// As the configuration tells it.
        platform: Option<Platform>,
    },
}

/// A manifest as an index describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IndexEntry {
    #[serde(flatten)]
    pub(super) manifest: Descriptor,
    pub(super) platform: Option<Platform>,
}

/// A layer whose files are here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    /// Its compressed forms. A form that another repository has need not be here.
    pub(super) blobs: Vec<LayerBlob>,
    /// Content of its files, in bytes.
    pub(super) size: u64,
    /// It hides every layer below it.
    pub(super) opaque: bool,
}

/// One compressed form of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerBlob {
    #[serde(flatten)]
    pub(super) blob: Descriptor,
    /// Repositories that have it, with their registry; the first one first.
    pub(super) origins: Vec<String>,
}

impl LayerRecord {
    /// Notes that a repository has the layer in this form.
    pub(super) fn seen(&mut self, blob: &Descriptor, origin: &str) {
        let known = match self.blobs.iter().position(|known| known.blob.digest == blob.digest) {
            Some(at) => &mut self.blobs[at],
            None => {
                self.blobs.push(LayerBlob { blob: blob.clone(), origins: Vec::new() });
                self.blobs.last_mut().expect("it was just pushed")
            }
        };
        if !known.origins.iter().any(|other| other == origin) && known.origins.len() < ORIGINS_MAX {
            known.origins.push(origin.to_owned());
        }
    }
}

impl ManifestRecord {
    /// The record of a manifest with these bytes as a descriptor.
    pub(super) fn descriptor(&self, digest: &Digest) -> Descriptor {
        Descriptor { media_type: self.media_type.clone(), digest: digest.clone(), size: self.size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_remembers_its_forms_and_where_they_are() {
        let blob = |fill: &str| Descriptor {
            media_type: "gzip".to_owned(),
            digest: format!("sha256:{}", fill.repeat(64)).parse().unwrap(),
            size: 1,
        };
        let mut layer = LayerRecord { blobs: vec![], size: 1, opaque: false };
        for (fill, origin) in [("a", "x.test/a"), ("b", "x.test/b"), ("a", "x.test/c"), ("a", "x.test/a")] {
            layer.seen(&blob(fill), origin);
        }
        let origins: Vec<_> = layer.blobs.iter().map(|known| known.origins.clone()).collect();
        assert_eq!(origins, [vec!["x.test/a", "x.test/c"], vec!["x.test/b"]]);
        (0..100).for_each(|i| layer.seen(&blob("a"), &format!("x.test/{i}")));
        assert_eq!(layer.blobs[0].origins.len(), ORIGINS_MAX);
        let text = serde_json::to_string(&layer).unwrap();
        assert_eq!(serde_json::from_str::<LayerRecord>(&text).unwrap(), layer);
    }
}
