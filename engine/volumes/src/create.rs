//! Making a volume, or finding the one that is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::id::new_id;
use model::timestamp::Timestamp;
use store::Durability;

use super::error::VolumeError;
use super::options::Options;
use super::record::{VOLUMES, VolumeRecord};
use super::{ANONYMOUS, DRIVER, Shared, Volume, Volumes, name};

/// What a client asks for.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Empty: one is made up.
    pub name: String,
    /// Empty is `local`.
    pub driver: String,
    /// What the driver is told.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// While it stands the volume is not removed: for who is about to hold it in the store.
pub struct Claim {
    shared: Arc<Shared>,
    name: String,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Claim").field(&self.name).finish()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = self.shared.claims.lock().expect("no holder of the claims panics");
        match claims.get_mut(&self.name) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(claims.remove(&self.name)),
        }
    }
}

impl Volumes {
    /// The volume of that name, which is made where there is none, with its labels and options; durable when this returns.
    /// Blocks.
    ///
    /// # Errors
    /// Those Docker's clients know: bad name or options, unknown driver.
    pub fn create(&self, ask: Ask) -> Result<(Arc<Volume>, Claim), VolumeError> {
        let Ask { name, driver, options, mut labels } = ask;
        let name = if name.is_empty() {
            labels.insert(ANONYMOUS.to_owned(), String::new());
            new_id()
        } else {
            name
        };
        if !matches!(driver.as_str(), "" | DRIVER) {
            return Err(VolumeError::NoDriver { name, driver });
        }
        let _changing = self.shared.change();
        let claim = self.claim(&name);
        if let Some(known) = self.shared.find(&name) {
            return Ok((known, claim));
        }
        let refused = |why: String| VolumeError::Refused { name: name.clone(), why };
        name::check(&name).map_err(refused)?;
        Options::read(&options).map_err(refused)?;
        let record = VolumeRecord { created: Timestamp::now(), labels, options };
        self.shared.disk.make(&name).map_err(VolumeError::machine(format!("create {name}")))?;
        let (row, key) = (record.clone(), name.clone());
        let stored = self
            .shared
            .store
            .write(Durability::Synced, move |writer| writer.put(VOLUMES, key.as_str(), &row));
        if let Err(error) = stored {
            if let Ok(aside) = self.shared.disk.set_aside(&name) {
                self.shared.disk.delete(&aside);
            }
            return Err(error.into());
        }
        let volume = Arc::new(record.volume(name.clone(), &self.shared.disk));
        self.shared
            .index
            .write()
            .expect("no writer of the index panics")
            .insert(name.clone(), volume.clone());
        self.shared.tell("create", &name, &[]);
        Ok((volume, claim))
    }

    fn claim(&self, name: &str) -> Claim {
        *self
            .shared
            .claims
            .lock()
            .expect("no holder of the claims panics")
            .entry(name.to_owned())
            .or_default() += 1;
        Claim { shared: self.shared.clone(), name: name.to_owned() }
    }
}

impl Shared {
    pub(super) fn claimed(&self, name: &str) -> usize {
        self.claims.lock().expect("no holder of the claims panics").get(name).copied().unwrap_or(0)
    }
}
