//! The boot: a list of named phases, each with its undo beside it. Phases that were done are undone in reverse
//! order when a later one fails, and at power off.
//!
//! Nothing here waits for the network or loads what only containers need: that happens beside the running
//! engine.

mod cgroups;
mod devices;
pub mod disk;
mod identity;
mod kernel_settings;
pub mod modules;
mod mounts;
mod phase;
mod root;
mod sockets;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use contract::settings::{Backend, Settings};

pub use phase::{Done, FailedPhase};
use phase::{Phase, Place};
pub use sockets::Sockets;

use crate::messages::say;
use disk::DiskError;

/// What the phases work on and leave behind.
#[derive(Debug)]
pub struct Machine {
    /// The settings of this boot.
    pub settings: Settings,
    /// The initramfs as it was unpacked, writable, which no path reaches any more.
    pub rootfs: Option<OwnedFd>,
    /// The listening sockets.
    pub sockets: Option<Sockets>,
}

/// Every phase, in order. Where the undo is [`phase::nothing`], power off or the end of the namespaces undoes it.
const PHASES: &[Phase<Machine, BootError>] = &[
    Phase { name: "root", place: Place::Vm, run: root::leave_initramfs, undo: phase::nothing },
    Phase { name: "mounts", place: Place::Both, run: mounts::mount_all, undo: phase::nothing },
    Phase { name: "devices", place: Place::Both, run: devices::make, undo: phase::nothing },
    Phase { name: "kernel settings", place: Place::Both, run: kernel_settings::write, undo: phase::nothing },
    Phase { name: "kernel modules", place: Place::Vm, run: modules::load_boot, undo: phase::nothing },
    // Loopback goes first: to a kernel without any address each one is a broadcast, and a datagram's socket forgets it.
    Phase { name: "identity", place: Place::Both, run: identity::set, undo: phase::nothing },
    // As early as there is vsock: the host, which asks from the machine's first moment on, then waits in the queue.
    Phase { name: "sockets", place: Place::Both, run: sockets::listen, undo: sockets::remove },
    Phase { name: "cgroups", place: Place::Both, run: cgroups::make, undo: phase::nothing },
    Phase { name: "data disk", place: Place::Vm, run: disk::mount, undo: disk::unmount },
    Phase { name: "seal", place: Place::Vm, run: root::seal, undo: phase::nothing },
];

/// Why a phase failed.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A mount.
    #[error("cannot mount {target}")]
    Mount {
        /// Where.
        target: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// A file or folder could not be made or written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// The kernel refused a module.
    #[error("cannot load kernel module {path}")]
    Module {
        /// Its file.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// A kernel call without a path.
    #[error("cannot {what}")]
    Call {
        /// What was tried.
        what: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// The data disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Runs the phases that apply.
pub fn boot(machine: &mut Machine) -> Result<Done<Machine, BootError>, FailedPhase<BootError>> {
    let vm = machine.settings.backend == Backend::Vm;
    let talkative = matches!(machine.settings.log.as_deref(), Some("debug" | "trace"));
    phase::run(PHASES.iter().filter(|phase| phase.place.applies(vm)), machine, |name, time| {
        if talkative {
            say!("phase {name}: {} us", time.as_micros());
        }
    })
}
