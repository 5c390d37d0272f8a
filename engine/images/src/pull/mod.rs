//! Brings an image here from a registry.
//!
//! ```text
//!   manifest (index → platform → manifest) ─► configuration ─► layers, three at a time ─► record ─► seen
//!                                                                 │
//!                     one download for each layer, shared by all pulls that want it, see [`download`]
//! ```
//!
//! A pull is a future: dropping it cancels it, and a download without a pull left is given up.

mod download;
mod downloads;
mod manifest;
mod progress;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::try_join_all;

pub(super) use downloads::Downloads;
pub use progress::{LayerStep, PullEvent};

use super::config::Document;
use super::index::NESTING_MAX;
use super::record::{Complete, KnownManifest};
use super::records::Descriptor;
use super::registry::{Credentials, RawManifest, RegistryError, Repository};
use super::{ImageError, ImageId, Images, Shared};
use downloads::{Pins, Source};
use manifest::{Manifest, Parsed};
use model::Platform;
use model::reference::{Digest, Reference};
use progress::Reporter;

/// Longest configuration, in bytes.
const CONFIG_MAX: u64 = 16 << 20;

/// What to pull.
#[derive(Debug, Clone)]
pub struct Pull {
    /// A tag or a digest; `latest` when there is neither.
    pub reference: Reference,
    /// The host's when absent.
    pub platform: Option<Platform>,
    /// Who asks the registry.
    pub credentials: Credentials,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image.
    pub id: ImageId,
    /// Digest of the manifest or index that the reference led to.
    pub digest: Digest,
    /// The reference led to another image before, or to none.
    pub is_new: bool,
}

/// Told what a pull does; called from the pull's own task.
pub type Sink<'a> = &'a (dyn Fn(PullEvent) + Send + Sync);

/// Everything the registry says about an image, without its layers.
struct Resolved {
    /// Indexes on the way to the manifest, outermost first.
    indexes: Vec<(RawManifest, Parsed)>,
    raw: RawManifest,
    manifest: Manifest,
}

impl Resolved {
    /// Digest of what the reference led to.
    fn digest(&self) -> &Digest {
        self.indexes.first().map_or(&self.raw.digest, |(raw, _)| &raw.digest)
    }

    /// All of it as it is recorded, for an image with this configuration.
    fn known(self, document: &Document) -> Vec<KnownManifest> {
        let platform = model::Platform {
            os: document.os.clone(),
            architecture: document.architecture.clone(),
            variant: document.variant.clone(),
        };
        let own = (self.raw, Parsed::Image(self.manifest));
        let known = |(raw, parsed): (RawManifest, Parsed)| {
            let record = manifest::record(&raw, parsed, Some(platform.clone()));
            KnownManifest { digest: raw.digest, bytes: raw.bytes, record }
        };
        self.indexes.into_iter().chain([own]).map(known).collect()
    }
}

impl Images {
    /// Pulls one image. Nothing is told to `sink` before the registry has given a manifest, so an error before
    /// that can still become a status of its own.
    pub async fn pull(&self, pull: Pull, sink: Sink<'_>) -> Result<Pulled, ImageError> {
        let shared = &self.shared;
        let reference = pull.reference.clone().or_latest();
        let repository = shared.registry.open(&reference, pull.credentials.clone());
        let resolved = resolve(repository.as_ref(), &reference, pull.platform.as_ref()).await?;
        let digest = resolved.digest().clone();
        let tag = reference.digest().map_or(reference.tag().unwrap_or_default(), Digest::as_str).to_owned();
        sink(PullEvent::From { repository: reference.path().to_owned(), tag });
        let (id, is_new) = shared.bring(&reference, &repository, resolved, &pull, sink).await?;
        sink(PullEvent::Digest(digest.clone()));
        sink(PullEvent::Status { reference: reference.familiar(), is_new });
        shared.publish("pull", &reference.familiar(), &reference.familiar_name());
        Ok(Pulled { id, digest, is_new })
    }

    /// Every tag of a repository on its registry.
    pub async fn tags(&self, name: &Reference, credentials: Credentials) -> Result<Vec<String>, ImageError> {
        let repository = self.shared.registry.open(name, credentials);
        repository.tags().await.map_err(|error| ImageError::from_pull(error, name))
    }
}

impl Shared {
    /// Configuration, layers, record.
    async fn bring(
        self: &Arc<Shared>,
        reference: &Reference,
        repository: &Arc<dyn Repository>,
        resolved: Resolved,
        pull: &Pull,
        sink: Sink<'_>,
    ) -> Result<(ImageId, bool), ImageError> {
        let manifest = &resolved.manifest;
        let id = ImageId::new(manifest.config.digest.clone());
        let is_here = self.index().has(&id);
        let config = match self.disk.read_blob(id.digest()) {
            Ok(bytes) if is_here => bytes.into(),
            _ => fetch_config(repository.as_ref(), &manifest.config).await?,
        };
        let document = Document::parse(&config)?;
        check_fits(&document, manifest)?;
        if let Some(note) = other_platform(&document, pull, reference) {
            sink(PullEvent::Note(note));
        }
        let pins = Pins::new(self, &document.diff_ids);
        // Looked at again, for until the pins hold it may go.
        let is_here = self.index().has(&id);
        if !is_here {
            self.bring_layers(repository, reference, manifest, &document, sink).await?;
        }
        let names = [Some(reference.digested(resolved.digest())), tag_only(reference)];
        let complete = Complete {
            config: (manifest.config.digest.clone(), config),
            layers: manifest.layers.clone(),
            manifests: resolved.known(&document),
            document,
            origin: reference.name(),
            references: names.into_iter().flatten().collect(),
        };
        let shared = self.clone();
        // The pins go along: cancelled or not, what is being recorded stays until it is.
        let recording = tokio::task::spawn_blocking(move || shared.record(complete).inspect(|_| pins.keep()));
        let is_new = recording.await??;
        Ok((id, is_new))
    }

