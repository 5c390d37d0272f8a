//! What a disk holds, by its first and last bytes. It only reads.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use super::BLOCK;

/// In the first sector, which ext4 leaves to boot loaders, while the template is being written.
pub const MARK: &[u8; 32] = b"pinnace: data disk in the making\n".first_chunk().expect("it is longer");

/// The file system's name (`mke2fs -L`).
const LABEL: &[u8] = b"pinnace";

/// A disk is blank if so much of its beginning and of its end is zero: partition tables, LVM, RAID and file systems
/// all have something there. VMware's begins at 1 MiB exactly; RAID of the old form (md 0.90) has its only mark between 64
/// and 128 KiB before the end.
const HEAD: u64 = 2 << 20;
const TAIL: u64 = 128 << 10;

/// EXT4_ERROR_FS in `s_state`: the kernel has met something that cannot be.
const STATE_ERROR: u64 = 2;

/// See [`look`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Nothing.
    Blank,
    /// A template whose writing was cut off: there was never a file on it.
    Unfinished,
    /// Our file system.
    Ours {
        /// Its size, in blocks of [`BLOCK`] bytes.
        blocks: u64,
        /// It says of itself that it needs to be repaired.
        broken: bool,
    },
    /// Something that is not ours.
    Other(&'static str),
}

/// Looks at the beginning and the end.
pub fn look(disk: &File) -> io::Result<Contents> {
    let size = { disk }.seek(SeekFrom::End(0))?;
    let mut first = [0; BLOCK as usize];
    if size < BLOCK {
        return Ok(Contents::Other("less than one block"));
    }
    disk.read_exact_at(&mut first, 0)?;
    if first.starts_with(MARK) {
        return Ok(Contents::Unfinished);
    }
    if let Some(super_block) = SuperBlock::of(&first) {
        return Ok(super_block.judge());
    }
    let tail = size.saturating_sub(TAIL);
    if is_zero(disk, 0, HEAD.min(size))? && is_zero(disk, tail, size - tail)? {
        Ok(Contents::Blank)
    } else {
        Ok(Contents::Other("data that is not Pinnace's"))
    }
}

/// Blocks of an ext4 that begins with `first`, if it is one.
pub fn blocks(first: &[u8]) -> Option<u64> {
    SuperBlock::of(first).map(|super_block| super_block.blocks())
}

/// The fields that matter of the super block at byte 1024 (Documentation/filesystems/ext4/super.rst).
struct SuperBlock<'a>(&'a [u8]);

impl<'a> SuperBlock<'a> {
    fn of(first: &'a [u8]) -> Option<SuperBlock<'a>> {
        let bytes = first.get(1024..2048)?;
        (bytes[0x38..0x3a] == 0xef53u16.to_le_bytes()).then_some(SuperBlock(bytes))
    }

    fn word(&self, at: usize) -> u64 {
        let bytes = [self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]];
        u32::from_le_bytes(bytes).into()
    }

    fn blocks(&self) -> u64 {
        // s_blocks_count_hi counts only with INCOMPAT_64BIT.
        let high = if self.word(0x60) & 0x80 != 0 { self.word(0x150) } else { 0 };
        high << 32 | self.word(0x4)
    }

    fn judge(&self) -> Contents {
        let name = self.0[0x78..0x88].split(|byte| *byte == 0).next();
        match (name == Some(LABEL), 1024 << self.word(0x18).min(16)) {
            (false, _) => Contents::Other("another file system"),
            (true, BLOCK) => {
                Contents::Ours { blocks: self.blocks(), broken: self.word(0x3a) & STATE_ERROR != 0 }
            }
            (true, _) => Contents::Other("a file system with another block size"),
        }
    }
}

fn is_zero(disk: &File, from: u64, length: u64) -> io::Result<bool> {
    let mut bytes = vec![0; length as usize];
    disk.read_exact_at(&mut bytes, from)?;
    Ok(all_zero(&bytes))
}

/// Whether every byte is zero.
fn all_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(size: u64, parts: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in parts {
            file.write_all_at(bytes, *at).unwrap();
        }
        file
    }

    #[test]
    fn contents_are_told_apart() {
        let check = |size, parts: &[(u64, &[u8])], want| assert_eq!(look(&disk(size, parts)).unwrap(), want);
        let other = Contents::Other("data that is not Pinnace's");
        check(8 << 20, &[], Contents::Blank);
        check(8 << 20, &[(0, MARK)], Contents::Unfinished);
        check(8 << 20, &[(510, &[0x55, 0xaa])], other.clone());
        check(8 << 20, &[(1 << 20, &[0x0d, 0xd0, 0x01, 0xc0])], other.clone());
        check(8 << 20, &[((8 << 20) - (128 << 10), &[0xfc, 0x4e, 0x2b, 0xa9])], other.clone());
        check(8 << 20, &[((8 << 20) - 512, b"EFI PART")], other);
        check(8 << 20, &[(4 << 20, b"far inside, where nothing announces itself")], Contents::Blank);
        check(100, &[], Contents::Other("less than one block"));
        check(8 << 20, &[(1024 + 0x38, &[0x53, 0xef])], Contents::Other("another file system"));
        let ours: [(u64, &[u8]); 6] = [
            (1024 + 0x38, &[0x53, 0xef]),
            (1024 + 0x78, b"pinnace"),
            (1024 + 0x18, &[2]),
            (1024 + 0x4, &[0, 1]),
            (1024 + 0x60, &[0x80]),
            (1024 + 0x150, &[1]),
        ];
        check(8 << 20, &ours, Contents::Ours { blocks: 256 | 1 << 32, broken: false });
        let broken = [&ours[..], &[(1024 + 0x3a, &[3])]].concat();
        check(8 << 20, &broken, Contents::Ours { blocks: 256 | 1 << 32, broken: true });
        check(8 << 20, &ours[..2], Contents::Other("a file system with another block size"));
    }
}
