//! What can go wrong with the database.

use std::path::PathBuf;
use std::sync::Arc;

use super::Table;

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
    /// Reading or writing failed; of a write, nothing was kept.
    #[error("metadata database: {0}")]
    Storage(Arc<redb::Error>),
    /// A stored value is not what this release writes.
    #[error("metadata database: {table:?} record {key:?} is not readable: {source}")]
    Decode {
        /// Where it is.
        table: Table,
        /// Its key.
        key: String,
        /// What serde says.
        source: Arc<serde_json::Error>,
    },
    /// A value cannot be written as JSON.
    #[error("metadata database: {table:?} record {key:?} cannot be written: {source}")]
    Encode {
        /// Where it was to go.
        table: Table,
        /// Its key.
        key: String,
        /// What serde says.
        source: Arc<serde_json::Error>,
    },
    /// The committer thread could not be started.
    #[error("cannot start the metadata committer: {0}")]
    Thread(Arc<std::io::Error>),
    /// The committer is gone, because a write panicked.
    #[error("the metadata database is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn storage(source: impl Into<redb::Error>) -> StoreError {
        StoreError::Storage(Arc::new(source.into()))
    }
}
