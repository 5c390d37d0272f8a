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

/// The device at `path`, or those in the folder at `path`.
///
/// # Errors
/// There is nothing, or no device.
pub fn devices_at(path: &Path) -> std::io::Result<Vec<Device>> {
    let meta = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => std::io::Error::new(error.kind(), "no such file or directory"),
        _ => error,
    })?;
    let mut found = Vec::new();
    if meta.is_dir() {
        collect(path, 0, &mut found);
    } else {
        found.extend(path.to_str().and_then(|text| device(text, &meta)));
    }
    match found.is_empty() {
        true => Err(std::io::Error::other("not a device node")),
        false => Ok(found),
    }
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
        if meta.is_dir() && depth < 4 {
            collect(&path, depth + 1, found);
        } else {
            found.extend(device(text, &meta));
        }
    }
}

fn device(path: &str, meta: &std::fs::Metadata) -> Option<Device> {
    let kind = meta.file_type();
    (kind.is_char_device() || kind.is_block_device()).then(|| Device {
        path: path.to_owned(),
        block: kind.is_block_device(),
        major: rustix::fs::major(meta.rdev()),
        minor: rustix::fs::minor(meta.rdev()),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
    })
}
