//! The one database: everything about Docker's nouns that must survive a power cut and is not a blob or a layer.
//!
//! It is a [`redb`] file written by one committer thread; readers see the last committed state and never wait.
//! It knows typed tables whose rows are JSON, and *holds* (who uses what), and deliberately nothing about what the rows
//! mean. The rows have a [schema](VERSION): an older one is brought up to date before the first read, a newer one is refused
//! and left as it is. A row that cannot be read is one [`Damaged`] object, never a store that does not open.
//!
//! ```text
//!   write(Synced, f) ─┐                  one transaction        one fdatasync
//!   write(Synced, g) ─┼─► queue ──► f, g, h in turn, each on ──► commit ──► every answer
//!   write(Soon, h)  ──┘             its own overlay
//!   write(Within(5 ms), i) ─► waits for one of those, or for its time
//! ```
//!
//! A write that fails leaves no trace of its own. Cost: a group of writes is one transaction and exactly one
//! fdatasync(2), a group of nothing but [`Durability::Soon`] costs none. The file's blocks are taken beforehand, so that
//! a full disk can still be emptied. What waits for durability is made durable with the next synced write, and by the
//! committer itself after [`commit::SOON`] at the latest.

mod commit;
mod error;
mod held_back;
mod holds;
mod migrations;
mod rows;
mod schema;
mod table;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use error::StoreError;
pub use holds::{Held, Holder, Lifetime};
pub use rows::{Damaged, Reader, Rows, Writer};
pub use schema::VERSION;
pub use table::{Key, Table};

use commit::Committer;

/// When a write must have reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before the call returns: one fdatasync(2), shared by all writes that wait at the same time.
    Synced,
    /// With the next synced write, or about a second later; lost when power or the engine dies before.
    Soon,
    /// With whatever is written next, at the latest after this time, and durable when the call returns: for what
    /// nobody waits for, and what is often overtaken by a removal.
    Within(Duration),
}

/// The database; clones are the same database.
#[derive(Clone)]
pub struct Store {
    committer: Arc<Committer>,
}

impl Store {
    /// Opens the database file, which is made when it does not exist, and brings it to today's schema. Its folder must
    /// exist.
    ///
    /// # Errors
    /// The file cannot be opened, or has a newer schema; then nothing was written to it.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        Ok(Store { committer: Arc::new(Committer::start(path)?) })
    }

    /// Reads one consistent state.
    pub fn read<T>(&self, f: impl FnOnce(&Reader<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.committer.read(f)
    }

    /// Runs `f` on the newest state and commits what it wrote, or nothing of it when it fails. Blocks the thread
    /// until then; in async code, prefer [`Store::write_async`].
    pub fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        f: impl FnOnce(&mut Writer<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.try_write(durability, f)
    }

    /// [`Store::write`] for closures with an error type of their own.
    pub fn try_write<T, E>(
        &self,
        durability: Durability,
        f: impl FnOnce(&mut Writer<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        // The receiver waits below, so the send can only fail when this thread is gone.
        self.committer.submit(durability, f, move |result| drop(answer.send(result)))?;
        answered.recv().map_err(|_| StoreError::Closed)?
    }

    /// A write that the caller does not wait for; `answer` hears how it went, from the committer's thread.
    ///
    /// # Errors
    /// The store is closed.
    pub fn write_behind(
        &self,
        durability: Durability,
        f: impl FnOnce(&mut Writer<'_>) -> Result<(), StoreError> + Send + 'static,
        answer: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.committer.submit(durability, f, answer)
    }

    /// [`Store::try_write`] without blocking the thread. Once polled, the write happens even when the future is
    /// dropped.
    pub async fn write_async<T, E>(
        &self,
        durability: Durability,
        f: impl FnOnce(&mut Writer<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.committer.submit(durability, f, move |result| drop(answer.send(result)))?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Commits what waits and closes the file, so that the next start need not look at all of it. Whoever asks later is
    /// told [`StoreError::Closed`]. Blocks.
    ///
    /// # Errors
    /// What waited could not be written.
    pub fn close(&self) -> Result<(), StoreError> {
        self.committer.close()
    }
}
