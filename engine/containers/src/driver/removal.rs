//! The end of a container: its rows, then its files.

use super::Driver;
use crate::error::ContainerError;
use crate::legality::Verb;
use crate::record::{CONTAINERS, NAMES, STATES};
use crate::state::State;
use runtime::cgroup;
use store::Durability;

impl Driver {
    pub(super) async fn remove(&mut self, volumes: bool) -> Result<(), ContainerError> {
        self.permit(Verb::Remove)?;
        let before = self.state();
        if matches!(before, State::Damaged(_)) {
            self.end_unknown().await;
        }
        if let Some(ended) = before.ended() {
            self.publish(State::Removing(ended.clone()));
        }
        let removed = self.remove_now(volumes).await;
        if removed.is_err() {
            self.publish(before);
        }
        removed
    }

    /// A damaged container may run: nobody took it back when the engine started.
    async fn end_unknown(&self) {
        let cgroup = self.shared.cgroup(&self.container.record());
        if cgroup.is_dir() {
            let id = self.container.id().to_owned();
            let ended = tokio::task::spawn_blocking(move || cgroup::kill_and_remove(&cgroup)).await;
            if let Ok(Err(error)) = ended {
                tracing::warn!(container = id, %error, "cannot end what runs in a damaged container");
            }
        }
    }

    /// Metadata first, in one durable transaction; then the files, which a later start collects where this is
    /// interrupted.
    pub(super) async fn remove_now(&mut self, volumes: bool) -> Result<(), ContainerError> {
        let record = self.container.record();
        let held = record.clone();
        self.shared
            .store
            .write_async(Durability::Synced, move |writer| {
                writer.delete(CONTAINERS, held.id.as_str());
                writer.delete(STATES, held.id.as_str());
                if matches!(writer.get(NAMES, held.name.as_str()), Ok(Some(id)) if id == held.id) {
                    writer.delete(NAMES, held.name.as_str());
                }
                writer.release_all(&held.holder())
            })
            .await
            .map_err(ContainerError::Store)?;
        {
            let mut index = self.shared.index_mut();
            index.by_id.remove(&record.id);
            if index.by_name.get(&record.name) == Some(&record.id) {
                index.by_name.remove(&record.name);
            }
        }
        self.shared
            .execs
            .lock()
            .expect("no holder of the execs panics")
            .retain(|_, e| e.container != record.id);
        // Who attached and waits for a run waits in vain.
        self.container.hub.close();
        self.container.console.stdin.end();
        let folder = self.container.folder.clone();
        tokio::task::spawn_blocking(move || crate::remove::delete_folder(&folder));
        if volumes {
            self.remove_volumes(&record).await;
        }
        let ended = self.state().ended().cloned().unwrap_or_default();
        self.publish(State::Removed(ended));
        self.event("destroy", &[]);
        Ok(())
    }
}
