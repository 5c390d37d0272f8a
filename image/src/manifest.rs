//! `manifest.json`: what the artefacts are made of, for people, for `xtask` and for whoever verifies a release.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;

/// One made file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artefact {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hex.
    pub sha256: String,
}

impl Artefact {
    /// Describes these bytes.
    pub fn of(bytes: &[u8]) -> Artefact {
        Artefact { bytes: bytes.len() as u64, sha256: sha256_hex(bytes) }
    }
}

/// The file's content. It holds no time and no path of the build host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Release of Pinnace.
    pub version: String,
    /// `uname -r` of the kernel.
    pub kernel_release: String,
    /// File name of the kernel's package.
    pub kernel_package: String,
    /// File names of the other packages something was taken from.
    pub packages: Vec<String>,
    /// Digest over everything the artefacts were made from: the root tree itself, the kernel, the way of packing.
    pub inputs: String,
    /// Modules loaded before the engine starts, in order.
    pub modules_boot: Vec<String>,
    /// Modules loaded afterwards, in order.
    pub modules_late: Vec<String>,
    /// The made files by name.
    pub files: BTreeMap<String, Artefact>,
}

impl Manifest {
    /// Size of kernel and initramfs together, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.files.values().map(|artefact| artefact.bytes).sum()
    }
}

/// SHA-256 of some bytes, in hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        hex
    })
}
