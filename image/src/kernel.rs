//! The kernel of an unpacked package: its image, its release and its modules.

use crate::modules::Library;
use std::io;
use std::path::{Path, PathBuf};

/// Why an unpacked package is not a kernel we can use.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No `boot/vmlinuz-RELEASE`.
    #[error("no kernel image below {folder}")]
    NoImage {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A file or folder could not be read.
    #[error("cannot read {path}")]
    Read {
        /// What was read.
        path: PathBuf,
        /// From the file system.
        source: io::Error,
    },
}

/// A kernel and what belongs to it.
pub struct Kernel {
    /// As `uname -r` will print.
    pub release: String,
    /// The bzImage.
    pub image: Vec<u8>,
    /// The modules that can be loaded into it.
    pub library: Library,
}

impl Kernel {
    /// Reads the kernel of a package unpacked at `root`.
    pub fn read(root: &Path) -> Result<Kernel, KernelError> {
        let boot = root.join("boot");
        let (path, release) = image(&boot)?.ok_or(KernelError::NoImage { folder: boot })?;
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| KernelError::Read { path: path.to_owned(), source })
        };
        let image = read(&path)?;
        let modules = root.join("lib/modules").join(&release);
        let library =
            Library::read(&modules).map_err(|source| KernelError::Read { path: modules, source })?;
        Ok(Kernel { release, image, library })
    }
}

fn image(boot: &Path) -> Result<Option<(PathBuf, String)>, KernelError> {
    let entries = std::fs::read_dir(boot)
        .map_err(|source| KernelError::Read { path: boot.to_owned(), source })?
        .filter_map(Result::ok);
    let mut images = entries.filter_map(|entry| {
        let release = entry.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned();
        Some((entry.path(), release))
    });
    Ok(images.next())
}
