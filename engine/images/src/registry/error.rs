//! What a registry refuses or fails to do.

use hyper::StatusCode;
use serde::Deserialize;

/// Why the registry did not give what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// No connection, no TLS, or no answer in time.
    #[error("Get \"{url}\": {reason}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What the connection says.
        reason: String,
    },
    /// The connection broke in the middle of a body.
    #[error("download of {url} was interrupted: {reason}")]
    Interrupted {
        /// What was asked.
        url: String,
        /// What the connection says.
        reason: String,
    },
    /// The registry answered with an error.
    #[error("{}", refused(*.status, .code, .message))]
    Refused {
        /// HTTP status.
        status: u16,
        /// The protocol's error code, such as `MANIFEST_UNKNOWN`; empty when the body had none.
        code: String,
        /// The registry's own words.
        message: String,
    },
    /// The server gives no token for the login.
    #[error("Get \"{url}\": {cause}")]
    NotLetIn {
        /// What was asked.
        url: String,
        /// Why there is no token.
        cause: Box<RegistryError>,
    },
    /// The server takes the login for none.
    #[error("login attempt to {url} failed with status: {status}")]
    LoginFailed {
        /// What was asked.
        url: String,
        /// HTTP status.
        status: StatusCode,
    },
    /// The answer does not follow the protocol.
    #[error("{url} does not answer like a registry: {reason}")]
    Nonsense {
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The client could not be made.
    #[error("cannot read the CA certificates in {path}: {reason}")]
    Certificates {
        /// PEM file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl RegistryError {
    /// Whether asking again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            RegistryError::Unreachable { .. } | RegistryError::Interrupted { .. } => true,
            RegistryError::Refused { status, .. } => *status >= 500 || *status == 429,
            RegistryError::Nonsense { .. }
            | RegistryError::Certificates { .. }
            | RegistryError::NotLetIn { .. }
            | RegistryError::LoginFailed { .. } => false,
        }
    }

    /// Whether the registry knows the user, or the password, not.
    pub fn is_unauthorized(&self) -> bool {
        match self {
            RegistryError::Refused { status, .. } => *status == 401,
            RegistryError::NotLetIn { cause, .. } => cause.is_unauthorized(),
            RegistryError::LoginFailed { status, .. } => *status == StatusCode::UNAUTHORIZED,
            _ => false,
        }
    }

    /// The registry's answer with a status of 400 or more.
    pub(super) fn from_answer(status: u16, body: &[u8]) -> RegistryError {
        let first =
            serde_json::from_slice::<ErrorBody>(body).ok().and_then(|body| body.errors.into_iter().next());
        let (code, message) = match first {
            Some(error) => (error.code, error.message),
            None => fallback(status),
        };
        RegistryError::Refused { status, code, message }
    }
}

impl RegistryError {
    /// The token was good, but not for this repository.
    pub(super) fn denied(status: u16) -> RegistryError {
        let (code, message) = fallback(403);
        RegistryError::Refused { status, code, message }
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What Docker says for an answer without an error body.
fn fallback(status: u16) -> (String, String) {
    match status {
        401 => ("UNAUTHORIZED".to_owned(), "authentication required".to_owned()),
        403 => ("DENIED".to_owned(), "requested access to the resource is denied".to_owned()),
        429 => ("TOOMANYREQUESTS".to_owned(), "too many requests".to_owned()),
        _ => (String::new(), format!("received unexpected HTTP status: {status}")),
    }
}

/// `manifest unknown: manifest unknown`: the code in words, then the registry's message.
fn refused(_status: u16, code: &str, message: &str) -> String {
    if code.is_empty() {
        return message.to_owned();
    }
    format!("{}: {message}", code.to_lowercase().replace('_', " "))
}
