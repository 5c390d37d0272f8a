//! What a pull tells while it works.

use std::time::{Duration, Instant};

use super::Sink;
use model::reference::Digest;

/// Least time between two counts of the same layer.
const INTERVAL: Duration = Duration::from_millis(100);

/// Something to tell about a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent {
    /// The manifest is known.
    From {
        /// Path on the registry, as in `library/debian`.
        repository: String,
        /// Tag or digest.
        tag: String,
    },
    /// One layer went on.
    Layer {
        /// First 12 digits of the compressed layer's digest.
        id: String,
        /// How far it is.
        step: LayerStep,
    },
    /// Something to know, in words.
    Note(String),
    /// Digest of the manifest or list that the reference led to.
    Digest(Digest),
    /// The end.
    Status {
        /// What was pulled, familiar form.
        reference: String,
        /// Whether it led elsewhere before.
        is_new: bool,
    },
}

/// How far a layer is; in this order, some left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerStep {
    /// It was here before.
    AlreadyExists,
    /// It is not here.
    PullingFsLayer,
    /// Others come first.
    Waiting,
    /// The connection broke.
    Retrying {
        /// Until the next try.
        seconds: u64,
    },
    /// It comes.
    Downloading {
        /// Bytes that are here.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// All bytes are here.
    VerifyingChecksum,
    /// And they are the right ones.
    DownloadComplete,
    /// It is being written out; begun while it came.
    Extracting {
        /// Compressed bytes that are written out.
        current: u64,
        /// Compressed bytes in all.
        total: u64,
    },
    /// It is here.
    PullComplete,
}

/// Tells one pull of one layer: no faster than people read, and no step left out that clients wait for.
pub(super) struct Reporter<'a> {
    id: String,
    sink: Sink<'a>,
    counted: Option<Instant>,
    told: Told,
}

/// The last milestone that was told.
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Told {
    Nothing,
    Wanted,
    Complete,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(id: &str, sink: Sink<'a>) -> Reporter<'a> {
        Reporter { id: id.to_owned(), sink, counted: None, told: Told::Nothing }
    }

    pub(super) fn already_exists(&mut self) {
        self.tell(LayerStep::AlreadyExists);
    }

    pub(super) fn wanted(&mut self) {
        self.tell(LayerStep::PullingFsLayer);
        self.told = Told::Wanted;
    }

    pub(super) fn report(&mut self, step: LayerStep) {
        match step {
            LayerStep::Downloading { .. } if self.is_early() => {}
            LayerStep::Extracting { .. } => {
                self.complete();
                if !self.is_early() {
                    self.count(step);
                }
            }
            LayerStep::Downloading { .. } => self.count(step),
            LayerStep::PullComplete => {
                self.complete();
                self.tell(LayerStep::PullComplete);
            }
            other => self.tell(other),
        }
    }

    /// Steps that went by between two looks.
    fn complete(&mut self) {
        if self.told < Told::Complete {
            self.tell(LayerStep::VerifyingChecksum);
            self.tell(LayerStep::DownloadComplete);
            self.told = Told::Complete;
            self.counted = None;
        }
    }

    fn is_early(&self) -> bool {
        self.counted.is_some_and(|at| at.elapsed() < INTERVAL)
    }

    fn count(&mut self, step: LayerStep) {
        self.counted = Some(Instant::now());
        self.tell(step);
    }

    fn tell(&self, step: LayerStep) {
        (self.sink)(PullEvent::Layer { id: self.id.clone(), step });
    }
}
