//! How much disk a container takes.

// All of it runs on a file worker.
#![allow(clippy::disallowed_methods)]

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat, statat};

use super::container::Container;
use super::registry::Containers;
use content::archive::share::Share;
use content::archive::walk::{Onward, walk};

/// Bytes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Written by the container.
    pub writable: u64,
    /// Together with its image.
    pub total: u64,
}

impl Containers {
    /// Measures a container. Blocks: it walks the writable folder.
    pub fn size(&self, container: &Container) -> Size {
        let image = self.shared.images.resolve(&container.record().image_id);
        let writable = of_folder(&container.folder.join("upper"));
        Size { writable, total: writable + image.map_or(0, |image| image.size) }
    }
}

/// What an inode among those with several names takes, in bytes.
const SEEN_COST: usize = 32;

/// Sum of the files' lengths, as dockerd counts; a file with several names counts once. Where there are too many of these to
/// remember, each name counts for its part. What cannot be read (any more), or
/// is deeper than any path leads, is left out.
pub(super) fn of_folder(folder: &Path) -> u64 {
    let (mut sum, mut seen, mut share) = (0, HashSet::new(), Share::default());
    let Ok(top) = std::fs::File::open(folder) else { return 0 };
    let walked = walk(top.as_fd(), |met| {
        let Ok(meta) = statat(met.folder, met.name, AtFlags::SYMLINK_NOFOLLOW) else {
            return Ok(Onward::Past);
        };
        match FileType::from_raw_mode(meta.st_mode) {
            FileType::Directory => return Ok(Onward::Into),
            FileType::RegularFile if meta.st_nlink == 1 => sum += meta.st_size.cast_unsigned(),
            FileType::RegularFile if seen.contains(&meta.st_ino) => {}
            FileType::RegularFile => match share.grow(SEEN_COST) {
                Ok(()) => {
                    seen.insert(meta.st_ino);
                    sum += meta.st_size.cast_unsigned();
                }
                Err(_) => sum += meta.st_size.cast_unsigned() / links(&meta),
            },
            _ => {}
        }
        Ok(Onward::Past)
    });
    if let Err(error) = walked {
        tracing::warn!(folder = %folder.display(), %error, "a container's files are not all counted");
    }
    sum
}
/// How many names a file has; the field is shorter on other processors.
#[allow(clippy::unnecessary_cast)]
fn links(meta: &Stat) -> u64 {
    meta.st_nlink.max(1) as u64
}
