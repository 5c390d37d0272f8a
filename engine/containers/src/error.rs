//! What can be wrong with a request about containers. The texts are Docker's, which clients match.

use std::fmt::Display;

use images::ImageError;
use model::{ErrorKind, in_go_words};
use networks::NetworksError;
use networks::ports::PortsError;
use store::StoreError;
use volumes::VolumeError;

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
    Start {
        prefix: &'static str,
        cause: String,
        exit_code: i32,
        /// PID 1 was told of the process, and will tell its end.
        registered: bool,
    },
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Network(#[from] NetworksError),
    #[error(
        "failed to set up container networking: driver failed programming external connectivity on endpoint {name} \
         ({endpoint}): {source}"
    )]
    Ports { name: String, endpoint: String, source: Box<PortsError> },
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("failed to populate volume: {0}")]
    Populate(Box<ContainerError>),
    #[error("{0}")]
    MountOver(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("container {container} is not connected to {}network {network}", if *running { "" } else { "the " })]
    NotConnected { container: String, network: String, running: bool },
    #[error("joining network namespace of container: No such container: {0}")]
    Joining(String),
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

/// The exit code of a container that could not be started for reasons of the engine's.
pub(super) const FAILED: i32 = 128;

const NOT_A_DIRECTORY: &str = "not a directory";
const MOUNT_HINT: &str = ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path \
    exists and is the expected type";

/// What dockerd makes of a runtime's words: as in a shell, 127 is for what is not there, 126 for what may not be run.
fn exit_code_of(cause: &str) -> i32 {
    let says = |words: &[&str]| words.iter().any(|words| cause.contains(words));
    match cause {
        _ if says(&["executable file not found", "no such file or directory", NOT_A_DIRECTORY]) => 127,
        _ if says(&["permission denied"]) => 126,
        _ => FAILED,
    }
}

/// The same in front of a failed exec.
pub(super) const EXEC_PREFIX: &str =
    "OCI runtime exec failed: exec failed: unable to start container process: ";

/// The same where the runtime refuses the configuration of an exec itself.
pub(super) const EXEC_CREATE_PREFIX: &str = "OCI runtime exec failed: exec failed: ";

/// The same where the runtime refuses the configuration of a container itself.
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
            | ContainerError::NotConnected { .. }
            | ContainerError::Joining(_)
            | ContainerError::Ps(_)
            | ContainerError::Unpause(_) => ErrorKind::Internal,
            ContainerError::Image(error) => error.kind(),
            ContainerError::Network(error) => error.kind(),
            ContainerError::Ports { source, .. } => source.kind(),
            ContainerError::Volume(error) => error.kind(),
            ContainerError::Populate(error) => error.kind(),
            ContainerError::MountOver(_) => ErrorKind::Internal,
            ContainerError::Store(_) => ErrorKind::Internal,
            ContainerError::GoingDown => ErrorKind::Unavailable,
        }
    }

    /// A start that the runtime refused, in the words of runc: dockerd makes the exit code of them, and so do its clients.
    pub(super) fn start(prefix: &'static str, cause: impl Display) -> ContainerError {
        let mut cause = in_go_words(&cause.to_string());
        let exit_code = exit_code_of(&cause);
        if cause.contains(NOT_A_DIRECTORY) {
            cause += MOUNT_HINT;
        }
        ContainerError::Start { prefix, cause, exit_code, registered: false }
    }

    /// A start that was refused before the runtime was asked.
    pub(super) fn unprepared(cause: impl Display) -> ContainerError {
        let cause = in_go_words(&cause.to_string());
        ContainerError::Start { prefix: "", cause, exit_code: FAILED, registered: false }
    }

    pub(super) fn machine(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> ContainerError {
        let what = what.into();
        move |source| ContainerError::Machine { what, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_from_the_words() {
        let check = |cause: &str, expected: i32, hint: bool| {
            let error = ContainerError::start(START_PREFIX, cause);
            let ContainerError::Start { cause: told, exit_code, .. } = &error else { panic!("{error}") };
            assert_eq!((*exit_code, told.ends_with(MOUNT_HINT)), (expected, hint), "{cause}");
        };
        check("open /proc/sys/net/nope: No such file or directory (os error 2)", 127, false);
        check("exec: \"x\": executable file not found in $PATH", 127, false);
        check("exec: \"/x\": permission denied", 126, false);
        check("mount: Not a directory (os error 20)", 127, true);
        check("write /proc/sys/net/x: Invalid argument (os error 22)", 128, false);
    }
}
