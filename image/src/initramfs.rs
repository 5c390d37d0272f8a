//! A root tree as the kernel's initramfs: `newc` cpio in one zstd frame
//! (Documentation/driver-api/early-userspace/buffer-format).

use crate::tree::{Node, Tree};
use cpio::newc;
use std::io::{self, Write};

/// Strongest level whose window (8 MiB) every kernel with RD_ZSTD takes.
const LEVEL: i32 = 19;

/// Why the initramfs was not made.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// A file is larger than the format can say.
    #[error("{path} has {bytes} bytes: an initramfs holds files below 4 GiB")]
    TooLarge {
        /// Path in the tree.
        path: String,
        /// Its size.
        bytes: usize,
    },
    /// The compressor or the archive writer failed.
    #[error("cannot write the initramfs")]
    Write(#[from] io::Error),
}

/// What else than the tree decides which bytes come out.
pub fn form() -> String {
    format!("newc, zstd {} at {LEVEL}", zstd::zstd_safe::version_string())
}

/// The compressed archive. The same tree gives the same bytes.
pub fn pack(tree: &Tree) -> Result<Vec<u8>, InitramfsError> {
    let mut out = zstd::Encoder::new(Vec::new(), LEVEL)?;
    for (ino, (path, node)) in (1..).zip(tree.entries()) {
        entry(&mut out, ino, path, node)?;
    }
    newc::trailer(&mut out)?;
    Ok(out.finish()?)
}

fn entry(out: &mut impl Write, ino: u32, path: &str, node: &Node) -> Result<(), InitramfsError> {
    let (kind, mode, nlink, bytes) = match node {
        Node::Folder { mode } => (newc::ModeFileType::Directory, *mode, 2, &[][..]),
        Node::File { mode, bytes } => (newc::ModeFileType::Regular, *mode, 1, bytes.as_slice()),
        Node::Link { target } => (newc::ModeFileType::Symlink, 0o777, 1, target.as_bytes()),
    };
    let size = u32::try_from(bytes.len())
        .map_err(|_| InitramfsError::TooLarge { path: path.to_owned(), bytes: bytes.len() })?;
    let header = newc::Builder::new(path).ino(ino).mode(mode).nlink(nlink).set_mode_file_type(kind);
    let mut writer = header.write(out, size);
    writer.write_all(bytes)?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.folder("/tmp", 0o1777);
        tree.file("/sbin/engined", 0o755, "engine");
        tree.link("/var/run", "/run");
        tree
    }

    #[test]
    fn packed_twice_is_the_same() {
        assert_eq!(pack(&tree()).unwrap(), pack(&tree()).unwrap());
    }

    #[test]
    fn what_was_packed_can_be_read() {
        let packed = pack(&tree()).unwrap();
        let mut archive = &zstd::decode_all(packed.as_slice()).unwrap()[..];
        let mut seen = Vec::new();
        loop {
            let mut reader = newc::Reader::new(archive).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            let entry = reader.entry();
            assert_eq!((entry.uid(), entry.gid(), entry.mtime()), (0, 0, 0));
            seen.push(format!("{:o} {} {text}", entry.mode(), entry.name()));
            archive = reader.finish().unwrap();
        }
        let want =
            ["40755 sbin ", "100755 sbin/engined engine", "41777 tmp ", "40755 var ", "120777 var/run /run"];
        assert_eq!(seen, want);
    }
}
