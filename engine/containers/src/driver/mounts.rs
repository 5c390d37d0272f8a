//! What a container's life means for its volumes.

use super::Driver;
use crate::record::Record;
use volumes::VolumeError;

impl Driver {
    /// Told when a run begins.
    pub(super) fn mount_events(&self) {
        for point in self.container.record().volume_points() {
            let writable = point.writable.to_string();
            let more = [
                ("container", self.container.id()),
                ("destination", &point.destination),
                ("propagation", ""),
                ("read/write", &writable),
            ];
            self.shared.volumes.tell("mount", &point.name, &more);
        }
    }

    /// Told when a run is over.
    pub(super) fn unmount_events(&self) {
        for point in self.container.record().volume_points() {
            self.shared.volumes.tell("unmount", &point.name, &[("container", self.container.id())]);
        }
    }

    /// Those that nobody named, unless another container has them as well.
    pub(super) async fn remove_volumes(&self, record: &Record) {
        let points = record.volume_points().into_iter().filter(|point| point.anonymous);
        let names: Vec<String> = points.map(|point| point.name).collect();
        if names.is_empty() {
            return;
        }
        let volumes = self.shared.volumes.clone();
        let remove = move || {
            for name in names {
                match volumes.remove(&name) {
                    Ok(()) | Err(VolumeError::InUse { .. } | VolumeError::NotFound(_)) => {}
                    Err(error) => {
                        tracing::warn!(volume = name, %error, "a removed container's volume is left")
                    }
                }
            }
        };
        if tokio::task::spawn_blocking(remove).await.is_err() {
            tracing::error!(container = self.container.id(), "the removal of its volumes was lost");
        }
    }
}
