//! Removing every volume that nobody has.

use std::sync::TryLockError;

use super::error::VolumeError;
use super::{Volume, Volumes};
use model::events::Subject;

impl Volumes {
    /// Removes what nobody has and `is_wanted` names. Those with options are left: what they hold is elsewhere. Returns the names and the bytes
    /// that are free now. Blocks.
    ///
    /// # Errors
    /// Another prune is at work.
    pub fn prune(&self, is_wanted: impl Fn(&Volume) -> bool) -> Result<(Vec<String>, u64), VolumeError> {
        let _alone = match self.shared.pruning.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(VolumeError::Pruning),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Ok(guard) => guard,
        };
        let (mut removed, mut space) = (Vec::new(), 0);
        for volume in self.list().into_iter().filter(|volume| volume.options.is_empty() && is_wanted(volume))
        {
            if !self.users(&volume.name)?.is_empty() {
                continue;
            }
            let size = self.size(&volume.name);
            match self.remove(&volume.name) {
                Ok(()) => {
                    space += size;
                    removed.push(volume.name.clone());
                }
                // Somebody took it, or took it away.
                Err(VolumeError::InUse { .. } | VolumeError::NotFound(_)) => {}
                Err(error) => tracing::warn!(volume = volume.name, %error, "cannot remove a volume"),
            }
        }
        let attributes = [("reclaimed".to_owned(), space.to_string())].into();
        self.shared.events.publish(Subject::Volume, "prune", "", attributes);
        Ok((removed, space))
    }
}
