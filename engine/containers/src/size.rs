//! How much disk a container takes.

// All of it runs on a file worker.
#![allow(clippy::disallowed_methods)]

use std::os::fd::AsFd;
use std::path::Path;

use super::container::Container;
use super::registry::Containers;
use content::archive::size;

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

/// What cannot be read (any more) is left out.
pub(super) fn of_folder(folder: &Path) -> u64 {
    let Ok(top) = std::fs::File::open(folder) else { return 0 };
    size::of_tree(top.as_fd()).unwrap_or_else(|(sum, error)| {
        tracing::warn!(folder = %folder.display(), %error, "a container's files are not all counted");
        sum
    })
}
