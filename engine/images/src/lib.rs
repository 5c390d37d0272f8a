//! Images: pulled from registries, kept whole or not at all, named, and removed.
//!
//! An image's id is the digest of its configuration. Its layers are directories shared by every image with the
//! same diff id, ready to be lower layers of an overlay. It knows nothing about containers: who uses an image
//! takes a hold on it in the store ([`ImageId::held_as`]), and no image is removed while a hold stands.
//!
//! ```text
//!   registry ──► pull ──► layers/ blobs/ (synced, renamed) ──► store (one transaction) ──► index ──► seen
//!                 │ cancelled, failed, power cut                  │ refused
//!                 └────────► removed from tmp ◄── collect ◄───────┘
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
mod login;
mod prune;
mod pull;
mod record;
mod records;
pub mod registry;
mod tag;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use content::disk::Disk;
use runtime::ids::IdMap;

use model::events::{Events, Subject};
use model::reference::{Digest, Reference};
use store::{Store, Table};

pub use config::{Healthcheck, History, ImageConfig};
pub use content::layer::LayerError;
pub use delete::Removed;
pub use error::ImageError;
pub use image::{Image, ImageId};
pub use list::{Filter, Labels};
pub use prune::{Prune, Pruned};
pub use pull::{LayerStep, Pull, PullEvent, Pulled, Sink};

use config::Document;
use index::Index;
use pull::Downloads;
use records::{ImageRecord, LayerRecord};
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
        let index = RwLock::new(read_index(&store, &disk)?);
        let downloads = Downloads::default();
        let events = OnceLock::new();
        let changes = Mutex::new(());
        let pruning = AtomicBool::new(false);
        let shared = Shared { store, disk, registry, events, index, changes, downloads, pruning };
        let images = Images { shared: Arc::new(shared) };
        images.shared.collect()?;
        Ok(images)
    }

    /// Tells this bus what is pulled, named and removed from now on. The first one stays.
    pub fn publish_to(&self, events: Arc<Events>) {
        let _ = self.shared.events.set(events);
    }

    /// Finds an image by name, name and tag, name and digest, id, or the beginning of its id.
    pub fn resolve(&self, text: &str) -> Result<Arc<Image>, ImageError> {
        self.shared.index().resolve(text).cloned()
    }

    /// Folders of the image's layers, lowest first: the lower layers of an overlay, in overlayfs form.
    pub fn rootfs(&self, id: &ImageId) -> Result<Vec<PathBuf>, ImageError> {
        let index = self.shared.index();
        let image = index.images.get(id).ok_or_else(|| ImageError::NotFound(id.to_string()))?;
        let is_opaque = |diff_id: &Digest| index.layers.get(diff_id).is_some_and(|layer| layer.opaque);
        // A layer that hides everything below makes the rest unneeded.
        let first = image.diff_ids.iter().rposition(is_opaque).unwrap_or(0);
        let layers = &image.diff_ids[first..];
        // overlayfs refuses the same folder twice (ELOOP), and the upper one hides all of the lower.
        let hidden = |(at, diff_id): (usize, &Digest)| layers[at + 1..].contains(diff_id);
        let seen = layers.iter().enumerate().filter(|pair| !hidden(*pair));
        Ok(seen.map(|(_, diff_id)| self.shared.disk.layer(diff_id)).collect())
    }

    /// Who holds the image: `container:<id>` and the like.
    pub fn holders(&self, id: &ImageId) -> Result<Vec<String>, ImageError> {
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

/// What the store says, as far as the disk agrees. What is damaged is left as it is, so that pulling the image
/// again mends it.
fn read_index(store: &Store, disk: &Disk) -> Result<Index, ImageError> {
    let (images, references, layers) = store.read(|reader| {
        Ok((
            reader.list::<ImageRecord>(Table::Images)?,
            reader.list::<Digest>(Table::References)?,
            reader.list::<LayerRecord>(Table::Layers)?,
        ))
    })?;
    let on_disk: std::collections::HashSet<Digest> = disk.layers()?.into_iter().collect();
    let known = layers.into_iter().filter_map(|(diff_id, record)| Some((diff_id.parse().ok()?, record)));
    let layers: HashMap<Digest, LayerRecord> = known.filter(|(id, _)| on_disk.contains(id)).collect();
    let mut index = Index { layers, ..Index::default() };
    for (id, record) in images {
        match read_image(&id, &record, disk, &index) {
            Ok(image) => index.put(image),
            Err(error) => {
                tracing::error!("image {id} is damaged, pull it again: {error}");
                index.damaged.extend(id.parse::<ImageId>());
            }
        }
    }
    for (text, id) in references {
        if let Ok(reference) = Reference::parse(&text) {
            index.name(reference, &ImageId::new(id));
        }
    }
    Ok(index)
}

fn read_image(id: &str, record: &ImageRecord, disk: &Disk, index: &Index) -> Result<Image, ImageError> {
    let digest: Digest = id.parse()?;
    let bytes = disk.read_blob(&digest)?;
    if Digest::of(&bytes) != digest {
        return Err(ImageError::Verification(digest));
    }
    build_image(ImageId::new(digest), Document::parse(&bytes)?, record, index)
}

/// An image whose layers are all here.
fn build_image(
    id: ImageId,
    document: Document,
    record: &ImageRecord,
    index: &Index,
) -> Result<Image, ImageError> {
    let size = |diff_id: &Digest| match index.layers.get(diff_id) {
        Some(layer) => Ok(layer.size),
        None => Err(ImageError::Malformed(format!("layer {diff_id} is missing"))),
    };
    let sizes = document.diff_ids.iter().map(size).collect::<Result<Vec<_>, _>>()?;
    Ok(Image::new(id, document, &sizes, record.last_tagged))
}
