//! Downloads under way: one for each layer, however many pulls want it, and what must not be collected.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

use super::download;
use super::progress::{LayerStep, Reporter};
use crate::records::Descriptor;
use crate::registry::Repository;
use crate::{ImageError, Shared};
use model::reference::Digest;

/// Layers that are downloaded at the same time, by all pulls; Docker's default.
const AT_ONCE: usize = 3;

/// All of them.
pub(crate) struct Downloads {
    running: Mutex<HashMap<Digest, Weak<Download>>>,
    /// Diff id → pulls that need the layer to stay.
    pins: Mutex<HashMap<Digest, usize>>,
    slots: Arc<Semaphore>,
}

impl Default for Downloads {
    fn default() -> Downloads {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        Downloads { running: Mutex::default(), pins: Mutex::default(), slots }
    }
}

/// Where a layer comes from and what it must be.
pub(super) struct Source {
    pub(super) repository: Arc<dyn Repository>,
    /// The compressed layer.
    pub(super) blob: Descriptor,
    /// Its registry and repository.
    pub(super) origin: String,
    /// Digest of the uncompressed layer.
    pub(super) diff_id: Digest,
}

/// How far a download is.
#[derive(Debug, Clone)]
pub(super) enum Progress {
    Going(LayerStep),
    Done,
    Failed(ImageError),
}

/// One download. The last pull that lets go of it cancels it.
pub(super) struct Download {
    progress: watch::Receiver<Progress>,
    task: AbortHandle,
}

impl Drop for Download {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Download {
    /// Tells the steps until the layer is here.
    pub(super) async fn follow(self: Arc<Download>, mut reporter: Reporter<'_>) -> Result<(), ImageError> {
        reporter.wanted();
        let mut progress = self.progress.clone();
        loop {
            let now = progress.borrow_and_update().clone();
            match now {
                Progress::Going(step) => reporter.report(step),
                Progress::Done => {
                    reporter.report(LayerStep::PullComplete);
                    return Ok(());
                }
                Progress::Failed(error) => return Err(error),
            }
            progress.changed().await.map_err(|_| ImageError::Cancelled)?;
        }
    }
}

impl Shared {
    /// The download of a layer, begun when nobody else has; `None` when the layer is here. The caller has
    /// pinned it.
    pub(super) fn join_download(self: &Arc<Shared>, source: Source) -> Option<Arc<Download>> {
        let mut running = lock(&self.downloads.running);
        running.retain(|_, download| download.strong_count() > 0);
        if self.index().layers.contains_key(&source.diff_id) {
            return None;
        }
        let joined = running.get(&source.diff_id).and_then(Weak::upgrade);
        // A failed one is only still held by a pull that has not noticed.
        if let Some(download) = joined.filter(|d| !matches!(*d.progress.borrow(), Progress::Failed(_))) {
            return Some(download);
        }
        let diff_id = source.diff_id.clone();
        let download = Arc::new(self.start_download(source));
        running.insert(diff_id, Arc::downgrade(&download));
        Some(download)
    }

    fn start_download(self: &Arc<Shared>, source: Source) -> Download {
        let (sender, progress) = watch::channel(Progress::Going(LayerStep::Waiting));
        let (shared, slots) = (self.clone(), self.downloads.slots.clone());
        let task = tokio::spawn(async move {
            let result = match slots.acquire().await {
                Ok(_slot) => download::run(&shared, source, &sender).await,
                Err(_) => Err(ImageError::Cancelled),
            };
            sender.send_replace(match result {
                Ok(()) => Progress::Done,
                Err(error) => Progress::Failed(error),
            });
        });
        Download { progress, task: task.abort_handle() }
    }
}

impl Downloads {
    pub(crate) fn is_pinned(&self, diff_id: &Digest) -> bool {
        lock(&self.pins).contains_key(diff_id)
    }
}

/// Keeps the layers of one pull from being collected. Let go without [`Pins::keep`], it collects what the pull
/// leaves.
pub(super) struct Pins {
    shared: Arc<Shared>,
    diff_ids: Vec<Digest>,
    kept: bool,
}

impl Pins {
    pub(super) fn new(shared: &Arc<Shared>, diff_ids: &[Digest]) -> Pins {
        let mut pins = lock(&shared.downloads.pins);
        for diff_id in diff_ids {
            *pins.entry(diff_id.clone()).or_default() += 1;
        }
        drop(pins);
        Pins { shared: shared.clone(), diff_ids: diff_ids.to_vec(), kept: false }
    }

    /// The layers are recorded: nothing is left to collect.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut pins = lock(&self.shared.downloads.pins);
        for diff_id in &self.diff_ids {
            let count = pins.get_mut(diff_id).map(|count| {
                *count -= 1;
                *count
            });
            if count == Some(0) {
                pins.remove(diff_id);
            }
        }
        drop(pins);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.kept {
            let shared = self.shared.clone();
            runtime.spawn_blocking(move || shared.collect_or_log());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
