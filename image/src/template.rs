//! The blank data disk: a small ext4 the guest writes to a new disk and grows online to the disk's size.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Smallest data disk, and the template's size.
const BYTES: u64 = 256 << 20;

/// Bytes of a block of the file system.
const BLOCK: usize = 4096;

/// The identifiers are fixed so that the same inputs make the same bytes. A disk that is made of the template gets its own,
/// which `metadata_csum_seed` allows: without it every checksum of the file system begins with the UUID.
const UUID: &str = "70696e6e-6163-4e65-8000-000000000001";
const HASH_SEED: &str = "70696e6e-6163-4e65-8000-000000000002";

/// Spelled out, so that the build host's mke2fs.conf has no say. `resize_inode` stays off: growing beyond its
/// reserve needs meta_bg anyway, and without it 256 MB grow to 1 TB in seconds.
const FEATURES: &str = "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum,metadata_csum_seed";

/// Why there is no template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// e2fsprogs is not installed.
    #[error("cannot run mke2fs: install e2fsprogs")]
    Tool {
        /// From the attempt to start it.
        source: io::Error,
    },
    /// mke2fs failed.
    #[error("mke2fs failed: {text}")]
    Make {
        /// Its last line.
        text: String,
    },
    /// The scratch file could not be made or read.
    #[error("cannot use the scratch file {path}")]
    Scratch {
        /// The file.
        path: PathBuf,
        /// From the file system.
        source: io::Error,
    },
}

/// The template, as runs.
pub fn make(scratch: &Path) -> Result<Vec<u8>, TemplateError> {
    let path = scratch.join("data.ext4");
    let failed = |source| TemplateError::Scratch { path: path.clone(), source };
    let file = std::fs::File::create(&path).map_err(failed)?;
    file.set_len(BYTES).map_err(failed)?;
    drop(file);
    mke2fs(&path)?;
    let packed = runs(&path).map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(packed)
}

fn mke2fs(path: &Path) -> Result<(), TemplateError> {
    let extended = format!("lazy_itable_init=1,lazy_journal_init=1,hash_seed={HASH_SEED}");
    let mut command = Command::new(program());
    command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-i", "16384", "-I", "256", "-J", "size=64"]);
    command.args(["-m", "0", "-L", "pinnace", "-U", UUID, "-O", FEATURES, "-E", &extended]).arg(path);
    // e2fsprogs takes 0 as "not set", so time begins one second later.
    command.env("E2FSPROGS_FAKE_TIME", "1").env("LC_ALL", "C");
    let output = command.output().map_err(|source| TemplateError::Tool { source })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(TemplateError::Make { text: text.lines().last().unwrap_or("no message").to_owned() })
}

/// Debian keeps it in a folder that is not on every user's PATH.
fn program() -> &'static str {
    ["/usr/sbin/mke2fs", "/sbin/mke2fs"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("mke2fs")
}

/// As runs ([`contract::paths::DATA_TEMPLATE`]): the image is almost all zeros, and unpacking 256 MB of them would
/// cost the first boot more than everything else in it. The initramfs compresses what is left.
fn runs(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let (mut out, mut block, mut offset) = (Vec::new(), [0; BLOCK], 0u64);
    while offset < BYTES {
        file.read_exact(&mut block)?;
        if block.iter().any(|byte| *byte != 0) {
            out.extend(offset.to_le_bytes());
            out.extend((BLOCK as u32).to_le_bytes());
            out.extend(block);
        }
        offset += BLOCK as u64;
    }
    out.extend(BYTES.to_le_bytes());
    out.extend(0u32.to_le_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_twice_it_is_the_same_and_small() {
        let scratch = tempfile::tempdir().unwrap();
        let first = make(scratch.path()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(first, make(scratch.path()).unwrap());
        assert!(first.len() < 128 << 10, "{} bytes", first.len());
    }
}
