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
/// With so much free a machine that found no room goes on, in bytes.
const ROOM_MIN: u64 = 16 << 20;
/// Smallest disk the guest's template fits on, in bytes.
const DISK_MIN: u64 = 256 << 20;

/// Makes the disk, or lets it grow to the size that was asked for. The lock keeps other appliances away from it, and comes
/// before anything is done to a disk that is there.
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
        Ok(_) => {}
    }
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| wrong("is used by another appliance: name another with --disk"))?;
    if free(path).map_err(failed)? < FREE_MIN {
        return Err(wrong("lies on a full file system: free at least 64M there or name another with --disk"));
    }
    let bytes = file.metadata().map_err(failed)?.len();
    if order.disk_size_given && bytes > order.disk_bytes {
        return Err(wrong("is larger than --disk-size: leave the option out, a disk cannot be cut"));
    }
    if order.disk_size_given && bytes < order.disk_bytes {
        file.set_len(order.disk_bytes).map_err(failed)?;
    }
    Ok(file)
}

/// Whether a write to the disk that found no room may be tried again.
pub fn has_room(disk: &Path) -> io::Result<bool> {
    Ok(free(disk)? >= ROOM_MIN)
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

/// Of the file system that the disk lies on, which a link may have put elsewhere than its folder.
fn free(disk: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(disk)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::BackendKind;

    fn order(folder: &Path, bytes: u64) -> Order {
        Order {
            name: "test".to_owned(),
            dir: folder.to_owned(),
            image: folder.to_owned(),
            backend: BackendKind::Qemu,
            memory_mib: 512,
            cpus: 1,
            disk: folder.join("data.img"),
            disk_bytes: bytes,
            disk_size_given: true,
            timeout_secs: 1,
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            userns_remap: None,
            shares: Vec::new(),
            ssh_agent: None,
            log: None,
        }
    }

    #[test]
    fn a_disk_that_is_used_does_not_grow() {
        let folder = tempfile::tempdir().unwrap();
        let held = prepare(&order(folder.path(), DISK_MIN)).unwrap();
        let error = prepare(&order(folder.path(), 2 * DISK_MIN)).unwrap_err();
        assert!(error.to_string().contains("is used by another appliance"), "{error}");
        assert_eq!(held.metadata().unwrap().len(), DISK_MIN);
        drop(held);
        let held = prepare(&order(folder.path(), 2 * DISK_MIN)).unwrap();
        assert_eq!(held.metadata().unwrap().len(), 2 * DISK_MIN);
        drop(held);
        let error = prepare(&order(folder.path(), DISK_MIN)).unwrap_err();
        assert!(error.to_string().contains("is larger than --disk-size"), "{error}");
    }
}
