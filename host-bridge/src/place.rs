//! The folder that holds everything of one appliance, and the locks that keep two programs from sharing it.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Longest path of a unix socket (unix(7): `sun_path`, with its final NUL).
const SOCKET_PATH_MAX: usize = 107;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Its sockets could not be bound.
    #[error("the folder {dir} has a name too long for sockets in it: choose a shorter one with --dir")]
    TooLong {
        /// The folder.
        dir: PathBuf,
    },
    /// It could not be made or is not usable.
    #[error("cannot use the folder {dir}: choose another with --dir")]
    Unusable {
        /// The folder.
        dir: PathBuf,
        /// From the file system.
        source: io::Error,
    },
    /// A file in it could not be made.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// From the file system.
        source: io::Error,
    },
    /// No folder was named and none could be derived.
    #[error("neither XDG_STATE_HOME nor HOME is set: name a folder with --dir")]
    NoHome,
    /// Something else listens where our socket shall be.
    #[error("another program listens on {path}: stop it or choose another folder with --dir")]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a socket lies where our socket shall be.
    #[error("{path} is not a socket: remove it or choose another folder with --dir")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
}

/// The folder of one appliance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    dir: PathBuf,
}

/// A lock that ends with the program, however it ends (flock(2)).
pub struct Held(#[expect(dead_code, reason = "dropping it is what it is for")] Flock<File>);

impl Place {
    /// The folder for an appliance of this name: below /var/lib/pinnace for root, below XDG_STATE_HOME (or
    /// ~/.local/state) for others.
    pub fn default_dir(name: &str) -> Result<PathBuf, PlaceError> {
        if nix::unistd::geteuid().is_root() {
            return Ok(Path::new("/var/lib/pinnace").join(name));
        }
        let absolute = |key: &str| std::env::var_os(key).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
        Ok(state.ok_or(PlaceError::NoHome)?.join("pinnace").join(name))
    }

    /// The folder as it is, made or not.
    pub fn at(dir: &Path) -> Result<Place, PlaceError> {
        let unusable = |source| PlaceError::Unusable { dir: dir.to_owned(), source };
        let dir = std::path::absolute(dir).map_err(unusable)?;
        let place = Place { dir };
        match place.console_socket().as_os_str().len() > SOCKET_PATH_MAX {
            true => Err(PlaceError::TooLong { dir: place.dir }),
            false => Ok(place),
        }
    }

    /// Makes the folder, for its owner only.
    pub fn make(&self) -> Result<(), PlaceError> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&self.dir).map_err(|source| PlaceError::Unusable { dir: self.dir.clone(), source })
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Docker's socket on the host.
    pub fn docker_socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// Where the bridge hears `status`, `down` and `console`.
    pub fn bridge_socket(&self) -> PathBuf {
        self.dir.join("bridge.sock")
    }

    /// Where QEMU's monitor calls back.
    pub fn qmp_socket(&self) -> PathBuf {
        self.dir.join("qmp.sock")
    }

    /// Where QEMU finds our vsock device.
    pub fn vsock_socket(&self) -> PathBuf {
        self.dir.join("vsock.sock")
    }

    /// Where QEMU's virtio console calls back.
    pub fn console_socket(&self) -> PathBuf {
        self.dir.join("console.sock")
    }

    /// What the guest's console said.
    pub fn console_log(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// What the first serial port said: the firmware and the kernel's last words.
    pub fn serial_log(&self) -> PathBuf {
        self.dir.join("serial.log")
    }

    /// What the bridge itself says.
    pub fn bridge_log(&self) -> PathBuf {
        self.dir.join("bridge.log")
    }

    /// The last published state.
    pub fn state_file(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    /// The data disk, unless another one was named.
    pub fn disk(&self) -> PathBuf {
        self.dir.join("data.img")
    }

    /// The data folder of the namespace backend.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Everything a running appliance leaves in the folder that must not outlive it.
    pub fn sockets(&self) -> [PathBuf; 5] {
        [
            self.docker_socket(),
            self.bridge_socket(),
            self.qmp_socket(),
            self.vsock_socket(),
            self.console_socket(),
        ]
    }

    /// Waits until no other `up` is at work here.
    pub fn hold_up(&self) -> Result<Held, PlaceError> {
        let path = self.dir.join("up.lock");
        let file = self.lock_file(&path)?;
        match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(lock) => Ok(Held(lock)),
            Err((_, errno)) => Err(PlaceError::File { path, source: errno.into() }),
        }
    }

    /// The bridge's lock, or nothing while a bridge lives.
    pub fn hold_bridge(&self) -> Result<Option<Held>, PlaceError> {
        let path = self.dir.join("bridge.lock");
        let file = self.lock_file(&path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Held(lock))),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(PlaceError::File { path, source: errno.into() }),
        }
    }

    /// A bridge lives here.
    pub fn has_bridge(&self) -> Result<bool, PlaceError> {
        match self.dir.exists() {
            true => Ok(self.hold_bridge()?.is_none()),
            false => Ok(false),
        }
    }

    fn lock_file(&self, path: &Path) -> Result<File, PlaceError> {
        let mut options = std::fs::OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        options.open(path).map_err(|source| PlaceError::File { path: path.to_owned(), source })
    }

    /// Removes the sockets of an appliance that is gone. Refuses when one of them is somebody else's.
    pub fn clear_sockets(&self) -> Result<(), PlaceError> {
        self.sockets().iter().try_for_each(|path| clear_socket(path))
    }

    /// Removes whatever a dead appliance left, asking nothing: for the end, when the sockets are our own.
    pub fn remove_sockets(&self) {
        for path in self.sockets() {
            // It may never have been made.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn clear_socket(path: &Path) -> Result<(), PlaceError> {
    let file = |source| PlaceError::File { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(file(error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(PlaceError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(PlaceError::Taken { path: path.to_owned() }),
        Err(_) => std::fs::remove_file(path).map_err(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn place() -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::at(&folder.path().join("a")).unwrap();
        place.make().unwrap();
        (folder, place)
    }

    #[test]
    fn a_stale_socket_is_removed_and_a_live_one_is_not() {
        let (_folder, place) = place();
        drop(UnixListener::bind(place.docker_socket()).unwrap());
        place.clear_sockets().unwrap();
        assert!(!place.docker_socket().exists());
        let _live = UnixListener::bind(place.docker_socket()).unwrap();
        assert!(matches!(place.clear_sockets(), Err(PlaceError::Taken { .. })));
    }

    #[test]
    fn a_file_in_the_sockets_place_is_left_alone() {
        let (_folder, place) = place();
        std::fs::write(place.docker_socket(), "mine").unwrap();
        assert!(matches!(place.clear_sockets(), Err(PlaceError::NotASocket { .. })));
        assert!(place.docker_socket().exists());
    }

    #[test]
    fn one_bridge_at_a_time() {
        let (_folder, place) = place();
        let held = place.hold_bridge().unwrap();
        assert!(held.is_some());
        assert!(place.has_bridge().unwrap());
        drop(held);
        assert!(!place.has_bridge().unwrap());
    }

    #[test]
    fn a_long_folder_is_refused() {
        let long = Path::new("/tmp").join("x".repeat(100));
        assert!(matches!(Place::at(&long), Err(PlaceError::TooLong { .. })));
    }
}
