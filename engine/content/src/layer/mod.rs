//! A layer: a tar stream from a stranger, written as one directory that overlayfs can use as a lower layer.
//!
//! The stream is hostile until proven otherwise. Nothing is ever opened by path from our own root: every name
//! is cleaned of `..`, its folder is resolved by the kernel inside the layer's root (openat2(2)
//! `RESOLVE_IN_ROOT`), and what is made there is made by its last component, without following a link.
//!
//! ```text
//!   compressed bytes ─► decompress ─► archive (headers, PAX, GNU names) ─► apply (one entry) ─► tree (dirfds)
//!                                        │
//!                                        └► sha256 = diff id
//! ```
//!
//! Deletions become what overlayfs understands: `.wh.NAME` a character device 0:0, `.wh..wh..opq` the xattr
//! `trusted.overlay.opaque` (Documentation/filesystems/overlayfs.rst). Holes of files stay holes.

mod apply;
mod archive;
mod name;
mod pax;
mod sparse;
#[cfg(test)]
mod tests;
mod tree;
mod unpack;

use std::io;

use runtime::ids::{IdMap, NotMapped};

pub use apply::{Refused, create, set_metadata, times, tolerate, xattrs};
pub use archive::{Archive, Kind, Member};
pub use name::{clean, split};
pub use tree::remove_tree;
pub use tree::scratch_name;
pub use unpack::decompressor;
pub use unpack::{Unpacked, unpack};

/// Why a layer was refused or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The archive breaks its format.
    #[error("invalid tar header: {0}")]
    Malformed(&'static str),
    /// A name or the target of a hard link leaves the layer.
    #[error("{0:?} is outside of the layer")]
    Outside(String),
    /// A member of a kind we do not write.
    #[error("{path:?}: unhandled tar header type {kind:?}")]
    Kind {
        /// The member.
        path: String,
        /// Its type flag.
        kind: char,
    },
    /// It asks for something that its user does not want.
    #[error("{0}")]
    Refused(String),
    /// Reading the compressed or the plain stream failed.
    #[error("cannot read the layer: {0}")]
    Read(#[source] io::Error),
    /// A member could not be made on disk.
    #[error("{path:?}: {source}")]
    Write {
        /// The member.
        path: String,
        /// What the kernel says.
        source: io::Error,
    },
}

impl Member {
    /// Its owner's ids, which are the container's, become the machine's.
    pub fn belong(&mut self, ids: IdMap) -> Result<(), LayerError> {
        let refused = |error: NotMapped| LayerError::Refused(error.to_string());
        self.uid = ids.to_host(self.uid).map_err(refused)?;
        self.gid = ids.to_host(self.gid).map_err(refused)?;
        Ok(())
    }
}

impl LayerError {
    /// For `map_err`.
    pub fn write(path: &[u8], source: impl Into<io::Error>) -> LayerError {
        LayerError::Write { path: String::from_utf8_lossy(path).into_owned(), source: source.into() }
    }
}
