//! The data disk: found, made if it is blank, repaired if it must be, mounted, grown to the device's size.
//!
//! ```text
//!             Blank ─────┐                         ┌─ repair ◄─┐ fails, or finds a fault
//!                        ├─► write the template ─┐ ▼           │
//!   look ──── Unfinished ┘                       ├─► mount ────┴─► grow
//!        ──── Ours ──────────────────────────────┘
//!        ──── anything else: refused, never written to
//! ```

mod contents;
mod find;
mod identity;
mod repair;
mod template;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::paths::{DATA, DATA_TEMPLATE, E2FSCK};
use rustix::fs::OFlags;
use rustix::mount::{MountFlags, UnmountFlags, mount as mount_fs, mount_remount, unmount as unmount_fs};

use crate::messages::{chain, say};

use super::{BootError, Machine, root};
use contents::Contents;
use identity::Identity;
use repair::RepairError;
use template::{Device, TemplateError};

/// Bytes of a block of the file system.
const BLOCK: u64 = 4096;

/// Why there is no data disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The settings say nothing.
    #[error("no data disk is named: pass data=SERIAL or data=/dev/NAME")]
    Unnamed,
    /// No such device.
    #[error("data disk {wanted} is not there after {seconds} s: attach it, or correct data=")]
    Missing {
        /// As the settings name it.
        wanted: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Two devices.
    #[error(
        "data disk {wanted} is there twice, as {first} and {second}: detach one, or name the other by data=/dev/NAME"
    )]
    Twice {
        /// As the settings name it.
        wanted: String,
        /// A device file.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// Somebody else's.
    #[error("data disk {device} holds {what} and is left alone: attach an empty disk")]
    Foreign {
        /// Its device file.
        device: PathBuf,
        /// What was found.
        what: &'static str,
    },
    /// The device failed.
    #[error("cannot read data disk {device}")]
    Read {
        /// Its device file.
        device: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// The template could not be put on it.
    #[error("cannot make a file system on data disk {device}")]
    Make {
        /// Its device file.
        device: PathBuf,
        /// Why.
        source: TemplateError,
    },
    /// The program that repairs could not, or could not be started.
    #[error("cannot repair data disk {device}")]
    Repair {
        /// Its device file.
        device: PathBuf,
        /// Why.
        source: RepairError,
    },
    /// The file system is broken beyond repair, or the device failed.
    #[error("cannot mount data disk {device}")]
    Mount {
        /// Its device file.
        device: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
}

/// How long a device is waited for where the settings say nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// The whole way.
pub fn mount(machine: &mut Machine) -> Result<(), BootError> {
    let wanted = machine.settings.data.clone().ok_or(DiskError::Unnamed)?;
    let patience = machine.settings.data_wait.map_or(PATIENCE, |seconds| Duration::from_secs(seconds.into()));
    let device = find::wait(&wanted, patience)?;
    let blocks = mount_sound(&device)?;
    if let Err(error) = grow(&device, blocks) {
        say!("data disk {} could not be grown: {error}", device.display());
    }
    // The programs for a disk that is blank or broken are memory.
    let rootfs = machine.rootfs.as_ref().map(AsFd::as_fd);
    [DATA_TEMPLATE, E2FSCK].iter().for_each(|path| root::forget(rootfs, Path::new(path)));
    Ok(())
}

/// Mounts it, repaired where it must be; returns its size in blocks.
///
/// A fault that the kernel met in an earlier boot may be known to the journal alone: then the mount succeeds, and writes
/// it into the super block.
fn mount_sound(device: &Path) -> Result<u64, DiskError> {
    let mount = || {
        mount_fs(device, DATA, "ext4", MountFlags::NOATIME, c"discard,errors=remount-ro")
            .map_err(|error| DiskError::Mount { device: device.to_owned(), source: error.into() })
    };
    let found = prepare(device)?;
    if !found.broken {
        match mount() {
            Ok(()) if !prepare(device)?.broken => return Ok(found.blocks),
            Ok(()) => unmount_data(),
            Err(error) => say!("{}", chain(&error)),
        }
    }
    say!("data disk {} is repaired: this may take a while", device.display());
    repair::run(device).map_err(|source| DiskError::Repair { device: device.to_owned(), source })?;
    let found = prepare(device)?;
    mount().map(|()| found.blocks)
}

/// A disk with our file system.
struct Found {
    blocks: u64,
    broken: bool,
}

/// Makes a file system where there is none.
fn prepare(device: &Path) -> Result<Found, DiskError> {
    let unreadable = |source| DiskError::Read { device: device.to_owned(), source };
    match contents::look(&File::open(device).map_err(unreadable)?).map_err(unreadable)? {
        Contents::Ours { blocks, broken } => Ok(Found { blocks, broken }),
        Contents::Other(what) => Err(DiskError::Foreign { device: device.to_owned(), what }),
        Contents::Blank | Contents::Unfinished => {
            say!("data disk {} is blank: making its file system", device.display());
            let made = make(device);
            let blocks = made.map_err(|source| DiskError::Make { device: device.to_owned(), source })?;
            Ok(Found { blocks, broken: false })
        }
    }
}

fn make(device: &Path) -> Result<u64, TemplateError> {
    let template = File::open(DATA_TEMPLATE).map_err(|source| TemplateError::Template { source })?;
    // O_EXCL: not one that is mounted, or part of something larger (open(2), "block devices").
    let exclusive = OFlags::EXCL.bits().cast_signed();
    let disk = File::options().read(true).write(true).custom_flags(exclusive).open(device);
    let mut disk = Device::new(disk.map_err(|source| TemplateError::Disk { source })?);
    let identity = Identity::random().map_err(|source| TemplateError::Random { source })?;
    template::write(io::BufReader::new(template), &mut disk, &identity)
}

/// The mounted file system of `blocks` blocks gets all of the device.
fn grow(device: &Path, blocks: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom};
    let size = File::open(device)?.seek(SeekFrom::End(0))?;
    if size / BLOCK > blocks {
        sys::block::grow_ext4(File::open(DATA)?.as_fd(), size / BLOCK)?;
    }
    Ok(())
}

/// How often and after what pause an unmount is tried: a process that was just killed takes a moment to let go.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// All that was written is on the disk when this returns, unless it says otherwise.
pub fn unmount(_: &mut Machine) {
    unmount_data();
}

fn unmount_data() {
    for _ in 0..TRIES {
        match unmount_fs(DATA, UnmountFlags::empty()) {
            Ok(()) => return,
            Err(rustix::io::Errno::BUSY) => std::thread::sleep(PAUSE),
            Err(error) => return say!("cannot unmount {DATA}: {error}"),
        }
    }
    say!("{DATA} is still in use: making it read-only");
    if let Err(error) = mount_remount(DATA, MountFlags::RDONLY, "") {
        say!("cannot make {DATA} read-only: {error}; its journal is replayed at the next boot");
    }
}
