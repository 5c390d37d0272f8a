//! How much disk a container takes.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::container::Container;
use super::registry::Containers;

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
        let writable = walk(&container.folder.join("upper"), &mut HashSet::new());
        Size { writable, total: writable + image.map_or(0, |image| image.size) }
    }
}

/// Sum of the files' lengths, as dockerd counts; a file with several names counts once.
fn walk(folder: &Path, seen: &mut HashSet<u64>) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            sum += walk(&entry.path(), seen);
        } else if meta.is_file() && (meta.nlink() == 1 || seen.insert(meta.ino())) {
            sum += meta.len();
        }
    }
    sum
}
