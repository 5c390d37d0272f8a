//! The ways to run one appliance, behind one pair of traits.
//!
//! A [`Backend`] starts a boot; a [`Machine`] is that boot until it ends. Neither knows the Docker API: they give
//! streams to ports of the guest, and say how the guest ended.

pub mod initramfs;
#[cfg(target_os = "linux")]
pub mod namespace;
#[cfg(target_os = "linux")]
pub mod qemu;

use crate::console::Consoles;
use crate::order::{BackendKind, Order};
use crate::place::Place;
use crate::stream::Stream;
use futures_util::future::BoxFuture;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// What can be dialled in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The Docker Engine API.
    Api,
    /// `init`'s control lines.
    Control,
    /// The engine's host door.
    Door,
    /// The streams of published ports.
    Carrier,
}

/// How a boot ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The guest switched itself off.
    PoweredOff,
    /// The guest wants to start again.
    Reset,
    /// The guest ended itself because it could not go on.
    GaveUp(String),
    /// The machine is gone, and this is all that is known.
    Died(String),
}

/// Why a boot did not begin.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// A file of the image is not there or cannot be read.
    #[error("cannot read {path}: name the folder of vmlinuz and initramfs.zst with --image")]
    Image {
        /// The file.
        path: PathBuf,
        /// From the file system.
        source: io::Error,
    },
    /// A file of the image is something else.
    #[error("{path} is not {what}: make the image again or name another with --image")]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
    /// The data disk cannot be used.
    #[error("the data disk {path} {problem}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What is wrong and what helps.
        problem: &'static str,
    },
    /// The data disk cannot be made or opened.
    #[error("cannot use the data disk {path}: name another file with --disk")]
    DiskFile {
        /// The file.
        path: PathBuf,
        /// From the file system.
        source: io::Error,
    },
    /// No machine can be run here.
    #[error("the {backend} backend has no way into its guest on {system} yet: run pinnace on Linux")]
    #[cfg_attr(target_os = "linux", expect(dead_code, reason = "Linux has every backend"))]
    NotHere {
        /// What was ordered.
        backend: &'static str,
        /// This host's system.
        system: &'static str,
    },
    /// QEMU is not installed.
    #[error("qemu-system-x86_64 is not installed: apt-get install qemu-system-x86")]
    NoQemu,
    /// QEMU ended before it ran.
    #[error("QEMU did not start: {text}")]
    Qemu {
        /// The last thing it said.
        text: String,
    },
    /// Too long settings.
    #[error("the kernel takes {max} bytes of settings and these have {bytes}")]
    CommandLine {
        /// Length of the command line.
        bytes: usize,
        /// The kernel's limit.
        max: usize,
    },
    /// Not root.
    #[error("the namespace backend needs root: run it with sudo or use --backend qemu")]
    NotRoot,
    /// A host tool failed.
    #[error("{tool} failed: {text}")]
    Tool {
        /// The program and what it was to do.
        tool: String,
        /// Its last line.
        text: String,
    },
    /// The kernel refused something.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: String,
        /// From the kernel.
        source: io::Error,
    },
}

impl BackendError {
    /// For `map_err`: names what was tried.
    pub fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> BackendError {
        let what = what.into();
        move |source| BackendError::System { what, source: source.into() }
    }
}

/// The way into one boot's guest.
pub trait Link: Send + Sync {
    /// A stream to a port; refused where nobody listens.
    fn dial(&self, port: Port) -> BoxFuture<'_, io::Result<Stream>>;
}

/// Starts boots of one appliance.
pub trait Backend: Send {
    /// For people: `qemu (tcg)`.
    fn name(&self) -> String;

    /// Starts a boot. Where it fails, nothing is left behind.
    fn start<'a>(
        &'a mut self,
        consoles: &'a Consoles,
    ) -> BoxFuture<'a, Result<Box<dyn Machine>, BackendError>>;
}

/// One boot, from its start to its end.
pub trait Machine: Send {
    /// The way into this boot's guest.
    fn link(&self) -> Arc<dyn Link>;

    /// QEMU's process, or PID 1 as this host sees it.
    fn pid(&self) -> u32;

    /// By which address the guest reaches this host.
    fn host_address(&self) -> Option<Ipv4Addr>;

    /// The guest has a clock of its own that must be set.
    fn has_own_clock(&self) -> bool;

    /// Why it stands still, as that changes; nothing for machines that never do.
    fn pauses(&self) -> Option<watch::Receiver<Option<String>>> {
        None
    }

    /// Counts changes on this host of the folders that the guest has; nothing where its kernel sees them by itself.
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// Waits for the end; may be dropped and called again.
    fn wait(&mut self) -> BoxFuture<'_, Ended>;

    /// Asks a guest that does not hear the control lines to power off.
    fn press_power_button(&mut self) -> BoxFuture<'_, ()>;

    /// Ends it now and removes all it needed. Also called after [`Machine::wait`] told the end.
    fn destroy(&mut self) -> BoxFuture<'_, ()>;
}

/// The backend that was ordered, after its needs were looked at.
#[cfg(target_os = "linux")]
pub fn prepare(order: &Order, place: &Place) -> Result<Box<dyn Backend>, BackendError> {
    Ok(match order.backend {
        BackendKind::Qemu => Box::new(qemu::Qemu::prepare(order, place)?),
        BackendKind::Namespace => Box::new(namespace::Namespaces::prepare(order, place)?),
    })
}

/// QEMU runs on other systems too, but the way into its guest is a vsock device of ours, over vhost-user, which QEMU has on
/// Linux alone.
#[cfg(not(target_os = "linux"))]
pub fn prepare(order: &Order, _place: &Place) -> Result<Box<dyn Backend>, BackendError> {
    Err(BackendError::NotHere { backend: order.backend.word(), system: std::env::consts::OS })
}

/// Removes what a bridge that was killed could not remove itself.
pub fn sweep(place: &Place) {
    #[cfg(target_os = "linux")]
    namespace::sweep(place);
    #[cfg(not(target_os = "linux"))]
    let _ = place;
}

/// Everything that boots put into an appliance's folder.
pub fn leftovers(place: &Place) -> Vec<PathBuf> {
    #[cfg(target_os = "linux")]
    return qemu::unpacked::files(place).into_iter().chain(namespace::folders(place)).collect();
    #[cfg(not(target_os = "linux"))]
    vec![place.disk()]
}
