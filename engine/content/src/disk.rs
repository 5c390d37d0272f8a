//! The folders below the data folder, and the only ways in and out of them.
//!
//! ```text
//!   tmp/ID          being written; worthless after a crash, removed at start
//!   blobs/sha256/…  configurations, manifests and compressed layers, by digest
//!   layers/…        extracted layers in overlayfs form, by diff id
//! ```
//!
//! What gets a name outside of `tmp` is whole, but on disk only once it is synced: the records of an image name it after
//! one sync for all of the image, and what no record names is removed at the next start, torn or not. Removal goes the
//! other way, through a rename into `tmp`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtime::ids::IdMap;

use super::layer::{remove_tree, scratch_name};
use model::reference::Digest;

/// The data disk did not do as asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub struct DiskError {
    /// Verb.
    what: &'static str,
    /// File or folder.
    path: PathBuf,
    /// What the kernel says.
    source: Arc<io::Error>,
}

impl DiskError {
    /// For `map_err`.
    pub fn new<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DiskError + use<'a> {
        move |source| DiskError { what, path: path.to_owned(), source: Arc::new(source) }
    }
}

/// The folders.
pub struct Disk {
    tmp: PathBuf,
    blobs: PathBuf,
    layers: PathBuf,
    tmp_fd: File,
    ids: IdMap,
}

/// Something in `tmp` that is removed unless it is published.
pub struct Temporary {
    disk: Arc<Disk>,
    name: String,
    published: bool,
}

impl Disk {
    /// Makes the folders. What a crash left in `tmp` is set aside here and removed by another thread.
    /// `ids` are those of containers.
    pub fn open(data: &Path, ids: IdMap) -> Result<Arc<Disk>, DiskError> {
        let tmp = data.join("tmp");
        let (blobs, layers) = (data.join("blobs/sha256"), data.join("layers"));
        for folder in [&tmp, &blobs, &layers] {
            fs::create_dir_all(folder).map_err(DiskError::new("make", folder))?;
        }
        for folder in [data, &data.join("blobs")] {
            File::open(folder).and_then(|f| f.sync_all()).map_err(DiskError::new("sync", folder))?;
        }
        let tmp_fd = File::open(&tmp).map_err(DiskError::new("open", &tmp))?;
        let disk = Arc::new(Disk { tmp, blobs, layers, tmp_fd, ids });
        let left = names(&disk.tmp)?;
        if !left.is_empty() {
            let sweeper = disk.clone();
            let sweeping = std::thread::Builder::new().name("sweeper".to_owned());
            let sweep = move || left.iter().for_each(|name| sweeper.remove_temporary(name));
            if let Err(error) = sweeping.spawn(sweep) {
                tracing::warn!(%error, "what an interrupted download left behind waits for the next start");
            }
        }
        Ok(disk)
    }

