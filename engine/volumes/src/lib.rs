//! Volumes: folders and file systems that outlive the containers that use them, with Docker's driver `local`.
//!
//! It deliberately knows no containers: who uses a volume is known by id only, from the holds in the store.
//!
//! ```text
//!   volumes/NAME/_data    the folder of a volume
//!   volumes/.ID           being made or removed; worthless after a crash, removed at start
//! ```
//!
//! A volume comes in this order: folder under a temporary name, synced; its name, synced; its record. It goes in the other:
//! record, name, files. So what has a record has a folder, and a folder without a record is nobody's.
//!
//! A volume whose options name a file system is mounted for its first user and gone with its last. Meanwhile PID 1 keeps it
//! by name, so that two containers share one file system, and go on sharing it when the engine dies.

mod create;
mod disk;
mod error;
mod mounted;
mod name;
mod options;
mod populate;
mod prune;
mod record;
mod remove;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use model::events::{Events, Subject};
use runtime::ids::IdMap;
use runtime::keeper::Keeper;
use store::{Held, Holder, Store};

pub use create::{Ask, Claim};
pub use error::VolumeError;
pub use record::{VOLUMES, Volume};

use disk::Disk;
use mounted::Mounted;
use record::VolumeRecord;

/// The only driver.
pub const DRIVER: &str = "local";

/// Marks a volume that nobody named.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// All volumes; clones are the same.
#[derive(Clone)]
pub struct Volumes {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    events: Arc<Events>,
    keeper: Arc<Keeper>,
    disk: Disk,
    index: RwLock<BTreeMap<String, Arc<Volume>>>,
    /// Who makes or removes a volume has this lock: it may be held while the disk is waited for.
    changing: Mutex<()>,
    /// How many are about to hold a volume in the store.
    claims: Mutex<HashMap<String, usize>>,
    mounted: Mutex<HashMap<String, Mounted>>,
    pruning: Mutex<()>,
}

impl Volumes {
    /// Reads the records, and removes what an interrupted creation or removal left in the folder `volumes` of `data`.
    ///
    /// # Errors
    /// The store or the disk failed.
    pub fn open(
        store: Store,
        data: &std::path::Path,
        ids: IdMap,
        events: Arc<Events>,
        keeper: Arc<Keeper>,
    ) -> Result<Volumes, VolumeError> {
        let disk = Disk::open(data.join("volumes"), ids)?;
        let rows = store.read(|reader| reader.rows(VOLUMES))?;
        let mut index = BTreeMap::new();
        for (name, record) in rows.readable {
            index.insert(name.clone(), Arc::new(record.volume(name, &disk)));
        }
        for row in rows.damaged {
            // Its files are there, and it can be used and removed.
            tracing::error!("labels and options of a volume are lost: {row}");
            index.insert(row.key.clone(), Arc::new(VolumeRecord::default().volume(row.key, &disk)));
        }
        disk.sweep(|name| index.contains_key(name));
        let shared = Shared {
            store,
            events,
            keeper,
            disk,
            index: RwLock::new(index),
            changing: Mutex::default(),
            claims: Mutex::default(),
            mounted: Mutex::default(),
            pruning: Mutex::default(),
        };
        Ok(Volumes { shared: Arc::new(shared) })
    }

    /// Every volume, by name.
    pub fn list(&self) -> Vec<Arc<Volume>> {
        self.shared.index.read().expect("no writer of the index panics").values().cloned().collect()
    }

    /// The volume of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: &str) -> Result<Arc<Volume>, VolumeError> {
        self.shared.find(name).ok_or_else(|| VolumeError::NotFound(name.to_owned()))
    }

    /// Ids of the containers that have the volume, whether or not they run.
    ///
    /// # Errors
    /// The store failed.
    pub fn users(&self, name: &str) -> Result<Vec<String>, VolumeError> {
        let holders = self.shared.store.read(|reader| reader.holders(&Held::Volume(name.to_owned())))?;
        Ok(ids(holders))
    }

    /// Where the folder of a volume of that name is, or would be.
    pub fn mountpoint(&self, name: &str) -> PathBuf {
        self.shared.disk.data(name)
    }

    /// Bytes of a volume's files. Blocks.
    pub fn size(&self, name: &str) -> u64 {
        self.shared.disk.size(name)
    }

    /// Tells that something happened to a volume.
    pub fn tell(&self, action: &str, name: &str, more: &[(&str, &str)]) {
        self.shared.tell(action, name, more);
    }
}

impl Shared {
    fn find(&self, name: &str) -> Option<Arc<Volume>> {
        self.index.read().expect("no writer of the index panics").get(name).cloned()
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().expect("who changes volumes does not panic")
    }

    fn tell(&self, action: &str, name: &str, more: &[(&str, &str)]) {
        let all = [("driver", DRIVER)].into_iter().chain(more.iter().copied());
        let attributes = all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        self.events.publish(Subject::Volume, action, name, attributes);
    }
}

fn ids(holders: Vec<Holder>) -> Vec<String> {
    holders.into_iter().map(|Holder::Container(id)| id).collect()
}
