//! The machine's own device nodes, for containers to which everything is permitted.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::launch::Device;

/// Folders of /dev that are mounts of their own in every container.
const OWN: [&str; 4] = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console"];

/// `major:minor` of the device at `path`.
///
/// # Errors
/// It does not exist.
pub fn number_of(path: &Path) -> std::io::Result<String> {
    let device = std::fs::metadata(path)?.rdev();
    Ok(format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)))
}

/// Every character and block device below /dev.
pub fn host_devices() -> Vec<Device> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), 0, &mut found);
    found
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<Device>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let (Some(text), Ok(meta)) = (path.to_str(), entry.metadata()) else { continue };
        if OWN.contains(&text) {
            continue;
        }
        let kind = meta.file_type();
        if kind.is_dir() && depth < 4 {
            collect(&path, depth + 1, found);
        } else if kind.is_char_device() || kind.is_block_device() {
            found.push(Device {
                path: text.to_owned(),
                block: kind.is_block_device(),
                major: rustix::fs::major(meta.rdev()),
                minor: rustix::fs::minor(meta.rdev()),
                mode: meta.mode() & 0o7777,
                uid: meta.uid(),
                gid: meta.gid(),
            });
        }
    }
}
