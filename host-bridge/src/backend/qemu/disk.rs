//! The data disk: a sparse raw file, made blank; the guest puts the file system on it.

use crate::backend::BackendError;
use crate::order::Order;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A host file system with less than this free is called full, in bytes.
const FREE_MIN: u64 = 64 << 20;
/// Smallest disk the guest's template fits on, in bytes.
const DISK_MIN: u64 = 256 << 20;

/// Makes the disk, or lets it grow to the size that was asked for. The lock keeps other appliances away from it.
pub fn prepare(order: &Order) -> Result<Flock<File>, BackendError> {
    let path = order.disk.as_path();
    let wrong = |problem| BackendError::Disk { path: path.to_owned(), problem };
    let failed = |source| BackendError::DiskFile { path: path.to_owned(), source };
    if order.disk_bytes < DISK_MIN {
        return Err(wrong("must have at least 256M: choose a larger --disk-size"));
    }
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(order)?,
        Err(error) => return Err(failed(error)),
        Ok(meta) if !meta.is_file() => return Err(wrong("is not a regular file: name another with --disk")),
        Ok(meta) if meta.len() > order.disk_bytes && order.disk_size_given => {
            return Err(wrong("is larger than --disk-size: leave the option out, a disk cannot be cut"));
        }
        Ok(meta) if meta.len() < order.disk_bytes && order.disk_size_given => {
            let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
            file.set_len(order.disk_bytes).map_err(failed)?;
        }
        Ok(_) => {}
    }
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    if free(path.parent().unwrap_or(Path::new("/"))).map_err(failed)? < FREE_MIN {
        return Err(wrong("lies on a full file system: free at least 64M there or name another with --disk"));
    }
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| wrong("is used by another appliance: name another with --disk"))
}

fn make(order: &Order) -> Result<(), BackendError> {
    let path = order.disk.as_path();
    let failed = |source| BackendError::DiskFile { path: path.to_owned(), source };
    if !path.parent().is_some_and(Path::is_dir) {
        let problem = "cannot be made: its folder does not exist";
        return Err(BackendError::Disk { path: path.to_owned(), problem });
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.set_len(order.disk_bytes).map_err(|source| {
        // A disk that is too short would be taken for a disk the next time.
        let _ = std::fs::remove_file(path);
        failed(source)
    })
}

fn free(folder: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(folder)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}
