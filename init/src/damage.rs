//! Whether the file system of the data disk found itself damaged. It is mounted with `errors=remount-ro`, so from then on
//! nothing can be written to it until the machine boots, and somebody should be told.
//!
//! ext4 counts its errors in /sys/fs/ext4/DEVICE/errors_count (Documentation/ABI/testing/sysfs-fs-ext4). With `remount-ro` it
//! wakes nobody who polls that file, so it is looked at whenever the host says something.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use contract::paths::DATA;
use rustix::fs::{major, minor};

use crate::messages::say;

/// See the module.
#[derive(Debug)]
pub struct Damage {
    errors: File,
    /// Those of earlier boots are counted, too.
    at_boot: u64,
    told: bool,
}

impl Damage {
    /// Watches the data disk from now on; `None` where it cannot be.
    pub fn watch() -> Option<Damage> {
        let watched = || {
            let device = std::fs::metadata(DATA)?.dev();
            let name = std::fs::read_link(format!("/sys/dev/block/{}:{}", major(device), minor(device)))?;
            let name = name.file_name().ok_or(io::ErrorKind::NotFound)?.to_owned();
            let errors = File::open(Path::new("/sys/fs/ext4").join(name).join("errors_count"))?;
            let at_boot = count(&errors)?;
            Ok::<_, io::Error>(Damage { errors, at_boot, told: false })
        };
        watched().map_err(|error| say!("errors of the data disk are not seen: {error}")).ok()
    }

    /// Whether the data can be read only.
    pub fn found(&self) -> bool {
        // A device that is gone is damage enough.
        count(&self.errors).map_or(true, |now| now > self.at_boot)
    }

    /// The same, but true only once.
    pub fn is_news(&mut self) -> bool {
        self.found() && !std::mem::replace(&mut self.told, true)
    }
}

fn count(errors: &File) -> io::Result<u64> {
    let mut text = [0; 24];
    let length = errors.read_at(&mut text, 0)?;
    let text = std::str::from_utf8(&text[..length]).map_err(io::Error::other)?;
    text.trim().parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_errors_are_news_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("errors_count");
        std::fs::write(&path, "2\n").unwrap();
        let errors = File::open(&path).unwrap();
        let mut damage = Damage { at_boot: count(&errors).unwrap(), errors, told: false };
        assert!(!damage.is_news() && !damage.found());
        std::fs::write(&path, "3\n").unwrap();
        assert!(damage.is_news() && damage.found());
        assert!(!damage.is_news() && damage.found());
    }
}
