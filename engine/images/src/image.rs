//! An image as everybody else in the engine sees it.

use std::fmt;
use std::sync::Arc;

use super::ImageError;
use super::config::{Document, History, ImageConfig};
use model::Platform;
use model::reference::{Digest, Reference};
use model::timestamp::Timestamp;
use store::Held;

/// Digest of the image's configuration blob.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId(Digest);

impl ImageId {
    /// The id of an image with this configuration.
    pub fn new(config: Digest) -> ImageId {
        ImageId(config)
    }

    /// The digest it is.
    pub fn digest(&self) -> &Digest {
        &self.0
    }

    /// `sha256:…`.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The first 12 hexadecimal digits, as shown to people.
    pub fn short(&self) -> &str {
        self.0.short()
    }

    /// What a container holds while it exists, see [`store::Writer::hold`].
    pub fn held_as(&self) -> Held {
        Held::Image(self.0.clone())
    }
}

impl std::str::FromStr for ImageId {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<ImageId, ImageError> {
        Ok(ImageId(text.parse()?))
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An image that is here.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of its configuration.
    pub id: ImageId,
    /// What containers inherit.
    pub config: ImageConfig,
    /// Go's name of the processor architecture (`amd64`).
    pub architecture: String,
    /// Go's name of the operating system (`linux`).
    pub os: String,
    /// Variant of the architecture (`v8`), or empty.
    pub variant: String,
    /// When it was built, if told.
    pub created: Option<Timestamp>,
    /// Who built it, or empty.
    pub author: String,
    /// Free text, or empty.
    pub comment: String,
    /// Content of all its layers' files, in bytes.
    pub size: u64,
    /// Familiar names with a tag, in order.
    pub repo_tags: Vec<String>,
    /// Familiar names with a digest, in order.
    pub repo_digests: Vec<String>,
    /// Its layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// How it was made, oldest first.
    pub history: Vec<History>,
    /// Bytes that each step of [`Image::history`] added; the same length.
    pub history_sizes: Vec<u64>,
    /// When a name was last given to it.
    pub last_tagged: Timestamp,
    /// Why it is not whole, where something of it is lost; then nothing but its id and its names is known for certain.
    pub damage: Option<String>,
}

impl Image {
    pub(super) fn new(id: ImageId, document: Document, sizes: &[u64], last_tagged: Timestamp) -> Image {
        let mut layers = sizes.iter();
        let of_step = |step: &History| if step.empty_layer { 0 } else { layers.next().copied().unwrap_or(0) };
        let history_sizes = document.history.iter().map(of_step).collect();
        Image {
            id,
            config: document.config,
            architecture: document.architecture,
            os: document.os,
            variant: document.variant,
            created: document.created,
            author: document.author,
            comment: document.comment,
            size: sizes.iter().sum(),
            repo_tags: Vec::new(),
            repo_digests: Vec::new(),
            diff_ids: document.diff_ids,
            history: document.history,
            history_sizes,
            last_tagged,
            damage: None,
        }
    }

    /// An image of which something is lost.
    pub(super) fn damaged(id: ImageId, reason: String) -> Image {
        Image { damage: Some(reason), ..Image::new(id, Document::default(), &[], Timestamp::default()) }
    }

    /// The image, if it is whole.
    ///
    /// # Errors
    /// Something of it is lost.
    pub fn whole(self: Arc<Image>) -> Result<Arc<Image>, ImageError> {
        match &self.damage {
            Some(reason) => Err(ImageError::Damaged { id: self.id.to_string(), reason: reason.clone() }),
            None => Ok(self),
        }
    }

    /// The image with exactly these names.
    pub(super) fn named<'a>(&self, references: impl Iterator<Item = &'a Reference>) -> Image {
        let (digested, tagged): (Vec<&Reference>, _) = references.partition(|r| r.digest().is_some());
        let familiar = |references: Vec<&Reference>| references.iter().map(|r| r.familiar()).collect();
        Image { repo_tags: familiar(tagged), repo_digests: familiar(digested), ..self.clone() }
    }

    /// The platform it says it is for.
    pub fn platform(&self) -> Platform {
        let Image { os, architecture, variant, .. } = self;
        Platform { os: os.clone(), architecture: architecture.clone(), variant: variant.clone() }
    }

    /// Whether no tag leads to it.
    pub fn is_dangling(&self) -> bool {
        self.repo_tags.is_empty()
    }
}
