//! A volume's files as a mount for one container.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use contract::keeper::Name;
use model::in_go_words;
use runtime::volume::{Access, How, Stage, copy_of, inner, limit};
use rustix::fs::{Mode, OFlags};

use super::error::VolumeError;
use super::options::{Options, call, resolve};
use super::{Shared, Volume, Volumes};

/// Begins the names under which PID 1 keeps mounted volumes.
const KEPT: &str = "volume/";

/// A volume whose file system is mounted, or is being mounted, and for whom.
#[derive(Default)]
pub(super) struct Mounted {
    users: BTreeSet<String>,
    stage: Slot,
}

/// The lock is held while the file system is mounted, which may take as long as a server of NFS does not answer: only those
/// who want that volume wait for it.
type Slot = Arc<Mutex<Option<Arc<Stage>>>>;

impl Volumes {
    /// What is at `path` in a volume, as a detached mount. For a `user` its file system stays mounted until [`Volumes::unmount`].
    /// Blocks.
    ///
    /// # Errors
    /// There is no such volume or path, or the kernel does not mount what the volume's options name.
    pub fn mount(
        &self,
        name: &str,
        path: &Path,
        how: How,
        user: Option<&str>,
    ) -> Result<OwnedFd, VolumeError> {
        let volume = self.get(name)?;
        let shared = &self.shared;
        let failed = |error: io::Error| shared.not_mounted(&volume, &error);
        let no_path = |errno| VolumeError::no_path(&volume.mountpoint, path, errno);
        match Options::read(&volume.options).map_err(|why| failed(io::Error::other(why)))? {
            Options::Folder => {
                let folder = open(&volume.mountpoint).map_err(failed)?;
                let place = inner(folder.as_fd(), path).map_err(no_path)?;
                copy_of(place.as_fd(), how).map_err(failed)
            }
            Options::Bind { folder, recursive, readonly } => {
                let folder = open(&folder).map_err(failed)?;
                let place = inner(folder.as_fd(), path).map_err(no_path)?;
                let access = if readonly { Access::Read } else { how.access };
                copy_of(place.as_fd(), How { access, recursive, ..how }).map_err(failed)
            }
            Options::FileSystem(file_system) => {
                let file_system = resolve(file_system).map_err(failed)?;
                let stage = shared.stage(&volume, || Stage::new(file_system.mount()?), user)?;
                drop(inner(stage.root(), path).map_err(no_path)?);
                let copy = stage.copy(path, How { access: Access::Write, ..how }).map_err(failed)?;
                // What the options say of the mount stays.
                limit(copy.as_fd(), how).map_err(failed)?;
                Ok(copy)
            }
        }
    }

    /// The user's run is over.
    pub fn unmount(&self, user: &str) {
        self.shared.settle(|_, users| users.remove(user));
    }

    /// Whether what PID 1 keeps under this name is a volume's.
    pub fn keeps(name: &Name) -> bool {
        name.as_str().starts_with(KEPT)
    }

    /// Takes back what PID 1 keeps, after a life of the engine. Who uses it is told by [`Volumes::resume`].
    pub fn take_back(&self, name: &Name, descriptors: Vec<OwnedFd>) {
        let volume = name.as_str().trim_start_matches(KEPT).to_owned();
        let Some(stage) = Stage::from_descriptors(descriptors) else {
            return tracing::error!(volume, "what PID 1 keeps of a volume is not its mount");
        };
        let stage = Arc::new(Mutex::new(Some(Arc::new(stage))));
        self.shared.mounts().insert(volume, Mounted { users: BTreeSet::new(), stage });
    }

    /// A run that an engine before this one began has the volume.
    pub fn resume(&self, name: &str, user: &str) {
        if let Some(mounted) = self.shared.mounts().get_mut(name) {
            mounted.users.insert(user.to_owned());
        }
    }

    /// Every run was resumed: what nobody uses any more is let go.
    pub fn resumed(&self) {
        self.shared.settle(|_, _| true);
    }
}

impl Shared {
    fn mounts(&self) -> MutexGuard<'_, std::collections::HashMap<String, Mounted>> {
        self.mounted.lock().expect("no holder of the mounts panics")
    }

    /// The mounted file system: of several first users one mounts it.
    fn stage(
        &self,
        volume: &Volume,
        mount: impl Fn() -> io::Result<Stage>,
        user: Option<&str>,
    ) -> Result<Arc<Stage>, VolumeError> {
        let failed = |error: io::Error| self.not_mounted(volume, &error);
        let Some(user) = user else {
            // Who only looks has one of his own where there is none.
            let known = self.mounts().get(&volume.name).map(|mounted| mounted.stage.clone());
            let known = known.and_then(|slot| taken(&slot).clone());
            return known.map_or_else(|| mount().map(Arc::new).map_err(failed), Ok);
        };
        let slot = {
            let mut mounts = self.mounts();
            let mounted = mounts.entry(volume.name.clone()).or_default();
            mounted.users.insert(user.to_owned());
            mounted.stage.clone()
        };
        let mounted = self.mount_in(&volume.name, &slot, mount).map_err(failed);
        if mounted.is_err() {
            self.settle(|name, users| *name == volume.name && users.remove(user));
        }
        mounted
    }

    fn mount_in(
        &self,
        name: &str,
        slot: &Slot,
        mount: impl Fn() -> io::Result<Stage>,
    ) -> io::Result<Arc<Stage>> {
        let mut slot = taken(slot);
        if let Some(stage) = &*slot {
            return Ok(stage.clone());
        }
        let kept = kept_name(name).ok_or(io::ErrorKind::InvalidFilename)?;
        let stage = Arc::new(mount()?);
        self.keeper.keep(kept, &stage.descriptors()).map_err(io::Error::other)?;
        Ok(slot.insert(stage).clone())
    }

    /// Lets go of what has no users after `change`, which tells whether it changed anything.
    fn settle(&self, mut change: impl FnMut(&String, &mut BTreeSet<String>) -> bool) {
        self.mounts().retain(|name, mounted| {
            if !change(name, &mut mounted.users) || !mounted.users.is_empty() {
                return true;
            }
            // Nobody is mounting it: whoever does is a user.
            let is_kept = taken(&mounted.stage).is_some();
            if let Some(kept) = kept_name(name).filter(|_| is_kept)
                && let Err(error) = self.keeper.release(kept)
            {
                tracing::error!(volume = name, %error, "cannot tell PID 1 what is not needed");
            }
            false
        });
    }

    fn not_mounted(&self, volume: &Volume, error: &io::Error) -> VolumeError {
        let place = volume.mountpoint.display().to_string();
        let error = in_go_words(&error.to_string());
        let why = match volume.options.is_empty() {
            true => error,
            false => format!("failed to mount local volume: {}: {error}", call(&volume.options, &place)),
        };
        VolumeError::Mount { place, why }
    }
}

fn kept_name(volume: &str) -> Option<Name> {
    Name::new(format!("{KEPT}{volume}"))
}

fn open(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::empty())?)
}

fn taken(slot: &Slot) -> MutexGuard<'_, Option<Arc<Stage>>> {
    slot.lock().expect("who mounts a volume does not panic")
}
