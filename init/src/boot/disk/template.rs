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
use super::contents::{MARK, blocks};
use super::identity::Identity;

const SECTOR: usize = 512;

/// Longest run of bytes that a template may have.
const RUN_MAX: usize = 1 << 20;

/// Why the template is not on the disk.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The template in the image is missing or broken.
    #[error("the image's template is not readable")]
    Template {
        /// From the file.
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
    /// The kernel has no random numbers.
    #[error("no random numbers for it")]
    Random {
        /// The kernel's word.
        source: io::Error,
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

/// Puts `template` (see [`contract::paths::DATA_TEMPLATE`]) on `disk`, as a file system of that identity. Returns its size
/// in blocks.
pub fn write(
    mut template: impl Read,
    disk: &mut impl Target,
    identity: &Identity,
) -> Result<u64, TemplateError> {
    let broken = |source| TemplateError::Template { source };
    let failed = |source| TemplateError::Disk { source };
    let (start, mut first) = next(&mut template).map_err(broken)?;
    let total = blocks(&first).filter(|_| start == 0).ok_or(TemplateError::NotExt4)?;
    let has = disk.size().map_err(failed)?;
    if has < total * BLOCK {
        return Err(TemplateError::Small { has: has >> 20, needs: (total * BLOCK) >> 20 });
    }
    begin(disk, total).map_err(failed)?;
    let rest = first.split_off(BLOCK as usize);
    identity.put(&mut first);
    let mut run = (BLOCK, rest);
    loop {
        if !run.1.is_empty() {
            disk.write(run.0, &run.1).map_err(failed)?;
        }
        run = next(&mut template).map_err(broken)?;
        if run.1.is_empty() {
            break;
        }
    }
    finish(disk, &first).map_err(failed)?;
    Ok(total)
}

/// The next run: where it belongs, and its bytes, whole blocks.
fn next(template: &mut impl Read) -> io::Result<(u64, Vec<u8>)> {
    let (mut offset, mut length) = ([0; 8], [0; 4]);
    template.read_exact(&mut offset)?;
    template.read_exact(&mut length)?;
    let (offset, length) = (u64::from_le_bytes(offset), u32::from_le_bytes(length) as usize);
    if length > RUN_MAX || !(length as u64).is_multiple_of(BLOCK) || !offset.is_multiple_of(BLOCK) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    template.read_exact(&mut bytes)?;
    Ok((offset, bytes))
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

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
