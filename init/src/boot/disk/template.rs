//! Putting the template on a blank disk so that a cut of the power at any instant is either as if nothing had
//! happened, or is recognised and done again.
//!
//! ```text
//!   1 the mark, in sector 0           ── flush ──   from here: Unfinished
//!   2 zeros, and every block but the first  ── flush ──
//!   3 the first block behind sector 0 ── flush ──   the super block is there, the mark too
//!   4 sector 0, without the mark      ── flush ──   from here: Ours
//! ```
//!
//! A disk writes one sector whole or not at all, and that is all this depends on: within each step the order of
//! writes does not matter.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::BLOCK;
use super::contents::{MARK, all_zero, blocks};

const SECTOR: usize = 512;

/// The template is read in pieces of this many bytes.
const PIECE: usize = 1 << 20;

/// Why the template is not on the disk.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The template in the image is missing or broken.
    #[error("the image's template is not readable")]
    Template {
        /// From the file or the decompressor.
        source: io::Error,
    },
    /// The template in the image is no ext4.
    #[error("the image's template is not an ext4 file system")]
    NotExt4,
    /// The disk is smaller than the template.
    #[error("it has {has} MiB and needs {needs} MiB")]
    Small {
        /// Its size.
        has: u64,
        /// The least size.
        needs: u64,
    },
    /// The disk failed.
    #[error("it cannot be written")]
    Disk {
        /// The kernel's word; ENOSPC where the host has no room for a growing disk image.
        #[source]
        source: io::Error,
    },
}

/// A disk to be written.
pub trait Target {
    /// Size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Writes `bytes` at `offset`, both multiples of a sector.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes a range read as zeros.
    fn zero(&mut self, offset: u64, length: u64) -> io::Result<()>;
    /// All writes so far are on the disk when this returns.
    fn flush(&mut self) -> io::Result<()>;
}

/// A block device.
#[derive(Debug)]
pub struct Device(File);

impl Device {
    /// The open device file.
    pub fn new(file: File) -> Device {
        Device(file)
    }
}

impl Target for Device {
    fn size(&self) -> io::Result<u64> {
        io::Seek::seek(&mut &self.0, io::SeekFrom::End(0))
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        // A hole gives the space back to the host; a device that knows no such request is written to by the kernel.
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let zeros = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        fallocate(&self.0, hole, offset, length).or_else(|_| fallocate(&self.0, zeros, offset, length))?;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// Decompresses `template` onto `disk`. Returns the size of the file system in blocks.
pub fn write(template: impl Read, disk: &mut impl Target) -> Result<u64, TemplateError> {
    let broken = |source| TemplateError::Template { source };
    let decoder = ruzstd::decoding::StreamingDecoder::new(template)
        .map_err(|error| broken(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    let mut pieces = Pieces { decoder, offset: 0 };
    let mut piece = vec![0; PIECE];
    let length = pieces.next(&mut piece).map_err(broken)?;
    let total = blocks(&piece[..length]).ok_or(TemplateError::NotExt4)?;
    let has = disk.size().map_err(|source| TemplateError::Disk { source })?;
    if has < total * BLOCK {
        return Err(TemplateError::Small { has: has >> 20, needs: (total * BLOCK) >> 20 });
    }
    let mut first = [0; BLOCK as usize];
    first.copy_from_slice(&piece[..BLOCK as usize]);
    begin(disk, total).map_err(|source| TemplateError::Disk { source })?;
    piece[..BLOCK as usize].fill(0);
    let mut length = length;
    while length > 0 {
        let at = pieces.offset - length as u64;
        write_blocks(disk, at, &piece[..length]).map_err(|source| TemplateError::Disk { source })?;
        length = pieces.next(&mut piece).map_err(broken)?;
    }
    finish(disk, &first).map_err(|source| TemplateError::Disk { source })?;
    Ok(total)
}

/// Steps 1 and the zeros of 2.
fn begin(disk: &mut impl Target, total: u64) -> io::Result<()> {
    let mut sector = [0; SECTOR];
    sector[..MARK.len()].copy_from_slice(MARK);
    disk.write(0, &sector)?;
    disk.flush()?;
    disk.zero(BLOCK, (total - 1) * BLOCK)
}

/// Steps 3 and 4.
fn finish(disk: &mut impl Target, first: &[u8]) -> io::Result<()> {
    let (sector, rest) = first.split_at(SECTOR);
    disk.flush()?;
    disk.write(SECTOR as u64, rest)?;
    disk.flush()?;
    disk.write(0, sector)?;
    disk.flush()
}

/// Writes the blocks that are not zero, neighbours together.
fn write_blocks(disk: &mut impl Target, at: u64, bytes: &[u8]) -> io::Result<()> {
    let mut from = None;
    let blocks = bytes.len() / BLOCK as usize;
    for block in 0..=blocks {
        let range = |from: usize, to: usize| from * BLOCK as usize..to * BLOCK as usize;
        let filled = block < blocks && !all_zero(&bytes[range(block, block + 1)]);
        match (from, filled) {
            (None, true) => from = Some(block),
            (Some(first), false) => {
                disk.write(at + first as u64 * BLOCK, &bytes[range(first, block)])?;
                from = None;
            }
            _ => {}
        }
    }
    Ok(())
}

struct Pieces<R> {
    decoder: R,
    /// Bytes read so far.
    offset: u64,
}

impl<R: Read> Pieces<R> {
    /// Fills `piece`, or as much of it as there is; whole blocks.
    fn next(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < piece.len() {
            match self.decoder.read(&mut piece[filled..])? {
                0 => break,
                got => filled += got,
            }
        }
        if !(filled as u64).is_multiple_of(BLOCK) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += filled as u64;
        Ok(filled)
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
