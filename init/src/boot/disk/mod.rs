//! The data disk: found, made if it is blank, mounted, grown to the device's size.
//!
//! ```text
//!             Blank ─────┐
//!                        ├─► write the template ─┐
//!   look ──── Unfinished ┘                       ├─► mount ─► grow
//!        ──── Ours ──────────────────────────────┘
//!        ──── anything else: refused, never written to
//! ```

mod contents;
mod find;
mod template;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::paths::{DATA, DATA_TEMPLATE};
use rustix::mount::{MountFlags, UnmountFlags, mount as mount_fs, mount_remount, unmount as unmount_fs};

use crate::messages::say;

use super::{BootError, Machine};
use contents::Contents;
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
    /// The file system is broken beyond what its journal repairs, or the device failed.
    #[error("cannot mount data disk {device}")]
    Mount {
        /// Its device file.
        device: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
}

/// The whole way.
pub fn mount(machine: &mut Machine) -> Result<(), BootError> {
    let wanted = machine.settings.data.clone().ok_or(DiskError::Unnamed)?;
    let device = find::wait(&wanted)?;
    let blocks = prepare(&device)?;
    mount_fs(&device, DATA, "ext4", MountFlags::NOATIME, c"discard,errors=remount-ro")
        .map_err(|error| DiskError::Mount { device: device.clone(), source: error.into() })?;
    if let Err(error) = grow(&device, blocks) {
        say!("data disk {} could not be grown: {error}", device.display());
    }
    Ok(())
}

/// Makes a file system where there is none; returns its size in blocks.
fn prepare(device: &Path) -> Result<u64, DiskError> {
    let unreadable = |source| DiskError::Read { device: device.to_owned(), source };
    match contents::look(&File::open(device).map_err(unreadable)?).map_err(unreadable)? {
        Contents::Ours { blocks } => Ok(blocks),
        Contents::Other(what) => Err(DiskError::Foreign { device: device.to_owned(), what }),
        Contents::Blank | Contents::Unfinished => {
            say!("data disk {} is blank: making its file system", device.display());
            make(device).map_err(|source| DiskError::Make { device: device.to_owned(), source })
        }
    }
}

fn make(device: &Path) -> Result<u64, TemplateError> {
    let template = File::open(DATA_TEMPLATE).map_err(|source| TemplateError::Template { source })?;
    let disk = File::options().read(true).write(true).open(device);
    template::write(
        io::BufReader::new(template),
        &mut Device::new(disk.map_err(|source| TemplateError::Disk { source })?),
    )
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
