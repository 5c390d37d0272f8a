//! One layer: a tar archive, its digest packed and unpacked.

use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::io::Write;
use tar::{Builder, EntryType, Header};

/// A layer as a registry keeps it.
#[derive(Clone)]
pub struct Layer {
    /// Packed bytes.
    pub bytes: Vec<u8>,
    /// Digest of the packed bytes.
    pub digest: String,
    /// Digest of the plain tar.
    pub diff_id: String,
    /// How it is packed.
    pub compression: Compression,
}

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// gzip
    Gzip,
    /// zstd
    Zstd,
}

/// A file tree being written as a tar archive, entry after entry.
pub struct Tree {
    tar: Builder<Vec<u8>>,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree { tar: Builder::new(Vec::new()) }
    }
}

impl Tree {
    /// A folder of mode 0755.
    pub fn folder(self, path: &str) -> Tree {
        self.entry(EntryType::Directory, &format!("{path}/"), 0o755, None, b"")
    }

    /// A folder or a file that belongs to somebody else than root.
    pub fn of(mut self, (uid, gid): (u64, u64), path: &str, mode: u32, content: Option<&[u8]>) -> Tree {
        let kind = if content.is_some() { EntryType::Regular } else { EntryType::Directory };
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_size(content.unwrap_or_default().len() as u64);
        header.set_mtime(1_700_000_000);
        self.tar.append_data(&mut header, path, content.unwrap_or_default()).expect("writing to memory");
        self
    }

    /// A file.
    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Tree {
        self.entry(EntryType::Regular, path, mode, None, content)
    }

    /// A symbolic link.
    pub fn link(self, path: &str, target: &str) -> Tree {
        self.entry(EntryType::Symlink, path, 0o777, Some(target), b"")
    }

    /// A hard link.
    pub fn hard_link(self, path: &str, target: &str) -> Tree {
        self.entry(EntryType::Link, path, 0o755, Some(target), b"")
    }

    /// Removes what lower layers have at `folder/name` (OCI image specification, layer.md, "Whiteouts").
    pub fn without(self, folder: &str, name: &str) -> Tree {
        self.file(&format!("{folder}/.wh.{name}"), 0o644, b"")
    }

    /// Hides what lower layers have in `folder` (same chapter, "Opaque Whiteout").
    pub fn opaque(self, folder: &str) -> Tree {
        self.file(&format!("{folder}/.wh..wh..opq"), 0o644, b"")
    }

    fn entry(mut self, kind: EntryType, path: &str, mode: u32, target: Option<&str>, content: &[u8]) -> Tree {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_mtime(1_700_000_000);
        let done = match target {
            Some(target) => self.tar.append_link(&mut header, path, target),
            None => self.tar.append_data(&mut header, path, content),
        };
        done.expect("writing to memory");
        self
    }

    /// The layer.
    pub fn finish(self, compression: Compression) -> Layer {
        Layer::pack(&self.tar.into_inner().expect("writing to memory"), compression)
    }
}

impl Layer {
    /// Packs a tar archive.
    pub fn pack(tar: &[u8], compression: Compression) -> Layer {
        let bytes = match compression {
            Compression::Gzip => {
                let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packed.write_all(tar).and_then(|()| packed.finish()).expect("writing to memory")
            }
            Compression::Zstd => zstd::encode_all(tar, 3).expect("writing to memory"),
        };
        Layer { digest: digest(&bytes), diff_id: digest(tar), bytes, compression }
    }
}

/// `sha256:` and the digest in hex.
pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}
