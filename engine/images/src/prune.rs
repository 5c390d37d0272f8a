//! Removes images that nobody uses.

use std::sync::atomic::Ordering;

use super::{Image, ImageError, Images, Labels, Removed};
use model::timestamp::Timestamp;

/// Which images may go.
#[derive(Debug, Clone, Default)]
pub struct Prune {
    /// Those with a tag as well.
    pub all: bool,
    /// Only those created before.
    pub until: Option<Timestamp>,
    /// See [`Labels`].
    pub labels: Labels,
}

/// What a prune did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// What is gone.
    pub removed: Vec<Removed>,
    /// Bytes of the files that are gone.
    pub space: u64,
}

impl Images {
    /// Removes every image that nobody holds and the conditions name. Blocks on the disk.
    pub fn prune(&self, prune: &Prune) -> Result<Pruned, ImageError> {
        if self.shared.pruning.swap(true, Ordering::AcqRel) {
            return Err(ImageError::Conflict("a prune operation is already running".to_owned()));
        }
        let result = self.prune_alone(prune);
        self.shared.pruning.store(false, Ordering::Release);
        result
    }

    fn prune_alone(&self, prune: &Prune) -> Result<Pruned, ImageError> {
        let shared = &self.shared;
        let mut removed = Vec::new();
        for image in self.list().iter().filter(|image| prune.covers(image)) {
            let changing = shared.change();
            // A name that cannot be read may have been its own.
            if !shared.index().damaged_names.is_empty() {
                continue;
            }
            if !self.holders(&image.id)?.is_empty() {
                continue;
            }
            let names = shared.index().references_of(&image.id);
            // Nobody held it a moment ago; whoever does now is not disturbed.
            let gone = shared.remove(&image.id, names, true, Vec::new())?.unwrap_or_default();
            drop(changing);
            shared.publish_removed(&image.id, &gone);
            removed.extend(gone);
        }
        Ok(Pruned { removed, space: shared.collect()? })
    }
}

impl Prune {
    fn covers(&self, image: &Image) -> bool {
        (self.all || image.is_dangling())
            && self.until.is_none_or(|until| image.created.is_some_and(|created| created < until))
            && self.labels.allow(image)
    }
}
