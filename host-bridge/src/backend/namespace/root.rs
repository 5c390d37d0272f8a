//! The root tree, unpacked from the initramfs once and kept: the next boot takes milliseconds.

use crate::backend::BackendError;
use crate::backend::initramfs::{Entry, Initramfs};
use crate::place::Place;
use sha2::{Digest, Sha256};
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

const PREFIX: &str = "root-";
const KIND: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// The folder of the image's root tree, unpacked unless it is there.
pub fn unpacked(image: &Path, place: &Place) -> Result<PathBuf, BackendError> {
    let initramfs = Initramfs::read(image)?;
    let digest = Sha256::digest(&initramfs.bytes);
    let short: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let folder = place.dir().join(format!("{PREFIX}{short}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    remove_older(place);
    let fresh = place.dir().join(format!("{PREFIX}new"));
    let system = || BackendError::system(format!("make {}", folder.display()));
    make(&fresh).map_err(system())?;
    initramfs.visit(|entry| unpack(entry, &fresh))?;
    std::fs::rename(&fresh, &folder).map_err(system())?;
    Ok(folder)
}

/// Every folder this backend keeps in an appliance's place.
pub fn folders(place: &Place) -> Vec<PathBuf> {
    let mut folders = roots(place);
    folders.push(place.data());
    folders
}

fn roots(place: &Place) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place.dir()).into_iter().flatten().flatten();
    let ours =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    entries.map(|entry| entry.path()).filter(ours).collect()
}

/// Trees of other images, and one that was not finished.
fn remove_older(place: &Place) {
    for path in roots(place) {
        if let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!("cannot remove {}: {error}", path.display());
        }
    }
}

fn make(folder: &Path) -> io::Result<()> {
    std::fs::create_dir(folder)?;
    std::fs::set_permissions(folder, Permissions::from_mode(0o755))
}

fn unpack(entry: &mut Entry<'_>, folder: &Path) -> io::Result<()> {
    let mode = entry.entry().mode();
    let path = folder.join(inner(entry.entry().name())?);
    match mode & KIND {
        FOLDER => match std::fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => set_mode(&path, mode),
        },
        REGULAR => {
            io::copy(entry, &mut File::create(&path)?)?;
            set_mode(&path, mode)
        }
        LINK => {
            let mut target = String::new();
            entry.read_to_string(&mut target)?;
            std::os::unix::fs::symlink(target, &path)
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a device node in the root tree")),
    }
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))
}

/// A path that stays inside.
fn inner(name: &str) -> io::Result<&Path> {
    let path = Path::new(name);
    match path.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(path),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "a path that leaves the root tree")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::initramfs::tests::archive;

    #[test]
    fn a_tree_is_unpacked_once_and_replaced_by_another_image() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::at(&folder.path().join("p")).unwrap();
        place.make().unwrap();
        let image = folder.path();
        let entries = [("a", 0o040_755, ""), ("a/f", 0o100_711, "text"), ("a/l", 0o120_777, "/f")];
        std::fs::write(image.join("initramfs.zst"), archive(&entries)).unwrap();
        let root = unpacked(image, &place).unwrap();
        assert_eq!(std::fs::read_to_string(root.join("a/f")).unwrap(), "text");
        assert_eq!(std::fs::metadata(root.join("a/f")).unwrap().permissions().mode() & 0o7777, 0o711);
        assert_eq!(std::fs::read_link(root.join("a/l")).unwrap(), Path::new("/f"));
        std::fs::write(root.join("mark"), "").unwrap();
        assert_eq!(unpacked(image, &place).unwrap(), root);
        assert!(root.join("mark").exists());
        std::fs::write(image.join("initramfs.zst"), archive(&entries[..1])).unwrap();
        assert_ne!(unpacked(image, &place).unwrap(), root);
        assert!(!root.exists());
    }

    #[test]
    fn what_leaves_the_tree_or_is_no_archive_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::at(&folder.path().join("p")).unwrap();
        place.make().unwrap();
        for bytes in
            [archive(&[("../x", 0o100_644, "")]), archive(&[("/x", 0o100_644, "")]), b"nonsense".to_vec()]
        {
            std::fs::write(folder.path().join("initramfs.zst"), bytes).unwrap();
            let error = unpacked(folder.path(), &place).unwrap_err();
            assert!(error.to_string().contains("is not a zstd-compressed initramfs"), "{error}");
        }
        assert!(!folder.path().join("x").exists());
    }
}
