//! The folder `volumes`: making a volume's folder and taking it away, so that a power cut leaves nothing half.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use content::archive::size;
use content::layer::remove_tree;
use runtime::ids::IdMap;

use super::error::VolumeError;

/// As dockerd names the folder of the files.
const DATA: &str = "_data";
/// Begins the name of what is being made or removed; no volume's does.
const SCRATCH: &str = ".";

/// The folder of all volumes.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    ids: IdMap,
}

impl Disk {
    pub(super) fn open(folder: PathBuf, ids: IdMap) -> Result<Disk, VolumeError> {
        let made = if folder.is_dir() {
            Ok(())
        } else {
            fs::create_dir_all(&folder)
                .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o701)))
                .and_then(|()| folder.parent().map_or(Ok(()), sync))
        };
        made.map_err(VolumeError::machine("make the folder of the volumes"))?;
        Ok(Disk { folder, ids })
    }

    /// Where a volume's files are.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.folder.join(name).join(DATA)
    }

    /// A name for what nobody shall see yet, or any more, beside the volumes.
    fn scratch(&self) -> PathBuf {
        self.folder.join(format!("{SCRATCH}{}", model::id::new_id()))
    }

    /// Makes a volume's empty folder. It is on disk when this returns.
    pub(super) fn make(&self, name: &str) -> io::Result<()> {
        let (scratch, root) = (self.scratch(), self.ids.root());
        let make = || {
            fs::create_dir(&scratch)?;
            fs::set_permissions(&scratch, Permissions::from_mode(0o701))?;
            let data = scratch.join(DATA);
            fs::create_dir(&data)?;
            fs::set_permissions(&data, Permissions::from_mode(0o755))?;
            chown(&data, Some(root), Some(root))?;
            sync(&data)?;
            sync(&scratch)?;
            fs::rename(&scratch, self.folder.join(name))
        };
        make().inspect_err(|_| self.delete(&scratch))?;
        sync(&self.folder)
    }

    /// A folder in which a volume's first files are made; [`Disk::replace`] makes it the volume's.
    pub(super) fn beside(&self) -> io::Result<PathBuf> {
        let scratch = self.scratch();
        fs::create_dir(&scratch)?;
        Ok(scratch)
    }

    /// The folder `made` becomes that of the volume, which is empty. Both are on disk when this returns.
    pub(super) fn replace(&self, name: &str, made: &Path) -> io::Result<()> {
        match made.read_dir()?.next() {
            Some(_) => rustix::fs::syncfs(File::open(made)?)?,
            None => sync(made)?,
        }
        fs::rename(made, self.data(name))?;
        sync(&self.folder.join(name))
    }

    /// Takes a volume's name away; what is returned is to be deleted.
    pub(super) fn set_aside(&self, name: &str) -> io::Result<PathBuf> {
        let scratch = self.scratch();
        fs::rename(self.folder.join(name), &scratch)?;
        Ok(scratch)
    }

    /// Deletes a folder beside the volumes. What cannot be deleted is tried again at the next start.
    pub(super) fn delete(&self, scratch: &Path) {
        let Some(name) = scratch.file_name() else { return };
        let delete = || {
            let parent = File::open(&self.folder)?;
            remove_tree(parent.as_fd(), name.as_encoded_bytes(), parent.as_fd())
        };
        if let Err(error) = delete()
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %scratch.display(), %error, "cannot delete a removed volume's files");
        }
    }

    /// Deletes what is no volume's, on a thread of its own.
    pub(super) fn sweep(&self, is_known: impl Fn(&str) -> bool) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let left: Vec<PathBuf> =
            names.filter(|name| !is_known(name)).filter_map(|name| self.set_aside(&name).ok()).collect();
        if left.is_empty() {
            return;
        }
        let disk = Disk { folder: self.folder.clone(), ids: self.ids };
        std::thread::spawn(move || left.iter().for_each(|scratch| disk.delete(scratch)));
    }

    /// Bytes of a volume's files.
    pub(super) fn size(&self, name: &str) -> u64 {
        let Ok(top) = File::open(self.data(name)) else { return 0 };
        size::of_tree(top.as_fd()).unwrap_or_else(|(sum, error)| {
            tracing::warn!(volume = name, %error, "a volume's files are not all counted");
            sum
        })
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_volumes_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path().join("volumes"), IdMap::default()).unwrap();
        disk.make("kept").unwrap();
        disk.make("left").unwrap();
        disk.beside().unwrap();
        fs::write(disk.data("kept").join("file"), "four").unwrap();
        disk.sweep(|name| name == "kept");
        let names = || fs::read_dir(dir.path().join("volumes")).unwrap().count();
        for _ in 0..500 {
            if names() == 1 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!((names(), disk.size("kept")), (1, 4));
        assert_eq!(
            fs::metadata(dir.path().join("volumes/kept")).unwrap().permissions().mode() & 0o777,
            0o701
        );
    }

    #[test]
    fn first_files_come_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path().join("volumes"), IdMap::default()).unwrap();
        disk.make("v1").unwrap();
        let made = disk.beside().unwrap();
        fs::write(made.join("file"), "text").unwrap();
        disk.replace("v1", &made).unwrap();
        assert_eq!(fs::read(disk.data("v1").join("file")).unwrap(), b"text");
        // One with files is never replaced.
        assert!(disk.replace("v1", &disk.beside().unwrap()).is_err());
    }
}
