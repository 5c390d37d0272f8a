//! Makes an image known: its blobs, its records and its names in one step.

use std::collections::HashMap;

use bytes::Bytes;
use model::reference::{Digest, Reference};
use model::timestamp::Timestamp;
use store::Durability;

use super::config::Document;
use super::records::{
    Descriptor, IMAGES, ImageRecord, LAYERS, LayerRecord, MANIFESTS, ManifestRecord, REFERENCES,
    ReferenceRecord,
};
use super::{ImageError, ImageId, Shared, build_image};

/// An image whose layers are all published and pinned.
pub(super) struct Complete {
    pub(super) config: (Digest, Bytes),
    pub(super) document: Document,
    /// What the registry gave, and what that led to: the last one is the image's own manifest.
    pub(super) manifests: Vec<KnownManifest>,
    /// Its layers' compressed forms in that repository, lowest first.
    pub(super) layers: Vec<Descriptor>,
    /// Where they are: registry and repository.
    pub(super) origin: String,
    /// Names it gets.
    pub(super) references: Vec<Reference>,
}

/// A manifest or an index, as sent and as understood.
pub(super) struct KnownManifest {
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
    pub(super) record: ManifestRecord,
}

/// All rows of an image.
struct Rows {
    id: ImageId,
    image: ImageRecord,
    reference: ReferenceRecord,
    manifests: HashMap<Digest, ManifestRecord>,
    layers: HashMap<Digest, LayerRecord>,
}

impl Shared {
    /// Durable when this returns; seen by everybody from then on. Blocks on the disk. Whether one of the names
    /// led elsewhere before.
    pub(super) fn record(&self, complete: Complete) -> Result<bool, ImageError> {
        let _changing = self.change();
        let rows = self.rows(&complete)?;
        self.keep_blobs(&complete)?;
        self.store_rows(&rows, &complete.references)?;
        let mut index = self.index_mut();
        index.learn(rows.manifests, rows.layers);
        let image = build_image(rows.id.clone(), complete.document, &rows.image, &index)?;
        let leads = |reference: &Reference| index.references.get(reference).map(|known| &known.image);
        let news = complete.references.iter().any(|reference| leads(reference) != Some(rows.id.digest()));
        index.put(image);
        complete.references.into_iter().for_each(|reference| index.name(reference, rows.reference.clone()));
        Ok(news)
    }

    fn rows(&self, complete: &Complete) -> Result<Rows, ImageError> {
        let id = ImageId::new(complete.config.0.clone());
        let target = match complete.manifests.first() {
            Some(manifest) => manifest.record.descriptor(&manifest.digest),
            None => return Err(ImageError::Malformed("it has no manifest".to_owned())),
        };
        let reference = ReferenceRecord { target, image: id.digest().clone() };
        let manifests = complete.manifests.iter().map(|known| (known.digest.clone(), known.record.clone()));
        let layers = self.layer_records(complete)?;
        let image = ImageRecord { last_tagged: Timestamp::now() };
        Ok(Rows { id, image, reference, manifests: manifests.collect(), layers })
    }

    /// The layers' records, each with the form that this repository has. That form need not be here: a layer that came
    /// in another one is not fetched again, but where it can be had is known.
    fn layer_records(&self, complete: &Complete) -> Result<HashMap<Digest, LayerRecord>, ImageError> {
        let index = self.index();
        let mut records = HashMap::new();
        for (at, diff_id) in complete.document.diff_ids.iter().enumerate() {
            let known = index.layers.get(diff_id).map(|layer| layer.record.clone());
            let missing = || ImageError::Malformed(format!("layer {diff_id} is missing"));
            let record = records.entry(diff_id.clone()).or_insert(known.ok_or_else(missing)?);
            if let Some(blob) = complete.layers.get(at) {
                record.seen(blob, &complete.origin);
            }
        }
        Ok(records)
    }

    /// What the rows will name is on disk when this returns: one sync for all of the image where layers have come, and
    /// only the small blobs where all of them were here.
    fn keep_blobs(&self, complete: &Complete) -> Result<(), ImageError> {
        let manifests = complete.manifests.iter().map(|known| (&known.digest, &known.bytes));
        let small: Vec<_> = manifests.chain([(&complete.config.0, &complete.config.1)]).collect();
        for (digest, bytes) in &small {
            self.disk.write_blob(digest, bytes)?;
        }
        let index = self.index();
        let is_fresh = |diff_id: &Digest| index.layers.get(diff_id).is_some_and(|layer| !layer.durable);
        let fresh = complete.document.diff_ids.iter().any(is_fresh);
        drop(index);
        match fresh {
            true => self.disk.sync_everything()?,
            false => self.disk.sync_blobs(small.iter().map(|(digest, _)| *digest))?,
        }
        Ok(())
    }

    fn store_rows(&self, rows: &Rows, references: &[Reference]) -> Result<(), ImageError> {
        let (id, image, reference) = (rows.id.digest().clone(), rows.image.clone(), rows.reference.clone());
        let (manifests, layers) = (rows.manifests.clone(), rows.layers.clone());
        let references = references.to_vec();
        Ok(self.store.write(Durability::Synced, move |writer| {
            writer.put(IMAGES, &id, &image)?;
            manifests.iter().try_for_each(|(digest, record)| writer.put(MANIFESTS, digest, record))?;
            layers.iter().try_for_each(|(diff_id, record)| writer.put(LAYERS, diff_id, record))?;
            references.iter().try_for_each(|name| writer.put(REFERENCES, name, &reference))
        })?)
    }
}
