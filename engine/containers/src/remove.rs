//! Taking a container away.

// What deletes runs on a file worker.
#![allow(clippy::disallowed_methods)]

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::driver::Order;
use super::error::ContainerError;
use super::legality::{Verb, permit};
use super::registry::Containers;
use super::state::State;

impl Containers {
    /// Removes the container, with `volumes` those that nobody named and nobody else has, too; with `force` it is killed first
    /// where it runs.
    ///
    /// # Errors
    /// It runs and `force` is not given, or its removal is under way.
    pub async fn remove(&self, reference: &str, force: bool, volumes: bool) -> Result<(), ContainerError> {
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
            Ok(()) => container.order(|answer| Order::Remove(volumes, answer)).await,
            Err(error) => Err(error),
        };
        match removed {
            // A container that removes itself is on its way; force waits for that.
            Err(ContainerError::Conflict(_)) if force && is_going(&container.snapshot().state) => {
                let mut states = container.watch();
                let settled = states.wait_for(|snapshot| !matches!(snapshot.state, State::Removing(_)));
                let _ = tokio::time::timeout(Duration::from_secs(10), settled).await;
                match container.snapshot().state {
                    State::Removed(_) => Ok(()),
                    State::Removing(_) => permit(&container.snapshot().state, Verb::Remove, reference),
                    // Its own removal failed; this one tells why, or does better.
                    _ => container.order(|answer| Order::Remove(volumes, answer)).await,
                }
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
    if let Err(error) = delete(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot delete a removed container's files");
    }
}

/// However deep it is: what a container made, its removal must not end the engine. What is very deep is moved beside it, where
/// the next start finds it if this is interrupted.
fn delete(folder: &Path) -> std::io::Result<()> {
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else { return Ok(()) };
    let parent = std::fs::File::open(parent)?;
    content::layer::remove_tree(parent.as_fd(), name.as_bytes(), parent.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_as_deep_as_can_be_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("container");
        std::fs::create_dir(&folder).unwrap();
        // Deeper than any path leads, and than a thread of the engine could follow by recursion.
        let mut inner: std::os::fd::OwnedFd = std::fs::File::open(&folder).unwrap().into();
        for _ in 0..6000 {
            rustix::fs::mkdirat(&inner, "d", rustix::fs::Mode::RWXU).unwrap();
            let flags = rustix::fs::OFlags::DIRECTORY;
            inner = rustix::fs::openat(&inner, "d", flags, rustix::fs::Mode::empty()).unwrap();
        }
        drop(inner);
        let measured = std::thread::Builder::new().stack_size(128 << 10);
        let measure = || {
            assert_eq!(crate::size::of_folder(&folder), 0);
            delete(&folder).unwrap();
        };
        std::thread::scope(|scope| measured.spawn_scoped(scope, measure).unwrap().join().unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
