//! Changing limits and the restart policy of a container that exists.

use super::config::HostConfig;
use super::driver::{Driver, Order};
use super::error::ContainerError;
use super::files::on_files;
use super::launch;
use super::registry::Containers;
use super::resources::{DeviceList, Resources, Support};
use super::restart::RestartPolicy;
use super::state::State;
use runtime::cgroup::Cgroup;

/// What shall change; zero and empty fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// New limits.
    pub resources: Resources,
    /// Lists among them that replace those there are, as a whole.
    pub lists: Vec<DeviceList>,
    /// New restart policy.
    pub restart: Option<RestartPolicy>,
}

impl Containers {
    /// Changes limits, at once where it runs, and the restart policy. Returns warnings; durable when it returns.
    ///
    /// # Errors
    /// Docker's words about what contradicts what the container has, or about what the kernel refuses.
    pub async fn update(&self, reference: &str, mut update: Update) -> Result<Vec<String>, ContainerError> {
        let support = Support::of(&self.shared.cgroups());
        let warnings = update.resources.verify(&support, true).map_err(ContainerError::Invalid)?;
        let container = self.find(reference)?;
        container.order(|answer| Order::Update(Box::new(update), answer)).await?;
        self.publish(&container, "update", &[]);
        Ok(warnings)
    }
}

impl Driver {
    pub(super) async fn update(&mut self, update: &Update) -> Result<(), ContainerError> {
        let id = self.container.id().to_owned();
        let refused = |text: &str| ContainerError::Conflict(format!("Cannot update container {id}: {text}"));
        if matches!(self.state(), State::Removing(_) | State::Removed(_)) {
            return Err(refused("container is marked for removal and cannot be \"update\""));
        }
        if let State::Damaged(ended) = self.state() {
            return Err(refused(&format!("it is damaged: {}", ended.error)));
        }
        let before = self.container.record();
        let host = updated(&before.host, update).map_err(refused)?;
        if self.state().running().is_some() {
            self.apply(&before.host.resources, &host.resources).await?;
        }
        self.amend(|record| record.spec_mut().host = host);
        let saved = self.save_spec().await;
        if saved.is_err() {
            self.amend(|record| record.spec = before.spec.clone());
        }
        saved
    }

    /// Writes what differs; what is limited no more goes back to its default.
    async fn apply(&self, old: &Resources, new: &Resources) -> Result<(), ContainerError> {
        let failed = |error: std::io::Error| {
            let what = format!("Cannot update container {}", self.container.id());
            ContainerError::machine(what)(error)
        };
        let shared = &self.shared;
        let path = shared.cgroup(&self.container.record());
        let (old, new) =
            (launch::limits(shared, old).map_err(failed)?, launch::limits(shared, new).map_err(failed)?);
        // The kernel reclaims what is above a new limit of memory before it answers.
        let written = on_files(move || {
            let cgroup = Cgroup::open(&path)?;
            // What is limited no more, before what is limited otherwise.
            let gone = old.iter().filter(|limit| !new.contains(limit));
            let taken_back = gone.filter_map(|(file, line)| Some((file, Resources::takes_back(file, line)?)));
            // More swap before more memory or less: the kernel takes each value by itself.
            let changed = new.iter().filter(|limit| !old.contains(limit));
            let changed = changed.map(|(file, value)| (file, value.clone()));
            taken_back.chain(changed).try_for_each(|(file, value)| cgroup.write(file, &value))
        });
        written.await?.map_err(|error| failed(std::io::Error::other(error)))
    }
}

fn updated(host: &HostConfig, update: &Update) -> Result<HostConfig, &'static str> {
    let mut host = host.clone();
    host.resources.update(&update.resources, &update.lists)?;
    if let Some(restart) = update.restart {
        if host.auto_remove && restart != RestartPolicy::No {
            return Err("Restart policy cannot be updated because AutoRemove is enabled for the container");
        }
        host.restart = restart;
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_removes_itself_gets_no_policy() {
        let host = HostConfig { auto_remove: true, ..HostConfig::default() };
        let update = |restart| Update { restart, ..Update::default() };
        assert!(updated(&host, &update(Some(RestartPolicy::Always))).is_err());
        assert!(updated(&host, &update(Some(RestartPolicy::No))).is_ok());
        assert_eq!(updated(&host, &update(None)), Ok(host.clone()));
    }
}
