//! Removing every container that stands still.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::container::Container;
use super::driver::Order;
use super::error::ContainerError;
use super::record::Record;
use super::registry::Containers;
use images::Labels;
use model::events::Subject;
use model::timestamp::Timestamp;

/// Which of them.
#[derive(Debug, Clone, Default)]
pub struct PruneContainers {
    /// Created before.
    pub until: Option<Timestamp>,
    /// With or without these.
    pub labels: Labels,
}

impl Containers {
    /// Removes what stands still and fits. Returns the ids and the bytes that are free now.
    ///
    /// # Errors
    /// Another prune is at work.
    pub async fn prune(&self, which: &PruneContainers) -> Result<(Vec<String>, u64), ContainerError> {
        if self.shared.pruning.swap(true, Ordering::AcqRel) {
            return Err(ContainerError::Conflict("a prune operation is already running".to_owned()));
        }
        let pruned = self.prune_alone(which).await;
        self.shared.pruning.store(false, Ordering::Release);
        let attributes = BTreeMap::from([("reclaimed".to_owned(), pruned.1.to_string())]);
        self.shared.events.publish(Subject::Container, "prune", "", attributes);
        Ok(pruned)
    }

    async fn prune_alone(&self, which: &PruneContainers) -> (Vec<String>, u64) {
        let (mut removed, mut space) = (Vec::new(), 0);
        for container in self.list() {
            if container.snapshot().state.is_active() || !which.covers(&container.record()) {
                continue;
            }
            let size = self.written(container.clone()).await;
            // One that was started or removed in between is not ours to take.
            if container.order(|answer| Order::Remove(false, answer)).await.is_ok() {
                removed.push(container.id().to_owned());
                space += size;
            }
        }
        (removed, space)
    }

    async fn written(&self, container: Arc<Container>) -> u64 {
        let containers = self.clone();
        let measuring = tokio::task::spawn_blocking(move || containers.size(&container).writable);
        measuring.await.unwrap_or(0)
    }
}

impl PruneContainers {
    fn covers(&self, record: &Record) -> bool {
        self.until.is_none_or(|until| record.created < until) && self.labels.match_map(&record.config.labels)
    }
}
