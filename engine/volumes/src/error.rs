//! What can be wrong with a request about volumes. The texts are Docker's, which clients match.

use std::path::Path;
use std::sync::Arc;

use model::{ErrorKind, in_go_words};
use rustix::io::Errno;
use store::StoreError;

/// A request about a volume failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The texts say it.
pub enum VolumeError {
    #[error("get {0}: no such volume")]
    NotFound(String),
    #[error("create {name}: {why}")]
    Refused { name: String, why: String },
    #[error("create {name}: error looking up volume plugin {driver}: plugin \"{driver}\" not found")]
    NoDriver { name: String, driver: String },
    #[error("remove {name}: volume is in use - [{}]", users.join(", "))]
    InUse { name: String, users: Vec<String> },
    #[error("a prune operation is already running")]
    Pruning,
    /// The kernel does not mount what the options name.
    #[error("error while mounting volume '{place}': {why}")]
    Mount { place: String, why: String },
    #[error("cannot access path {path}: lstat {path}: {why}")]
    NoPath { path: String, why: String, missing: bool },
    #[error("path concatenation escapes the base directory, base: {base}, subpath: {path}")]
    Outside { base: String, path: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{what}: {source}")]
    Machine {
        what: String,
        #[source]
        source: Arc<std::io::Error>,
    },
}

impl VolumeError {
    /// For the server's status map.
    pub fn kind(&self) -> ErrorKind {
        match self {
            VolumeError::NotFound(_)
            | VolumeError::NoDriver { .. }
            | VolumeError::NoPath { missing: true, .. } => ErrorKind::NotFound,
            VolumeError::Refused { .. } | VolumeError::Outside { .. } => ErrorKind::InvalidArgument,
            VolumeError::InUse { .. } | VolumeError::Pruning => ErrorKind::Conflict,
            VolumeError::Mount { .. }
            | VolumeError::NoPath { .. }
            | VolumeError::Store(_)
            | VolumeError::Machine { .. } => ErrorKind::Internal,
        }
    }

    pub(super) fn machine(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> VolumeError {
        let what = what.into();
        move |source| VolumeError::Machine { what, source: Arc::new(source) }
    }

    /// A part of a volume or of an image's files that cannot be opened.
    pub fn no_path(base: &Path, path: &Path, errno: Errno) -> VolumeError {
        let base_text = base.display().to_string();
        match errno {
            Errno::XDEV => VolumeError::Outside { base: base_text, path: path.display().to_string() },
            _ => VolumeError::NoPath {
                path: base.join(path).display().to_string(),
                why: in_go_words(&errno.to_string()),
                missing: errno == Errno::NOENT,
            },
        }
    }
}
