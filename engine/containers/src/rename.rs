//! Giving a container another name.

use super::driver::{Driver, Order};
use super::error::ContainerError;
use super::names;
use super::registry::Containers;
use store::Durability;

impl Containers {
    /// Renames the container; durable when this returns.
    ///
    /// # Errors
    /// The name is empty, not one, its own, or another's.
    pub async fn rename(&self, reference: &str, wanted: &str) -> Result<(), ContainerError> {
        if wanted.is_empty() {
            return Err(ContainerError::Invalid("Neither old nor new names may be empty".to_owned()));
        }
        let container = self.find(reference)?;
        let old = container.record().name.clone();
        if wanted.strip_prefix('/').unwrap_or(wanted) == old {
            let text = "Renaming a container with the same name as its current name";
            return Err(ContainerError::Invalid(text.to_owned()));
        }
        let reserved = self.reserve_name(wanted, container.id());
        let name = reserved.map_err(|error| ContainerError::NewName(Box::new(error)))?;
        let renamed = container.order(|answer| Order::Rename(name.clone(), answer)).await;
        // Of the two names one is free now.
        let free = if renamed.is_ok() { &old } else { &name };
        self.shared.index_mut().by_name.remove(free);
        renamed?;
        self.publish(&container, "rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    fn reserve_name(&self, wanted: &str, id: &str) -> Result<String, ContainerError> {
        let name = names::validate(wanted)?.to_owned();
        let mut index = self.shared.index_mut();
        if let Some(holder) = index.by_name.get(&name) {
            return Err(ContainerError::NameTaken { name, holder: holder.clone() });
        }
        index.by_name.insert(name.clone(), id.to_owned());
        Ok(name)
    }
}

impl Driver {
    pub(super) async fn rename(&mut self, name: String) -> Result<(), ContainerError> {
        let before = self.container.record().name.clone();
        self.amend(|record| record.name = name);
        let saved = self.save(Durability::Synced).await;
        if saved.is_err() {
            self.amend(|record| record.name = before);
        }
        saved
    }
}
