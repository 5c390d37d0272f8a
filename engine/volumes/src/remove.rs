//! Taking a volume away.

use store::{Durability, Held};

use super::error::VolumeError;
use super::record::VOLUMES;
use super::{Volumes, ids};

impl Volumes {
    /// Removes a volume that nobody has. Blocks.
    ///
    /// # Errors
    /// There is none of that name, or somebody has it.
    pub fn remove(&self, name: &str) -> Result<(), VolumeError> {
        let changing = self.shared.change();
        self.get(name)?;
        let in_use = |users| VolumeError::InUse { name: name.to_owned(), users };
        if self.shared.claimed(name) > 0 {
            return Err(in_use(self.users(name)?));
        }
        let key = name.to_owned();
        self.shared.store.try_write(Durability::Synced, move |writer| {
            let users = ids(writer.holders(&Held::Volume(key.clone()))?);
            if !users.is_empty() {
                return Err(VolumeError::InUse { name: key, users });
            }
            writer.delete(VOLUMES, key.as_str());
            Ok(())
        })?;
        self.shared.index.write().expect("no writer of the index panics").remove(name);
        let aside = self.shared.disk.set_aside(name);
        drop(changing);
        self.shared.tell("destroy", name, &[]);
        match aside {
            Ok(aside) => self.shared.disk.delete(&aside),
            Err(error) => {
                tracing::warn!(volume = name, %error, "the files of a removed volume are not there")
            }
        }
        Ok(())
    }
}
