//! A volume's files as a mount for one container.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use contract::keeper::Name;
use model::in_go_words;
use runtime::volume::{Access, How, Stage, copy_of, inner, limit};
use rustix::fs::{Mode, OFlags};

use super::error::VolumeError;
use super::options::{Options, call};
use super::{Shared, Volume, Volumes};

/// Begins the names under which PID 1 keeps mounted volumes.
const KEPT: &str = "volume/";

/// A volume whose file system is mounted, and for whom.
pub(super) struct Mounted {
    stage: Arc<Stage>,
    users: BTreeSet<String>,
}

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
        let no_path = |errno| VolumeError::no_path(volume.mountpoint.join(path).display().to_string(), errno);
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
        self.shared.settle(|mounted| mounted.users.remove(user));
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
        let mounted = Mounted { stage: Arc::new(stage), users: BTreeSet::new() };
        self.shared.mounts().insert(volume, mounted);
    }

    /// A run that an engine before this one began has the volume.
    pub fn resume(&self, name: &str, user: &str) {
        if let Some(mounted) = self.shared.mounts().get_mut(name) {
            mounted.users.insert(user.to_owned());
        }
    }

    /// Every run was resumed: what nobody uses any more is let go.
    pub fn resumed(&self) {
        self.shared.settle(|_| true);
    }
}

impl Shared {
    fn mounts(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<String, Mounted>> {
        self.mounted.lock().expect("no holder of the mounts panics")
    }

    /// The mounted file system. The lock is held while it is mounted: of two first users one mounts it.
    fn stage(
        &self,
        volume: &Volume,
        mount: impl FnOnce() -> io::Result<Stage>,
        user: Option<&str>,
    ) -> Result<Arc<Stage>, VolumeError> {
        let failed = |error: io::Error| self.not_mounted(volume, &error);
        let mut mounts = self.mounts();
        if let Some(mounted) = mounts.get_mut(&volume.name) {
            mounted.users.extend(user.map(str::to_owned));
            return Ok(mounted.stage.clone());
        }
        let stage = Arc::new(mount().map_err(failed)?);
        if let Some(user) = user {
            let name = kept_name(&volume.name)
                .ok_or_else(|| failed(io::Error::from(io::ErrorKind::InvalidFilename)))?;
            let kept = self.keeper.keep(name, &stage.descriptors());
            kept.map_err(|error| failed(io::Error::other(error)))?;
            let users = [user.to_owned()].into();
            mounts.insert(volume.name.clone(), Mounted { stage: stage.clone(), users });
        }
        Ok(stage)
    }

    /// Lets go of what has no users after `change`, which tells whether it changed anything.
    fn settle(&self, mut change: impl FnMut(&mut Mounted) -> bool) {
        self.mounts().retain(|name, mounted| {
            if !change(mounted) || !mounted.users.is_empty() {
                return true;
            }
            if let Some(kept) = kept_name(name)
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
