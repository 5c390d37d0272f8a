//! Images: pulled from registries, kept whole or not at all, named, and removed.
//!
//! A name stands for what a registry gave for it, an index or a manifest; manifests lead to configurations, and an image's
//! id is the digest of its configuration. Its layers are directories shared by every image with the same diff id, ready to
//! be lower layers of an overlay. It knows nothing about containers: who uses an image
//! takes a hold on it in the store ([`ImageId::held_as`]), and no image is removed while a hold stands.
//!
//! ```text
//!   registry ──► pull ──► layers/ blobs/ ──► one sync ──► store (one transaction) ──► index ──► seen
//!                 │ cancelled, failed, power cut              │ refused
//!                 └──────► removed from tmp ◄── collect ◄─────┘
//! ```
//!
//! The order is what makes it safe: a layer or blob is durable before a record names it, and a record is gone
//! before what it names is removed. What no record names is removed at start.

mod collect;
mod config;
mod delete;
mod error;
mod image;
mod index;
mod list;
mod load;
mod login;
mod prune;
mod pull;
mod record;
mod records;
pub mod registry;
mod tag;
mod usage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use content::disk::Disk;
use runtime::ids::IdMap;

use model::events::{Events, Subject};
use model::reference::Digest;
use store::{Holder, Store};

pub use config::{Healthcheck, History, ImageConfig};
pub use content::layer::LayerError;
pub use delete::Removed;
pub use error::ImageError;
pub use image::{Image, ImageId};
pub use list::{Filter, Labels};
pub use prune::{Prune, Pruned};
pub use pull::{LayerStep, Pull, PullEvent, Pulled, Sink};
pub use records::{Descriptor, IMAGES};

use index::Index;
use load::build_image;
use pull::Downloads;
use registry::Registry;

/// Every image here; clones are the same images.
#[derive(Clone)]
pub struct Images {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    disk: Arc<Disk>,
    registry: Arc<dyn Registry>,
    events: OnceLock<Arc<Events>>,
    index: RwLock<Index>,
    /// Held by whoever changes records, files and index together.
    changes: Mutex<()>,
    downloads: Downloads,
    /// A prune is under way.
    pruning: AtomicBool,
}

impl Images {
    /// Opens the images below `data`, removes what an interrupted pull or removal left, and says in the log what
    /// is damaged. Layers are unpacked for containers with these `ids`.
    pub fn open(
        store: Store,
        data: &Path,
        ids: IdMap,
        registry: Arc<dyn Registry>,
    ) -> Result<Images, ImageError> {
        let disk = Disk::open(data, ids)?;
        let index = RwLock::new(load::index(&store, &disk)?);
        let downloads = Downloads::default();
        let events = OnceLock::new();
        let changes = Mutex::new(());
        let pruning = AtomicBool::new(false);
        let shared = Shared { store, disk, registry, events, index, changes, downloads, pruning };
        let images = Images { shared: Arc::new(shared) };
        let aside = images.shared.set_aside()?;
        // What is out of sight keeps nobody waiting, least of all the first answer of a boot.
        std::thread::spawn(move || aside.remove());
        Ok(images)
    }

    /// Tells this bus what is pulled, named and removed from now on. The first one stays.
    pub fn publish_to(&self, events: Arc<Events>) {
        let _ = self.shared.events.set(events);
    }

    /// Finds an image by name, name and tag, name and digest, by its id or the digest of a manifest or an index that leads
    /// to it, or by the beginning of one of those. It may be damaged, see [`Image::whole`].
    pub fn resolve(&self, text: &str) -> Result<Arc<Image>, ImageError> {
        self.shared.index().resolve(text).cloned()
    }

    /// Folders of the image's layers, lowest first: the lower layers of an overlay, in overlayfs form.
    pub fn rootfs(&self, id: &ImageId) -> Result<Vec<PathBuf>, ImageError> {
        let index = self.shared.index();
        let image = index.images.get(id).ok_or_else(|| ImageError::NotFound(id.to_string()))?;
        let image = image.clone().whole()?;
        let is_opaque = |diff_id: &Digest| index.layers.get(diff_id).is_some_and(|layer| layer.record.opaque);
        // A layer that hides everything below makes the rest unneeded.
        let first = image.diff_ids.iter().rposition(is_opaque).unwrap_or(0);
        let layers = &image.diff_ids[first..];
        // overlayfs refuses the same folder twice (ELOOP), and the upper one hides all of the lower.
        let hidden = |(at, diff_id): (usize, &Digest)| layers[at + 1..].contains(diff_id);
        let seen = layers.iter().enumerate().filter(|pair| !hidden(*pair));
        Ok(seen.map(|(_, diff_id)| self.shared.disk.layer(diff_id)).collect())
    }

    /// Who holds the image.
    pub fn holders(&self, id: &ImageId) -> Result<Vec<Holder>, ImageError> {
        let what = id.held_as();
        Ok(self.shared.store.read(|reader| reader.holders(&what))?)
    }
}

impl Shared {
    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Docker's image events have the id (or name) as their subject and the name as attribute.
    fn publish(&self, action: &str, id: &str, name: &str) {
        if let Some(events) = self.events.get() {
            let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
            events.publish(Subject::Image, action, id, attributes);
        }
    }
}
