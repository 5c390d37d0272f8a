//! Giving a container another name.

use super::driver::{Driver, Order};
use super::error::ContainerError;
use super::names;
use super::record::{CONTAINERS, NAMES};
use super::registry::Containers;
use super::state::State;
use store::{Durability, StoreError, Writer};

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
        if wanted.strip_prefix('/').unwrap_or(wanted) == container.record().name {
            let text = "Renaming a container with the same name as its current name";
            return Err(ContainerError::Invalid(text.to_owned()));
        }
        let reserved = self.reserve_name(wanted, container.id());
        let name = reserved.map_err(|error| ContainerError::NewName(Box::new(error)))?;
        let renamed = container.order(|answer| Order::Rename(name.clone(), answer)).await;
        // Of two renames at the same time only the driver knows which name came before which.
        let free = renamed.as_ref().unwrap_or(&name);
        self.free_name(free, container.id());
        let old = renamed?;
        self.publish(&container, "rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    fn free_name(&self, name: &str, id: &str) {
        let mut index = self.shared.index_mut();
        if index.by_name.get(name).is_some_and(|holder| holder == id) {
            index.by_name.remove(name);
        }
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
    /// Takes the name; the one before is the answer.
    pub(super) async fn rename(&mut self, name: String) -> Result<String, ContainerError> {
        let before = self.container.record();
        if matches!(self.state(), State::Damaged(_) | State::Removing(_) | State::Removed(_)) {
            return Err(ContainerError::NotFound(before.id.clone()));
        }
        let record = self.amend(|record| record.spec_mut().name = name);
        let (old, new) = (before.clone(), record);
        let write = move |writer: &mut Writer<'_>| {
            take_name(writer, &new.name, &new.id)?;
            if matches!(writer.get(NAMES, old.name.as_str()), Ok(Some(id)) if id == old.id) {
                writer.delete(NAMES, old.name.as_str());
            }
            Ok(writer.put(CONTAINERS, new.id.as_str(), &new.spec)?)
        };
        let saved: Result<(), ContainerError> =
            self.shared.store.write_async(Durability::Synced, write).await;
        match saved {
            Ok(()) => {
                self.renamed(&self.container.record().name);
                Ok(before.name.clone())
            }
            Err(error) => {
                self.amend(|record| record.spec = before.spec.clone());
                Err(error)
            }
        }
    }
}

/// Gives a name to the container of that id. A name of a container that is gone is free, and so is one of which nobody
/// can read whose it is.
pub(super) fn take_name(writer: &mut Writer<'_>, name: &str, id: &str) -> Result<(), ContainerError> {
    let holder = match writer.get(NAMES, name) {
        Ok(holder) => holder,
        Err(StoreError::Damaged(_)) => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(holder) = holder.filter(|holder| holder != id)
        && writer.contains(CONTAINERS, holder.as_str())?
    {
        return Err(ContainerError::NameTaken { name: name.to_owned(), holder });
    }
    Ok(writer.put(NAMES, name, &id.to_owned())?)
}
