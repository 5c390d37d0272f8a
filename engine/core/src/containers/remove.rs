//! Taking a container away.

use std::path::Path;
use std::time::Duration;

use super::driver::Order;
use super::error::ContainerError;
use super::legality::{Verb, permit};
use super::registry::Containers;
use super::state::State;

impl Containers {
    /// Removes the container; with `force` it is killed first where it runs.
    ///
    /// # Errors
    /// It runs and `force` is not given, or its removal is under way.
    pub async fn remove(&self, reference: &str, force: bool) -> Result<(), ContainerError> {
        let container = self.find(reference)?;
        if force && container.snapshot().state.is_active() {
            match container.order(|answer| Order::Signal(9, answer)).await {
                // It ended by itself in between.
                Ok(()) | Err(ContainerError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
            let mut states = container.watch();
            let _ = states.wait_for(|snapshot| !snapshot.state.is_active()).await;
        }
        // Judged here too, for the words: a client reads the name it gave.
        let removed = match permit(&container.snapshot().state, Verb::Remove, reference) {
            Ok(()) => container.order(Order::Remove).await,
            Err(error) => Err(error),
        };
        match removed {
            // A container that removes itself is on its way; force waits for that.
            Err(ContainerError::Conflict(_)) if force && is_going(&container.snapshot().state) => {
                let mut states = container.watch();
                let gone = states.wait_for(|snapshot| matches!(snapshot.state, State::Removed(_)));
                let _ = tokio::time::timeout(Duration::from_secs(10), gone).await;
                Ok(())
            }
            other => other,
        }
    }
}

fn is_going(state: &State) -> bool {
    matches!(state, State::Removing(_) | State::Removed(_))
}

/// Deletes a removed container's folder; what cannot be deleted is tried again at the next start.
pub(super) fn delete_folder(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot delete a removed container's files");
    }
}
