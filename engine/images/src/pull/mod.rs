//! Brings an image here from a registry.
//!
//! ```text
//!   manifest (list → platform → manifest) ─► configuration ─► layers, three at a time ─► record ─► seen
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
use super::record::Complete;
use super::registry::{Credentials, RawManifest, RegistryError, Repository};
use super::{ImageError, ImageId, Images, Shared};
use downloads::{Pins, Source};
use manifest::{Descriptor, Manifest};
use model::Platform;
use model::reference::{Digest, Reference};
use progress::Reporter;

/// Longest configuration, in bytes.
const CONFIG_MAX: u64 = 16 << 20;
/// Lists of manifests may be in lists of manifests.
const NESTING_MAX: usize = 4;

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
    /// Digest of the manifest or list of manifests that the reference led to.
    pub digest: Digest,
    /// The reference led to another image before, or to none.
    pub is_new: bool,
}

/// Told what a pull does; called from the pull's own task.
pub type Sink<'a> = &'a (dyn Fn(PullEvent) + Send + Sync);

/// Everything the registry says about an image, without its layers.
struct Resolved {
    /// As sent, outermost first.
    manifests: Vec<RawManifest>,
    manifest: Manifest,
}

impl Images {
    /// Pulls one image. Nothing is told to `sink` before the registry has given a manifest, so an error before
    /// that can still become a status of its own.
    pub async fn pull(&self, pull: Pull, sink: Sink<'_>) -> Result<Pulled, ImageError> {
        let shared = &self.shared;
        let reference = pull.reference.clone().or_latest();
        let repository = shared.registry.open(&reference, pull.credentials.clone());
        let platform = pull.platform.clone().unwrap_or_else(Platform::host);
        let resolved = resolve(repository.as_ref(), &reference, &platform).await?;
        let digest = resolved.manifests[0].digest.clone();
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
        let is_here = self.index().images.contains_key(&id);
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
        let is_here = self.index().images.contains_key(&id);
        if !is_here {
            self.bring_layers(repository, manifest, &document, sink).await?;
        }
        let names = [Some(reference.digested(&resolved.manifests[0].digest)), tag_only(reference)];
        let complete = Complete {
            config: (manifest.config.digest.clone(), config),
            document,
            manifests: resolved.manifests.into_iter().map(|raw| (raw.digest, raw.bytes)).collect(),
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
        manifest: &Manifest,
        document: &Document,
        sink: Sink<'_>,
    ) -> Result<(), ImageError> {
        let layers = manifest.layers.iter().zip(&document.diff_ids);
        let wanted: Vec<_> = layers
            .map(|(descriptor, diff_id)| {
                let reporter = Reporter::new(descriptor.digest.short(), sink);
                let source = Source {
                    repository: repository.clone(),
                    layer: descriptor.digest.clone(),
                    size: descriptor.size,
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

/// Follows lists of manifests down to the manifest for the platform.
async fn resolve(
    repository: &dyn Repository,
    reference: &Reference,
    platform: &Platform,
) -> Result<Resolved, ImageError> {
    let mut which = match reference.digest() {
        Some(digest) => digest.to_string(),
        None => reference.tag().unwrap_or_default().to_owned(),
    };
    let mut manifests = Vec::new();
    while manifests.len() < NESTING_MAX {
        let raw =
            repository.manifest(&which).await.map_err(|error| ImageError::from_pull(error, reference))?;
        let parsed = manifest::parse(&raw)?;
        manifests.push(raw);
        match parsed {
            manifest::Parsed::Image(manifest) => return Ok(Resolved { manifests, manifest }),
            manifest::Parsed::List(entries) => which = manifest::choose(&entries, platform)?.to_string(),
        }
    }
    Err(ImageError::Malformed("its lists of manifests are nested too deeply".to_owned()))
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

/// A manifest outside of a list is for one platform, whatever was asked; Docker warns and goes on.
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
