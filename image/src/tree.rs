//! The root tree as data: paths, modes and bytes, nothing that would differ between two builds.

use crate::manifest::hex;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// One thing at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Folder {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// What it holds.
        bytes: Vec<u8>,
    },
    /// A symbolic link.
    Link {
        /// Where it points.
        target: String,
    },
}

/// A root tree; owners are root, times are 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, Node>);

impl Tree {
    /// Puts a folder, and its parents where they are missing.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.put(path, Node::Folder { mode });
    }

    /// Puts a file, and its parents where they are missing.
    pub fn file(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) {
        self.put(path, Node::File { mode, bytes: bytes.into() });
    }

    /// Puts a link, and its parents where they are missing.
    pub fn link(&mut self, path: &str, target: &str) {
        self.put(path, Node::Link { target: target.to_owned() });
    }

    /// Everything, parents first, without leading slashes.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Changes with every path, mode and byte.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for (path, node) in self.entries() {
            let (kind, mode, bytes) = match node {
                Node::Folder { mode } => ("folder", *mode, &[][..]),
                Node::File { mode, bytes } => ("file", *mode, bytes.as_slice()),
                Node::Link { target } => ("link", 0, target.as_bytes()),
            };
            digest.update(format!("{kind} {mode:o} {} {path}\0", bytes.len()));
            digest.update(bytes);
        }
        hex(&digest.finalize())
    }

    fn put(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/') {
            self.0.entry(path[..end].to_owned()).or_insert(Node::Folder { mode: 0o755 });
        }
        self.0.insert(path.to_owned(), node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_what_is_in_them_and_every_change_shows() {
        let mut tree = Tree::default();
        tree.file("/a-b", 0o644, "x");
        tree.file("/a/b/c", 0o644, "y");
        tree.folder("/a/b", 0o700);
        let paths: Vec<&str> = tree.entries().map(|(path, _)| path).collect();
        assert_eq!(paths, ["a", "a-b", "a/b", "a/b/c"]);
        let digest = tree.digest();
        let changed = |change: fn(&mut Tree)| {
            let mut other = tree.clone();
            change(&mut other);
            other.digest() != digest
        };
        assert!(!changed(|_| {}));
        assert!(changed(|tree| tree.file("/a-b", 0o644, "z")));
        assert!(changed(|tree| tree.file("/a-b", 0o600, "x")));
        assert!(changed(|tree| tree.link("/a-b", "x")));
        assert!(changed(|tree| tree.folder("/a/d", 0o755)));
        assert_eq!(tree.0["a/b"], Node::Folder { mode: 0o700 });
    }
}
