//! Who listens to a container's output right now: every attached client gets all of it.

use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::mpsc;

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

    /// Hands a chunk to everybody; waits for the slowest.
    pub async fn publish(&self, chunk: &Chunk) {
        let listeners = self.lock().clone();
        let mut gone = false;
        for listener in &listeners {
            gone |= listener.send(chunk.clone()).await.is_err();
        }
        if gone {
            self.lock().retain(|listener| !listener.is_closed());
        }
    }

    /// The run is over: every listener comes to the end of its queue.
    pub fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::Sender<Chunk>>> {
        self.listeners.lock().expect("no holder of the listeners panics")
    }
}
