//! What can go wrong with the database.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::Damaged;

/// Why the store did not do as asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened: damaged, of another program, locked by another engine, or not readable.
    #[error("cannot open the metadata database {path}: {source}; restore it from a copy or move it away")]
    Open {
        /// The database file.
        path: PathBuf,
        /// What redb says.
        source: Arc<redb::Error>,
    },
    /// The file itself cannot be read or written.
    #[error("cannot open the metadata database {path}: {source}")]
    File {
        /// The database file.
        path: PathBuf,
        /// What the kernel says.
        source: Arc<io::Error>,
    },
    /// A later release has written it.
    #[error(
        "the data disk has schema {found} and this release knows schema {known} and older: start a release that is as \
         new as the disk; nothing was written"
    )]
    Newer {
        /// The disk's.
        found: u32,
        /// This release's.
        known: u32,
    },
    /// An older schema cannot be brought up to date; the disk is as it was.
    #[error("cannot bring the data disk from schema {from} to schema {to}: {source}; nothing was written")]
    Migration {
        /// The disk's schema.
        from: u32,
        /// The one that was to follow.
        to: u32,
        /// What redb says.
        source: Arc<redb::Error>,
    },
    /// Reading or writing failed; of a write, nothing was kept.
    #[error("metadata database: {0}")]
    Storage(Arc<redb::Error>),
    /// A row is not what this release writes.
    #[error("metadata database: {0}")]
    Damaged(Damaged),
    /// A value cannot be written as JSON.
    #[error("metadata database: the record {key:?} of the table {table:?} cannot be written: {source}")]
    Encode {
        /// Where it was to go.
        table: &'static str,
        /// Its key.
        key: String,
        /// What serde says.
        source: Arc<serde_json::Error>,
    },
    /// The committing thread cannot be started.
    #[error("cannot start the thread of the metadata database: {0}")]
    Thread(Arc<io::Error>),
    /// The committing thread is gone.
    #[error("the metadata database is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn storage(error: impl Into<redb::Error>) -> StoreError {
        StoreError::Storage(Arc::new(error.into()))
    }
}
