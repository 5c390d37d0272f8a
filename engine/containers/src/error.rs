//! What can be wrong with a request about containers. The texts are Docker's, which clients match.

use images::ImageError;
use model::ErrorKind;
use networks::NetworksError;
use store::StoreError;

/// A request about a container failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The texts say it.
pub enum ContainerError {
    #[error("No such container: {0}")]
    NotFound(String),
    #[error("Could not find the file {path} in container {container}")]
    FileNotFound { path: String, container: String },
    #[error("{0}")]
    Ps(String),
    #[error("{0}")]
    Unpause(String),
    #[error("No such exec instance: {0}")]
    ExecNotFound(String),
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    #[error("{0}")]
    Invalid(String),
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove \
         (or rename) that container to be able to reuse that name."
    )]
    NameTaken { name: String, holder: String },
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    NotSupported(String),
    #[error("Error when allocating new name: {0}")]
    NewName(Box<ContainerError>),
    #[error("already so")]
    AlreadySo,
    #[error("{prefix}{cause}")]
    Start { prefix: &'static str, cause: String, exit_code: i32 },
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Network(#[from] NetworksError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{what}: {source}")]
    Machine {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the engine is going down")]
    GoingDown,
}

/// What Docker's daemon and runtime put in front of a failed start.
pub(super) const START_PREFIX: &str = "failed to create task for container: failed to create shim task: OCI \
    runtime create failed: runc create failed: unable to start container process: error during container init: ";

/// The same in front of a failed exec.
pub(super) const EXEC_PREFIX: &str =
    "OCI runtime exec failed: exec failed: unable to start container process: ";

/// The same where the runtime refuses the configuration itself.
pub(super) const CREATE_PREFIX: &str = "failed to create task for container: failed to create shim task: OCI runtime \
    create failed: runc create failed: ";

impl ContainerError {
    /// For the server's status map.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ContainerError::NotFound(_)
            | ContainerError::ExecNotFound(_)
            | ContainerError::FileNotFound { .. } => ErrorKind::NotFound,
            ContainerError::Ambiguous(_) | ContainerError::Invalid(_) => ErrorKind::InvalidArgument,
            ContainerError::NameTaken { .. } | ContainerError::Conflict(_) => ErrorKind::Conflict,
            ContainerError::NewName(error) => error.kind(),
            ContainerError::NotSupported(_) => ErrorKind::NotImplemented,
            ContainerError::AlreadySo => ErrorKind::NotModified,
            // 126 and 127: the user named something that cannot be run.
            ContainerError::Start { exit_code: 126 | 127, .. } => ErrorKind::InvalidArgument,
            ContainerError::Start { .. }
            | ContainerError::Machine { .. }
            | ContainerError::Ps(_)
            | ContainerError::Unpause(_) => ErrorKind::Internal,
            ContainerError::Image(error) => error.kind(),
            ContainerError::Network(error) => error.kind(),
            ContainerError::Store(_) => ErrorKind::Internal,
            ContainerError::GoingDown => ErrorKind::Unavailable,
        }
    }

    pub(super) fn machine(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> ContainerError {
        let what = what.into();
        move |source| ContainerError::Machine { what, source }
    }
}
