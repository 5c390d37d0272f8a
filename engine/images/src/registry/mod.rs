//! The registry, seen from `images`: a small trait, and the client that speaks the distribution protocol.
//!
//! The client is written on hyper and rustls directly. A ready client (`oci-client`) was tried and left: it
//! chooses between http and https and verified and unverified TLS once for all hosts, knows no mirrors, hides
//! the registry's error codes that Docker's messages are made of, and is three times as many crates.

mod auth;
mod client;
mod error;
mod http;
mod insecure;
mod tls;
mod uplink;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;

use model::reference::{Digest, Reference};

pub use auth::Credentials;
pub use client::{Client, ClientConfig};
pub use error::RegistryError;

/// A boxed future, so that the traits here can be trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where images come from.
pub trait Registry: Send + Sync {
    /// A conversation about the repository of `name`; nothing is sent yet.
    fn open(&self, name: &Reference, credentials: Credentials) -> Arc<dyn Repository>;

    /// Whether the server of `name` takes the credentials; a server that asks for none takes any.
    fn login<'a>(
        &'a self,
        name: &'a Reference,
        credentials: Credentials,
    ) -> BoxFuture<'a, Result<(), RegistryError>>;
}

/// A conversation about one repository.
pub trait Repository: Send + Sync {
    /// The manifest (or list of manifests) that a tag or a digest names, as sent. A manifest asked for by
    /// digest has that digest.
    fn manifest<'a>(&'a self, tag_or_digest: &'a str) -> BoxFuture<'a, Result<RawManifest, RegistryError>>;

    /// The bytes of a blob from `offset` on. They are not verified here.
    fn blob<'a>(
        &'a self,
        digest: &'a Digest,
        offset: u64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Bytes, RegistryError>>, RegistryError>>;

    /// Every tag of the repository.
    fn tags(&self) -> BoxFuture<'_, Result<Vec<String>, RegistryError>>;
}

/// A manifest as sent.
#[derive(Debug, Clone)]
pub struct RawManifest {
    /// The media type the registry gave.
    pub media_type: String,
    /// Digest of the bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Bytes,
}
