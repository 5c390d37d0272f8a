//! Removes what nobody needs any more: layers and blobs of no image and of no pull under way.

use std::collections::HashSet;

use content::disk::Temporary;
use model::reference::Digest;
use store::Durability;

use super::records::{LAYERS, LayerRecord};
use super::{ImageError, Shared};

/// What is out of sight, but whose files are still there. Dropped, they are removed by another thread.
#[derive(Default)]
pub(super) struct Aside {
    layers: Vec<Temporary>,
    /// Bytes of the files that go with it.
    size: u64,
}

impl Aside {
    /// Removes the files on this thread; how many bytes they had. Nobody is kept waiting by it but the caller.
    pub(super) fn remove(self) -> u64 {
        self.layers.into_iter().for_each(Temporary::remove);
        self.size
    }
}

impl Shared {
    /// Removes orphan layers and blobs; the bytes of the layers' files that are gone. Never while holding
    /// [`Shared::change`].
    pub(super) fn collect(&self) -> Result<u64, ImageError> {
        Ok(self.set_aside()?.remove())
    }

    /// Takes orphans out of sight, which is quick however large they are.
    pub(super) fn set_aside(&self) -> Result<Aside, ImageError> {
        let _changing = self.change();
        if self.index().has_damage() {
            return Ok(Aside::default());
        }
        let aside = self.set_layers_aside()?;
        self.collect_blobs()?;
        self.discard_rows()?;
        Ok(aside)
    }

    /// A layer record may outlive its files, but not the other way round: a record without files is not
    /// believed at start.
    fn set_layers_aside(&self) -> Result<Aside, ImageError> {
        let orphans = self.take_orphans();
        let mut wanted: HashSet<Digest> = self.index().layers.keys().cloned().collect();
        wanted.extend(orphans.iter().map(|(diff_id, _)| diff_id.clone()));
        if !orphans.is_empty() {
            let gone: Vec<Digest> = orphans.iter().map(|(diff_id, _)| diff_id.clone()).collect();
            self.store.write(Durability::Soon, move |writer| {
                gone.iter().for_each(|diff_id| writer.delete(LAYERS, diff_id));
                Ok(())
            })?;
        }
        let mut aside = Aside::default();
        for (diff_id, record) in &orphans {
            aside.layers.push(self.disk.remove_layer(diff_id)?);
            aside.size += record.size;
        }
        // Published before a crash, recorded never.
        for stray in self.disk.layers()?.iter().filter(|diff_id| !wanted.contains(diff_id)) {
            aside.layers.push(self.disk.remove_layer(stray)?);
        }
        Ok(aside)
    }

    /// Every image is whole, so none needs the rows that cannot be read.
    fn discard_rows(&self) -> Result<(), ImageError> {
        let rows = std::mem::take(&mut self.index_mut().damaged_rows);
        if !rows.is_empty() {
            self.store.write(Durability::Soon, move |writer| {
                rows.iter().for_each(|row| writer.discard(row));
                Ok(())
            })?;
        }
        Ok(())
    }

    fn take_orphans(&self) -> Vec<(Digest, LayerRecord)> {
        let mut index = self.index_mut();
        let used = index.used_layers();
        let is_wanted = |diff_id: &Digest| used.contains(diff_id) || self.downloads.is_pinned(diff_id);
        let orphans = index.layers.extract_if(|diff_id, _| !is_wanted(diff_id));
        orphans.map(|(diff_id, layer)| (diff_id, layer.record)).collect()
    }

    fn collect_blobs(&self) -> Result<(), ImageError> {
        let wanted: HashSet<Digest> = {
            let index = self.index();
            let configs = index.images.keys().map(|id| id.digest());
            let forms = index.layers.values().flat_map(|layer| &layer.record.blobs);
            let blobs = forms.map(|form| &form.blob.digest);
            configs.chain(index.manifests.keys()).chain(blobs).cloned().collect()
        };
        for stray in self.disk.blobs()?.iter().filter(|digest| !wanted.contains(digest)) {
            self.disk.remove_blob(stray)?;
        }
        Ok(())
    }
}
