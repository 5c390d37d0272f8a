//! Who listens to a container's output right now: every attached client gets all of it.

use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::spool::Stream;

/// Chunks a client may lag behind before the container's pipe fills: memory stays bounded, and no client loses
/// output.
const LAG: usize = 16;

/// One piece of output.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Which stream.
    pub stream: Stream,
    /// Raw bytes, not cut into lines.
    pub bytes: Bytes,
}

/// The listeners of one container.
#[derive(Debug, Default)]
pub struct Hub {
    listeners: Mutex<Vec<mpsc::Sender<Chunk>>>,
}

/// Listeners that lag behind by as much as they may.
#[derive(Debug)]
pub struct Lagging(Vec<mpsc::Sender<Chunk>>);

impl Lagging {
    /// Hands them what they could not take; waits for the slowest.
    pub async fn wait(self, chunk: &Chunk) {
        for listener in self.0 {
            // One that went away is noticed at the next chunk.
            let _ = listener.send(chunk.clone()).await;
        }
    }
}

impl Hub {
    /// All output from now on; ends when the container's run ends.
    pub fn subscribe(&self) -> mpsc::Receiver<Chunk> {
        let (sender, receiver) = mpsc::channel(LAG);
        self.lock().push(sender);
        receiver
    }

    /// Whether anybody listens.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Hands a chunk to everybody who can take it now; returns those who cannot.
    pub fn offer(&self, chunk: &Chunk) -> Lagging {
        let mut lagging = Vec::new();
        self.lock().retain(|listener| match listener.try_send(chunk.clone()) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                lagging.push(listener.clone());
                true
            }
        });
        Lagging(lagging)
    }

    /// The run is over: every listener comes to the end of its queue.
    pub fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::Sender<Chunk>>> {
        self.listeners.lock().expect("no holder of the listeners panics")
    }
}
