//! Makes an image known: its blobs, its records and its names in one step.

use bytes::Bytes;

use super::config::Document;
use super::records::{ImageRecord, LayerRecord};
use super::{ImageError, ImageId, Shared, build_image};
use model::reference::{Digest, Reference};
use model::timestamp::Timestamp;
use store::{Durability, Table};

/// An image whose layers are all published and pinned.
pub(super) struct Complete {
    pub(super) config: (Digest, Bytes),
    pub(super) document: Document,
    /// Manifests and lists of manifests, as sent.
    pub(super) manifests: Vec<(Digest, Bytes)>,
    /// Names it gets.
    pub(super) references: Vec<Reference>,
}

impl Shared {
    /// Durable when this returns; seen by everybody from then on. Blocks on the disk. Whether one of the names
    /// led elsewhere before.
    pub(super) fn record(&self, complete: Complete) -> Result<bool, ImageError> {
        let _changing = self.change();
        let id = ImageId::new(complete.config.0.clone());
        for (digest, bytes) in complete.manifests.iter().chain([&complete.config]) {
            self.disk.write_blob(digest, bytes)?;
        }
        self.disk.sync_names()?;
        let manifests = complete.manifests.iter().map(|(digest, _)| digest.clone()).collect();
        let record = ImageRecord { manifests, last_tagged: Timestamp::now() };
        let layers = self.layer_records(&complete.document)?;
        let record = self.store_image(&id, record, layers, &complete.references)?;
        let image = build_image(id.clone(), complete.document, &record, &self.index())?;
        let mut index = self.index_mut();
        let news = complete.references.iter().any(|reference| index.references.get(reference) != Some(&id));
        index.put(image);
        complete.references.into_iter().for_each(|reference| index.name(reference, &id));
        Ok(news)
    }

    fn layer_records(&self, document: &Document) -> Result<Vec<(Digest, LayerRecord)>, ImageError> {
        let index = self.index();
        let record = |diff_id: &Digest| match index.layers.get(diff_id) {
            Some(record) => Ok((diff_id.clone(), record.clone())),
            None => Err(ImageError::Malformed(format!("layer {diff_id} is missing"))),
        };
        document.diff_ids.iter().map(record).collect()
    }

    /// The record as stored: an image pulled again keeps the manifests it came with before.
    fn store_image(
        &self,
        id: &ImageId,
        mut record: ImageRecord,
        layers: Vec<(Digest, LayerRecord)>,
        references: &[Reference],
    ) -> Result<ImageRecord, ImageError> {
        let id = id.clone();
        let names: Vec<String> = references.iter().map(Reference::to_string).collect();
        let stored = self.store.write(Durability::Synced, move |writer| {
            if let Some(before) = writer.get::<ImageRecord>(Table::Images, id.as_str())? {
                let new = |digest: &Digest| !record.manifests.contains(digest);
                let kept: Vec<Digest> = before.manifests.into_iter().filter(new).collect();
                record.manifests.extend(kept);
            }
            writer.put(Table::Images, id.as_str(), &record)?;
            layers
                .iter()
                .try_for_each(|(diff_id, layer)| writer.put(Table::Layers, diff_id.as_str(), layer))?;
            names.iter().try_for_each(|name| writer.put(Table::References, name, id.digest()))?;
            Ok(record)
        })?;
        Ok(stored)
    }
}
