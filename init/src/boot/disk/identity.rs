//! What of a new file system must differ from every other's.
//!
//! The template is the same in all images. Its seed for the hashes of file names would be known to whoever wants names
//! that collide (a folder becomes slow, or full, by a few thousand of them), and its UUID would be shared by all disks.

use std::io;

/// Where the super block begins in the first block, and its length.
const START: usize = 1024;
const LENGTH: usize = 1024;

// Fields of the super block (Documentation/filesystems/ext4/super.rst).
const INCOMPATIBLE: usize = 0x60;
const READ_ONLY_COMPATIBLE: usize = 0x64;
const UUID: usize = 0x68;
const HASH_SEED: usize = 0xec;
const CHECKSUM: usize = 0x3fc;

/// RO_COMPAT_METADATA_CSUM: everything has a checksum, the super block at its end.
const HAS_CHECKSUMS: u32 = 0x400;
/// INCOMPAT_CSUM_SEED: those checksums begin with a number of the super block, and not with the UUID.
const OWN_SEED: u32 = 0x2000;

/// Two numbers of 16 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Names the file system.
    pub uuid: [u8; 16],
    /// Begins the hash of each file's name.
    pub hash_seed: [u8; 16],
}

impl Identity {
    /// One that nobody knows.
    pub fn random() -> io::Result<Identity> {
        let (mut uuid, hash_seed) = (random()?, random()?);
        // RFC 9562: version 4, of its variant.
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        Ok(Identity { uuid, hash_seed })
    }

    /// Writes it into the super block in `first`, the file system's first block. The hash seed may change as long as no folder
    /// is large enough for an index; the UUID where no checksum begins with it.
    pub fn put(&self, first: &mut [u8]) {
        let Some(block) = first.get_mut(START..START + LENGTH) else { return };
        let has = |block: &[u8], at: usize, bit: u32| {
            block[at..].first_chunk().is_some_and(|word| u32::from_le_bytes(*word) & bit != 0)
        };
        let checked = has(block, READ_ONLY_COMPATIBLE, HAS_CHECKSUMS);
        if !checked || has(block, INCOMPATIBLE, OWN_SEED) {
            block[UUID..UUID + 16].copy_from_slice(&self.uuid);
        }
        block[HASH_SEED..HASH_SEED + 16].copy_from_slice(&self.hash_seed);
        if checked {
            let sum = crc32c(u32::MAX, &block[..CHECKSUM]);
            block[CHECKSUM..].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

/// Waits, in a machine's first moments, until the kernel has enough of chance.
fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    let length = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    // random(7): up to 256 bytes come whole.
    if length == bytes.len() { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Castagnoli's polynomial, bit by bit: it runs over one kilobyte in a disk's life.
fn crc32c(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_rfc_3720() {
        assert_eq!(!crc32c(u32::MAX, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn only_what_may_change_does() {
        let identity = Identity { uuid: [7; 16], hash_seed: [9; 16] };
        let put = |incompatible: u32, compatible: u32| {
            let mut first = vec![0; 4096];
            first[START + INCOMPATIBLE..][..4].copy_from_slice(&incompatible.to_le_bytes());
            first[START + READ_ONLY_COMPATIBLE..][..4].copy_from_slice(&compatible.to_le_bytes());
            identity.put(&mut first);
            assert!(first[..START].iter().chain(&first[START + LENGTH..]).all(|byte| *byte == 0));
            let block = &first[START..START + LENGTH];
            assert_eq!(block[HASH_SEED..HASH_SEED + 16], [9; 16]);
            (block[UUID..UUID + 16] == [7; 16], block[CHECKSUM..] != [0; 4])
        };
        assert_eq!(put(0, 0), (true, false));
        assert_eq!(put(0, HAS_CHECKSUMS), (false, true));
        assert_eq!(put(OWN_SEED, HAS_CHECKSUMS), (true, true));
        identity.put(&mut [0; 512]);
        assert_ne!(Identity::random().unwrap(), Identity::random().unwrap());
    }
}
