//! The machine goes down: every container is stopped within its own time, as dockerd does when it ends, and all within the
//! machine's. What does not stop by then is killed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contract::keeper::ToKeeper;
use tokio::sync::watch;
use tokio::time::Instant;

use super::container::Container;
use super::registry::Containers;

/// Until when containers may take to stop; nothing while the machine stays up.
pub(super) type StopBy = watch::Sender<Option<Instant>>;

impl Containers {
    /// Stops every container, all at once, then tells PID 1. Where that goes on already, it only has less time from now on.
    pub(super) async fn power_off(&self, within: Duration) {
        if !bring_nearer(&self.shared.stop_by, Instant::now() + within) {
            return;
        }
        self.shared.going_down.store(true, Ordering::Relaxed);
        let mut stopping = tokio::task::JoinSet::new();
        for container in self.list() {
            stopping.spawn(stop_in_time(self.clone(), container, self.shared.stop_by.subscribe()));
        }
        stopping.join_all().await;
        let store = self.shared.store.clone();
        // It makes all that waits durable. A database that was closed well is opened by the next boot without being gone
        // through.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || store.close()).await {
            tracing::error!(%error, "cannot close the store");
        }
        if let Err(error) = self.shared.keeper.send(&ToKeeper::Stopped) {
            tracing::error!(%error, "cannot tell PID 1 that all is stopped");
        }
    }
}

/// Whether it is the first.
fn bring_nearer(stop_by: &StopBy, wanted: Instant) -> bool {
    let mut first = false;
    stop_by.send_modify(|by| {
        first = by.is_none();
        *by = Some(by.map_or(wanted, |by| by.min(wanted)));
    });
    first
}

async fn stop_in_time(
    containers: Containers,
    container: Arc<Container>,
    stop_by: watch::Receiver<Option<Instant>>,
) {
    if container.snapshot().state.running().is_none() {
        return;
    }
    tokio::select! {
        // With its own signal and its own time, which may be for ever.
        _ = containers.stop_container(&container, None, None) => {}
        () = passed(stop_by) => {
            let _ = containers.stop_container(&container, None, Some(0)).await;
        }
    }
}

/// Returns when the time is over, however often it is brought nearer meanwhile.
async fn passed(mut stop_by: watch::Receiver<Option<Instant>>) {
    loop {
        let by = *stop_by.borrow_and_update();
        let over = async {
            match by {
                Some(by) => tokio::time::sleep_until(by).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => return,
            changed = stop_by.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_time_is_brought_nearer_and_never_put_off() {
        let stop_by = StopBy::new(None);
        let begun = Instant::now();
        let hour = Duration::from_secs(3600);
        assert!(bring_nearer(&stop_by, begun + hour));
        let over = tokio::spawn(passed(stop_by.subscribe()));
        tokio::task::yield_now().await;
        assert!(!bring_nearer(&stop_by, begun + 2 * hour));
        assert_eq!(*stop_by.borrow(), Some(begun + hour));
        assert!(!bring_nearer(&stop_by, begun));
        over.await.unwrap();
    }
}
