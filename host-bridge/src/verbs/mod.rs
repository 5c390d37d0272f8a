//! What a person can ask of `pinnace`, one file a verb.

pub mod bridge;
pub mod console;
mod context;
pub mod down;
pub mod logs;
mod share;
pub mod status;
pub mod up;
pub mod upgrade_engine;
mod visit;

use crate::Which;
use crate::backend::BackendError;
use crate::bridge::BridgeError;
use crate::place::{Place, PlaceError};
use std::io;
use std::path::PathBuf;

/// Why a verb did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum VerbError {
    /// The appliance's folder.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The backend's needs.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The appliance.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The appliance did not come up; the text is its bridge's.
    #[error("{error}")]
    NotUp {
        /// One line.
        error: String,
    },
    /// The bridge died without a word.
    #[error("the bridge ended without a word: see {log}")]
    BridgeLost {
        /// Its log.
        log: PathBuf,
    },
    /// The bridge does not answer on its socket.
    #[error("the bridge in {dir} does not answer: end it with pinnace down")]
    BridgeMute {
        /// The folder.
        dir: PathBuf,
        /// From its socket.
        source: io::Error,
    },
    /// No folder with an image was found.
    #[error("no image found: name the folder of vmlinuz and initramfs.zst with --image")]
    NoImage,
    /// The appliance does not run.
    #[error("the appliance is not running: start it with pinnace up")]
    NotRunning,
    /// What shall be the engine cannot be one.
    #[error("not an engine: expected an ELF executable of at most 64 MiB")]
    NoEngine,
    /// The guest's PID 1 does not answer.
    #[error("the guest does not answer: see pinnace logs")]
    GuestMute,
    /// The guest does not take what it was sent.
    #[error("the guest refuses: {error}")]
    Refused {
        /// Its words.
        error: String,
    },
    /// An engine that was sent ended at once.
    #[error("the new engine does not work, and the image's own runs again: see pinnace logs")]
    EngineDied,
    /// An engine that was sent lives but does not serve.
    #[error("the new engine does not answer: send another, or begin anew with pinnace down and pinnace up")]
    EngineMute,
    /// A file could not be read or removed.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// From the file system.
        source: io::Error,
    },
    /// A folder that containers shall be able to mount cannot be had.
    #[error("cannot share {path}: {reason}")]
    NotShared {
        /// As it was named.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A process or a runtime could not be started.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// From the kernel.
        source: io::Error,
    },
    /// The bridge did not end in time.
    #[error("the bridge (pid {pid}) does not end: kill it with kill -9 {pid}")]
    Stuck {
        /// Its process.
        pid: u32,
    },
}

/// For `map_err`: names what was tried.
fn system(what: &'static str) -> impl FnOnce(io::Error) -> VerbError {
    move |source| VerbError::System { what, source }
}

/// The folder of the appliance that is meant.
fn place(which: &Which) -> Result<Place, VerbError> {
    let dir = match &which.dir {
        Some(dir) => dir.clone(),
        None => Place::default_dir(&which.name)?,
    };
    let place = Place::at(&dir)?;
    place.check()?;
    Ok(place)
}

/// Runs a verb that waits for several things at once.
fn block_on<T>(work: impl Future<Output = Result<T, VerbError>>) -> Result<T, VerbError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(system("start the runtime"))?.block_on(work)
}
