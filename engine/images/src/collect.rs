//! Removes what nobody needs any more: layers and blobs of no image and of no pull under way.

use std::collections::HashSet;

use super::records::{ImageRecord, LayerRecord};
use super::{ImageError, Shared};
use model::reference::Digest;
use store::{Durability, Table};

impl Shared {
    /// Removes orphan layers and blobs; the bytes of the layers' files that are gone. Never while holding
    /// [`Shared::change`].
    pub(super) fn collect(&self) -> Result<u64, ImageError> {
        let _changing = self.change();
        if !self.index().damaged.is_empty() {
            return Ok(0);
        }
        let freed = self.collect_layers()?;
        self.collect_blobs()?;
        Ok(freed)
    }

    /// A layer record may outlive its files, but not the other way round: a record without files is not
    /// believed at start.
    fn collect_layers(&self) -> Result<u64, ImageError> {
        let orphans = self.take_orphans();
        let mut wanted: HashSet<Digest> = self.index().layers.keys().cloned().collect();
        wanted.extend(orphans.iter().map(|(diff_id, _)| diff_id.clone()));
        if !orphans.is_empty() {
            let gone: Vec<Digest> = orphans.iter().map(|(diff_id, _)| diff_id.clone()).collect();
            self.store.write(Durability::Soon, move |writer| {
                gone.iter().for_each(|diff_id| writer.delete(Table::Layers, diff_id.as_str()));
                Ok(())
            })?;
        }
        for (diff_id, _) in &orphans {
            self.disk.remove_layer(diff_id)?;
        }
        // Published before a crash, recorded never.
        for stray in self.disk.layers()?.iter().filter(|diff_id| !wanted.contains(diff_id)) {
            self.disk.remove_layer(stray)?;
        }
        Ok(orphans.iter().map(|(_, record)| record.size).sum())
    }

    fn take_orphans(&self) -> Vec<(Digest, LayerRecord)> {
        let mut index = self.index_mut();
        let used = index.used_layers();
        let is_wanted = |diff_id: &Digest| used.contains(diff_id) || self.downloads.is_pinned(diff_id);
        index.layers.extract_if(|diff_id, _| !is_wanted(diff_id)).collect()
    }

    fn collect_blobs(&self) -> Result<(), ImageError> {
        let mut wanted: HashSet<Digest> = HashSet::new();
        let records = self.store.read(|reader| reader.list::<ImageRecord>(Table::Images))?;
        for (id, record) in records {
            wanted.extend(id.parse());
            wanted.extend(record.manifests);
        }
        wanted.extend(self.index().layers.values().filter_map(|layer| layer.blob.clone()));
        for stray in self.disk.blobs()?.iter().filter(|digest| !wanted.contains(digest)) {
            self.disk.remove_blob(stray)?;
        }
        Ok(())
    }
}