    /// The folder of a layer.
    pub fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers.join(diff_id.hex())
    }

    /// The file of a blob.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// An empty file in `tmp`, opened for writing.
    pub fn new_file(self: &Arc<Disk>) -> Result<(File, Temporary), DiskError> {
        let temporary = self.temporary();
        let path = temporary.path();
        let file = File::create_new(&path).map_err(DiskError::new("make", &path))?;
        Ok((file, temporary))
    }

    /// How the ids of containers stand to the machine's.
    pub fn ids(&self) -> IdMap {
        self.ids
    }

    /// An empty folder in `tmp` with mode 0755, owned by the root of containers.
    pub fn new_folder(self: &Arc<Disk>) -> Result<(OwnedFd, Temporary), DiskError> {
        let temporary = self.temporary();
        let path = temporary.path();
        let make = || {
            fs::create_dir(&path)?;
            let folder = File::open(&path)?;
            if self.ids.is_mapped() {
                std::os::unix::fs::fchown(&folder, Some(self.ids.root()), Some(self.ids.root()))?;
            }
            rustix::fs::fchmod(&folder, rustix::fs::Mode::from_raw_mode(0o755))?;
            Ok(OwnedFd::from(folder))
        };
        Ok((make().map_err(DiskError::new("make", &path))?, temporary))
    }

    /// The folder `tmp` itself.
    pub fn scratch(&self) -> Result<OwnedFd, DiskError> {
        let copy = self.tmp_fd.try_clone().map_err(DiskError::new("open", &self.tmp))?;
        Ok(copy.into())
    }

    /// Everything written so far is on disk when this returns.
    pub fn sync_everything(&self) -> Result<(), DiskError> {
        rustix::fs::syncfs(&self.tmp_fd).map_err(io::Error::from).map_err(DiskError::new("sync", &self.tmp))
    }

    /// Gives a temporary file its name. It is durable after [`Disk::sync_everything`].
    pub fn publish_blob(&self, temporary: Temporary, digest: &Digest) -> Result<(), DiskError> {
        self.publish(temporary, &self.blob(digest))
    }

    /// Gives a temporary folder its name. It is durable after [`Disk::sync_everything`].
    pub fn publish_layer(self: &Arc<Disk>, temporary: Temporary, diff_id: &Digest) -> Result<(), DiskError> {
        let path = self.layer(diff_id);
        if path.exists() {
            // Known to nobody, or the caller would not have made another one.
            drop(self.set_aside(&path)?);
        }
        self.publish(temporary, &path)
    }

    /// Writes a small blob, unless it is there. It is durable after [`Disk::sync_blobs`] or [`Disk::sync_everything`].
    pub fn write_blob(self: &Arc<Disk>, digest: &Digest, bytes: &[u8]) -> Result<(), DiskError> {
        // A spoilt one is written again.
        if self.read_blob(digest).is_ok_and(|present| present == bytes) {
            return Ok(());
        }
        let (mut file, temporary) = self.new_file()?;
        let path = temporary.path();
        file.write_all(bytes).map_err(DiskError::new("write", &path))?;
        self.publish_blob(temporary, digest)
    }

    /// These blobs and their names are on disk when this returns: cheaper than [`Disk::sync_everything`] where they are
    /// few, as it leaves alone what containers are writing.
    pub fn sync_blobs<'a>(&self, digests: impl Iterator<Item = &'a Digest>) -> Result<(), DiskError> {
        for path in digests.map(|digest| self.blob(digest)).chain([self.blobs.clone()]) {
            File::open(&path).and_then(|file| file.sync_all()).map_err(DiskError::new("sync", &path))?;
        }
        Ok(())
    }

    /// All of a blob.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, DiskError> {
        let path = self.blob(digest);
        fs::read(&path).map_err(DiskError::new("read", &path))
    }

    /// Removes a blob.
    pub fn remove_blob(&self, digest: &Digest) -> Result<(), DiskError> {
        let path = self.blob(digest);
        fs::remove_file(&path).map_err(DiskError::new("remove", &path))
    }

    /// Takes a layer out of sight at once. Its files are removed when what is returned is dropped, see
    /// [`Temporary::remove`].
    pub fn remove_layer(self: &Arc<Disk>, diff_id: &Digest) -> Result<Temporary, DiskError> {
        self.set_aside(&self.layer(diff_id))
    }

    /// Digests of everything in `blobs`.
    pub fn blobs(&self) -> Result<Vec<Digest>, DiskError> {
        digests(&self.blobs)
    }

    /// Diff ids of everything in `layers`.
    pub fn layers(&self) -> Result<Vec<Digest>, DiskError> {
        digests(&self.layers)
    }

    fn temporary(self: &Arc<Disk>) -> Temporary {
        Temporary { disk: self.clone(), name: scratch_name(), published: false }
    }

    fn publish(&self, mut temporary: Temporary, to: &Path) -> Result<(), DiskError> {
        fs::rename(temporary.path(), to).map_err(DiskError::new("publish", to))?;
        temporary.published = true;
        Ok(())
    }

    fn set_aside(self: &Arc<Disk>, path: &Path) -> Result<Temporary, DiskError> {
        let temporary = self.temporary();
        fs::rename(path, temporary.path()).map_err(DiskError::new("remove", path))?;
        Ok(temporary)
    }

    fn remove_temporary(&self, name: &str) {
        let tmp = self.tmp_fd.as_fd();
        if let Err(error) = remove_tree(tmp, name.as_bytes(), tmp)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", self.tmp.join(name).display());
        }
    }
}

impl Temporary {
    /// Where it is until it is published.
    pub fn path(&self) -> PathBuf {
        self.disk.tmp.join(&self.name)
    }

    /// Removes it on this thread, which may take long. Dropped, it is removed on another one.
    pub fn remove(mut self) {
        self.published = true;
        self.disk.remove_temporary(&self.name);
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        let (disk, name) = (self.disk.clone(), std::mem::take(&mut self.name));
        // A layer may have very many files; the executor's threads are not for removing them.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || disk.remove_temporary(&name))),
            Err(_) => disk.remove_temporary(&name),
        }
    }
}

fn names(folder: &Path) -> Result<Vec<String>, DiskError> {
    let list = || fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
    let names = list().map_err(DiskError::new("read", folder))?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

fn digests(folder: &Path) -> Result<Vec<Digest>, DiskError> {
    let digest = |name: String| format!("sha256:{name}").parse().ok();
    Ok(names(folder)?.into_iter().filter_map(digest).collect())
}