    async fn bring_layers(
        self: &Arc<Shared>,
        repository: &Arc<dyn Repository>,
        reference: &Reference,
        manifest: &Manifest,
        document: &Document,
        sink: Sink<'_>,
    ) -> Result<(), ImageError> {
        let origin = reference.name();
        let layers = manifest.layers.iter().zip(&document.diff_ids);
        let wanted: Vec<_> = layers
            .map(|(descriptor, diff_id)| {
                let reporter = Reporter::new(descriptor.digest.short(), sink);
                let source = Source {
                    repository: repository.clone(),
                    blob: descriptor.clone(),
                    origin: origin.clone(),
                    diff_id: diff_id.clone(),
                };
                (reporter, self.join_download(source))
            })
            .collect();
        let followed = wanted.into_iter().map(|(mut reporter, download)| async move {
            match download {
                Some(download) => download.follow(reporter).await,
                None => {
                    reporter.already_exists();
                    Ok(())
                }
            }
        });
        try_join_all(followed).await.map(drop)
    }
}

/// Follows indexes down to the manifest for the platform, or for this machine where nobody asked for one.
async fn resolve(
    repository: &dyn Repository,
    reference: &Reference,
    platform: Option<&Platform>,
) -> Result<Resolved, ImageError> {
    let mut which = match reference.digest() {
        Some(digest) => digest.to_string(),
        None => reference.tag().unwrap_or_default().to_owned(),
    };
    let mut indexes = Vec::new();
    while indexes.len() < NESTING_MAX {
        let raw =
            repository.manifest(&which).await.map_err(|error| ImageError::from_pull(error, reference))?;
        match manifest::parse(&raw)? {
            Parsed::Image(manifest) => return Ok(Resolved { indexes, raw, manifest }),
            Parsed::Index(entries) => {
                which = manifest::choose(&entries, platform)?.digest.to_string();
                indexes.push((raw, Parsed::Index(entries)));
            }
        }
    }
    Err(ImageError::Malformed("its indexes are nested too deeply".to_owned()))
}

async fn fetch_config(repository: &dyn Repository, descriptor: &Descriptor) -> Result<Bytes, ImageError> {
    if descriptor.size > CONFIG_MAX {
        return Err(ImageError::Malformed(format!("its configuration has more than {CONFIG_MAX} bytes")));
    }
    let mut whole = Vec::new();
    let mut tries = download::Tries::default();
    'tries: loop {
        let mut body = match repository.blob(&descriptor.digest, whole.len() as u64).await {
            Ok(body) => body,
            Err(error) => {
                tries.again(error).await?;
                continue;
            }
        };
        while let Some(chunk) = body.next().await {
            match chunk {
                Ok(chunk) => whole.extend_from_slice(&chunk),
                Err(error) => {
                    tries.again(error).await?;
                    continue 'tries;
                }
            }
            if whole.len() as u64 > descriptor.size {
                return Err(ImageError::Verification(descriptor.digest.clone()));
            }
        }
        break;
    }
    if Digest::of(&whole) == descriptor.digest {
        Ok(whole.into())
    } else {
        Err(ImageError::Verification(descriptor.digest.clone()))
    }
}

fn check_fits(document: &Document, manifest: &Manifest) -> Result<(), ImageError> {
    if document.os != "linux" {
        return Err(ImageError::OtherSystem(document.os.clone()));
    }
    if document.diff_ids.len() != manifest.layers.len() {
        let text = "its configuration and its manifest have different numbers of layers";
        return Err(ImageError::Malformed(text.to_owned()));
    }
    Ok(())
}

/// A manifest outside of an index is for one platform, whatever was asked; Docker warns and goes on.
fn other_platform(document: &Document, pull: &Pull, reference: &Reference) -> Option<String> {
    let wanted = pull.platform.as_ref()?;
    let actual = Platform {
        os: document.os.clone(),
        architecture: document.architecture.clone(),
        variant: document.variant.clone(),
    };
    wanted.suits(&actual).is_none().then(|| {
        format!(
            "WARNING: image with reference {} was found but does not match the specified platform: wanted {wanted}, \
             actual: {actual}",
            reference.familiar()
        )
    })
}

/// With a digest the tag beside it is only decoration, as for Docker.
fn tag_only(reference: &Reference) -> Option<Reference> {
    if reference.digest().is_some() { None } else { Some(reference.clone()) }
}

impl From<tokio::task::JoinError> for ImageError {
    fn from(_: tokio::task::JoinError) -> ImageError {
        ImageError::Cancelled
    }
}

/// Whether asking again may help.
fn is_transient(error: &ImageError) -> bool {
    matches!(error, ImageError::Registry(error) if RegistryError::is_transient(error))
}
