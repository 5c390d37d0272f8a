//! What can be wrong with a request about networks. The texts are Docker's, which clients match.

use model::ErrorKind;
use runtime::network::{AddressError, NetworkError};
use store::StoreError;

/// A network operation failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The texts say it.
pub enum NetworksError {
    #[error("network {0} not found")]
    NotFound(String),
    #[error("plugin \"{0}\" not found")]
    NoDriver(String),
    #[error("network {name} is ambiguous ({matches} matches found on {by})")]
    Ambiguous { name: String, matches: usize, by: &'static str },
    #[error("network with name {0} already exists")]
    Exists(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Forbidden(String),
    /// A driver cannot make what it is asked for.
    #[error("{0}")]
    Driver(String),
    #[error("configuration network \"{0}\" does not exist")]
    NoConfig(String),
    #[error("error while removing network: configuration network \"{0}\" is in use")]
    ConfigInUse(String),
    #[error("no available {family} addresses on this network's address pools: {whose}")]
    Exhausted { family: &'static str, whose: String },
    #[error("error while removing network: network {name} has active endpoints ({endpoints})")]
    InUse { name: String, endpoints: String },
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    Overlap,
    #[error("gateway mode 'isolated' can only be used for an internal network")]
    Isolated,
    #[error("all predefined address pools have been fully subnetted")]
    NoPool,
    #[error("a prune operation is already running")]
    Pruning,
    #[error("endpoint with name {container} already exists in network {network}")]
    Connected { container: String, network: String },
    /// A container cannot have its place.
    #[error("failed to set up container networking: {0}")]
    Setup(#[source] Box<NetworksError>),
    #[error("Address already in use")]
    Taken,
    #[error(transparent)]
    Kernel(#[from] NetworkError),
    #[error(transparent)]
    Address(AddressError),
    #[error("the bridge is not there: {0}")]
    Bridge(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NetworksError {
    /// For the server's status map.
    pub fn kind(&self) -> ErrorKind {
        match self {
            NetworksError::NotFound(_) | NetworksError::NoDriver(_) | NetworksError::NoConfig(_) => {
                ErrorKind::NotFound
            }
            NetworksError::Ambiguous { .. } | NetworksError::Invalid(_) => ErrorKind::InvalidArgument,
            NetworksError::Exists(_) | NetworksError::Pruning => ErrorKind::Conflict,
            NetworksError::Forbidden(_)
            | NetworksError::InUse { .. }
            | NetworksError::ConfigInUse(_)
            | NetworksError::Overlap
            | NetworksError::Connected { .. }
            | NetworksError::Taken => ErrorKind::Forbidden,
            NetworksError::Setup(error) => error.kind(),
            NetworksError::NoPool
            | NetworksError::Driver(_)
            | NetworksError::Exhausted { .. }
            | NetworksError::Isolated
            | NetworksError::Kernel(_)
            | NetworksError::Address(_)
            | NetworksError::Bridge(_)
            | NetworksError::Store(_) => ErrorKind::Internal,
        }
    }

    /// In the words of a start.
    #[must_use]
    pub fn at_start(self) -> NetworksError {
        NetworksError::Setup(Box::new(self))
    }
}

impl From<AddressError> for NetworksError {
    fn from(error: AddressError) -> NetworksError {
        match error {
            AddressError::Taken { .. } => NetworksError::Taken,
            error => NetworksError::Address(error),
        }
    }
}
