//! A new volume gets what the image has in its place.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use content::archive::copy::copy_tree;
use runtime::volume::{Access, How};
use rustix::fs::{Mode, OFlags, openat};
use sys::mounts::Propagation;

use super::Volumes;
use super::error::VolumeError;

/// Another one's folder is written to as it is.
const HOW: How = How { access: Access::Write, recursive: false, propagation: Propagation::Private };

impl Volumes {
    /// Copies the folder `from` into a volume that is empty, with its owner and mode; durable when this returns. The caller has
    /// a claim on the volume. Blocks.
    ///
    /// # Errors
    /// The disk is full, or the volume cannot be mounted.
    pub fn populate(&self, name: &str, from: BorrowedFd<'_>) -> Result<(), VolumeError> {
        let volume = self.get(name)?;
        let failed = |error: io::Error| VolumeError::machine(format!("copy into volume {name}"))(error);
        if !volume.options.is_empty() {
            let mount = self.mount(name, Path::new(""), HOW, None)?;
            return copy_in_place(&mount, from).map_err(failed);
        }
        let _changing = self.shared.change();
        let data = File::open(&volume.mountpoint).map_err(failed)?;
        if self.shared.claimed(name) > 1 || !self.users(name)?.is_empty() {
            // Somebody has the folder mounted, or is about to.
            return copy_in_place(&data.into(), from).map_err(failed);
        }
        if !is_empty(&data).map_err(failed)? {
            return Ok(());
        }
        // A power cut must not leave a half of it, which the next container would take for all.
        let made = self.shared.disk.beside().map_err(failed)?;
        let copied = File::open(&made).and_then(|to| copy_tree(from, to.as_fd()));
        let done = copied.and_then(|_| self.shared.disk.replace(name, &made));
        done.map_err(|error| {
            self.shared.disk.delete(&made);
            failed(error)
        })
    }
}

fn copy_in_place(to: &OwnedFd, from: BorrowedFd<'_>) -> io::Result<()> {
    let folder = openat(to, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    if is_empty(&folder)? && copy_tree(from, folder.as_fd())? {
        rustix::fs::syncfs(&folder)?;
    }
    Ok(())
}

fn is_empty(folder: impl AsFd) -> io::Result<bool> {
    for entry in rustix::fs::Dir::read_from(folder)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}
