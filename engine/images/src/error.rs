//! What can go wrong with images, in the words Docker's clients know.

use std::sync::Arc;

use super::registry::RegistryError;
use content::disk::DiskError;
use content::layer::LayerError;
use model::ErrorKind;
use model::platform::UnknownPlatform;
use model::reference::{Digest, Reference, ReferenceError};
use store::{Damaged, StoreError};

/// Why something about an image was not done. Clones share their causes: pulls that share a layer share its
/// failure.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImageError {
    /// No image has this name or id.
    #[error("No such image: {0}")]
    NotFound(String),
    /// The image is here, but not whole.
    #[error("image {id} is damaged: {reason}; pull it again or remove it")]
    Damaged {
        /// The image.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name is here, but not what it names.
    #[error("the image name {name} is damaged: {damaged}; pull or tag it again, or remove it")]
    DamagedName {
        /// Familiar form.
        name: String,
        /// What is wrong with it.
        damaged: Damaged,
    },
    /// Several images have ids that begin so.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// The name is not a name.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The request cannot be meant.
    #[error("{0}")]
    Invalid(String),
    /// The registry has no such repository for whoever asks.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login': {cause}"
    )]
    AccessDenied {
        /// Repository, familiar form.
        name: String,
        /// The registry's answer.
        cause: RegistryError,
    },
    /// The repository has no such tag or digest.
    #[error("manifest for {reference} not found: {cause}")]
    ManifestUnknown {
        /// Familiar form.
        reference: String,
        /// The registry's answer.
        cause: RegistryError,
    },
    /// The registry has no such repository.
    #[error("repository {name} not found: {cause}")]
    RepositoryUnknown {
        /// Repository, familiar form.
        name: String,
        /// The registry's answer.
        cause: RegistryError,
    },
    /// The list of manifests has nothing for the platform.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(String),
    /// The image here is for another platform than the one that was asked for.
    #[error(
        "image with reference {reference} was found but its platform ({found}) does not match the specified platform \
         ({asked})"
    )]
    OtherPlatform {
        /// As it was asked for.
        reference: String,
        /// The image's.
        found: String,
        /// The client's.
        asked: String,
    },
    /// The registry is away, refuses, or is no registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A manifest or an image configuration that cannot be used.
    #[error("invalid image: {0}")]
    Malformed(String),
    /// The image is for another kind of system.
    #[error(
        "image operating system \"{0}\" cannot be used on this platform: operating system is not supported"
    )]
    OtherSystem(String),
    /// A blob is not what its digest says.
    #[error("filesystem layer verification failed for digest {0}")]
    Verification(Digest),
    /// A layer is shorter or longer than the manifest says.
    #[error("layer {digest} has {got} bytes where its manifest says {expected}")]
    Length {
        /// The layer.
        digest: Digest,
        /// Bytes that came.
        got: u64,
        /// Bytes the manifest tells.
        expected: u64,
    },
    /// The configuration's diff id is not that of the layer.
    #[error("layers from manifest don't match image configuration: layer {0}")]
    DiffId(Digest),
    /// A layer cannot be written.
    #[error("failed to register layer: {0}")]
    Layer(Arc<LayerError>),
    /// Everybody who wanted the layer went away, or the engine stops.
    #[error("the pull was cancelled")]
    Cancelled,
    /// In use, or named more than once.
    #[error("{0}")]
    Conflict(String),
    /// The data disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The platform that was asked for.
    #[error(transparent)]
    Platform(#[from] UnknownPlatform),
    /// The metadata.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ImageError {
    /// For the server's status map.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ImageError::NotFound(_)
            | ImageError::AccessDenied { .. }
            | ImageError::ManifestUnknown { .. }
            | ImageError::RepositoryUnknown { .. }
            | ImageError::NoPlatform(_)
            | ImageError::OtherPlatform { .. } => ErrorKind::NotFound,
            ImageError::Ambiguous(_)
            | ImageError::Reference(_)
            | ImageError::Invalid(_)
            | ImageError::Platform(_)
            | ImageError::OtherSystem(_) => ErrorKind::InvalidArgument,
            ImageError::Conflict(_) => ErrorKind::Conflict,
            ImageError::Registry(error) => registry_kind(error),
            ImageError::Damaged { .. }
            | ImageError::DamagedName { .. }
            | ImageError::Malformed(_)
            | ImageError::Verification(_)
            | ImageError::Length { .. }
            | ImageError::DiffId(_)
            | ImageError::Layer(_)
            | ImageError::Cancelled
            | ImageError::Disk(_)
            | ImageError::Store(_) => ErrorKind::Internal,
        }
    }

    /// The error for a name or id as somebody wrote it.
    pub fn not_found(text: &str) -> ImageError {
        let familiar = Reference::parse(text).map(|reference| reference.or_latest().familiar());
        ImageError::NotFound(familiar.unwrap_or_else(|_| text.to_owned()))
    }

    /// The registry's refusal of a manifest, told as Docker tells it.
    pub(super) fn from_pull(cause: RegistryError, reference: &Reference) -> ImageError {
        let code = match &cause {
            RegistryError::Refused { code, .. } => code.as_str(),
            _ => "",
        };
        match code {
            "DENIED" => ImageError::AccessDenied { name: reference.familiar_name(), cause },
            "MANIFEST_UNKNOWN" => ImageError::ManifestUnknown { reference: reference.familiar(), cause },
            "NAME_UNKNOWN" => ImageError::RepositoryUnknown { name: reference.familiar_name(), cause },
            _ => ImageError::Registry(cause),
        }
    }
}

fn registry_kind(error: &RegistryError) -> ErrorKind {
    match error {
        error if error.is_unauthorized() => ErrorKind::Unauthorized,
        RegistryError::Refused { status: 403, .. } => ErrorKind::Forbidden,
        RegistryError::Refused { status: 404, .. } => ErrorKind::NotFound,
        RegistryError::Unreachable { .. } | RegistryError::Interrupted { .. } => ErrorKind::Unavailable,
        RegistryError::Refused { .. }
        | RegistryError::NotLetIn { .. }
        | RegistryError::LoginFailed { .. }
        | RegistryError::Nonsense { .. }
        | RegistryError::Certificates { .. } => ErrorKind::Internal,
    }
}
