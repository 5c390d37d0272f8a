//! How much a folder tree holds.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Stat, statat};

use super::share::Share;
use super::walk::{Onward, walk};

/// What an inode among those with several names takes, in bytes.
const SEEN_COST: usize = 32;

/// Sum of the files' lengths, as dockerd counts; a file with several names counts once. Where there are too many of these to
/// remember, each name counts for its part. What is deeper than any path leads is left out.
///
/// # Errors
/// Not all could be counted; what could is told with it.
pub fn of_tree(top: BorrowedFd<'_>) -> Result<u64, (u64, std::io::Error)> {
    let (mut sum, mut seen, mut share) = (0, HashSet::new(), Share::default());
    let walked = walk(top, |met| {
        let Ok(meta) = statat(met.folder, met.name, AtFlags::SYMLINK_NOFOLLOW) else {
            return Ok(Onward::Past);
        };
        match FileType::from_raw_mode(meta.st_mode) {
            FileType::Directory => return Ok(Onward::Into),
            FileType::RegularFile if meta.st_nlink == 1 => sum += meta.st_size.cast_unsigned(),
            FileType::RegularFile if seen.contains(&meta.st_ino) => {}
            FileType::RegularFile => match share.grow(SEEN_COST) {
                Ok(()) => {
                    seen.insert(meta.st_ino);
                    sum += meta.st_size.cast_unsigned();
                }
                Err(_) => sum += meta.st_size.cast_unsigned() / links(&meta),
            },
            _ => {}
        }
        Ok(Onward::Past)
    });
    walked.map(|()| sum).map_err(|error| (sum, error))
}

/// How many names a file has; the field is shorter on other processors.
#[allow(clippy::unnecessary_cast)]
fn links(meta: &Stat) -> u64 {
    meta.st_nlink.max(1) as u64
}
