//! The folder that holds everything of one appliance, and the locks that keep two programs from sharing it.

use crate::host::{self, AtSocket, NotPrivate};
use crate::lock::{self, Lock};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A bridge says who it is right after it took its lock.
const SIGNED_WITHIN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(1);

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
    /// Others could have put something into it.
    #[error("the folder {dir} {why}")]
    NotPrivate {
        /// The folder.
        dir: PathBuf,
        /// What is wrong and what helps.
        why: NotPrivate,
    },
    /// A bridge holds its lock and has not said who it is.
    #[error("the bridge in {dir} does not say who it is: see its bridge.log")]
    Nameless {
        /// The folder.
        dir: PathBuf,
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

impl Place {
    /// The folder for an appliance of this name.
    pub fn default_dir(name: &str) -> Result<PathBuf, PlaceError> {
        Ok(host::state_folder().ok_or(PlaceError::NoHome)?.join(name))
    }

    /// The folder as it is, made or not.
    pub fn at(dir: &Path) -> Result<Place, PlaceError> {
        let unusable = |source| PlaceError::Unusable { dir: dir.to_owned(), source };
        let dir = std::path::absolute(dir).map_err(unusable)?;
        let place = Place { dir };
        match place.console_socket().as_os_str().len() > host::SOCKET_PATH_MAX {
            true => Err(PlaceError::TooLong { dir: place.dir }),
            false => Ok(place),
        }
    }

    /// Makes the folder, for its owner only.
    pub fn make(&self) -> Result<(), PlaceError> {
        host::make_private_folder(&self.dir).map_err(self.unusable())?;
        self.check()
    }

    /// Refuses a folder into which somebody else could put something; one that is not there yet is fine.
    pub fn check(&self) -> Result<(), PlaceError> {
        match host::not_private(&self.dir) {
            Ok(None) => Ok(()),
            Ok(Some(why)) => Err(PlaceError::NotPrivate { dir: self.dir.clone(), why }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.unusable()(error)),
        }
    }

    fn unusable(&self) -> impl FnOnce(io::Error) -> PlaceError {
        let dir = self.dir.clone();
        |source| PlaceError::Unusable { dir, source }
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

    /// Where QEMU finds our device of the host's folders.
    pub fn folders_socket(&self) -> PathBuf {
        self.dir.join("folders.sock")
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
    pub fn sockets(&self) -> [PathBuf; 6] {
        [
            self.docker_socket(),
            self.bridge_socket(),
            self.qmp_socket(),
            self.vsock_socket(),
            self.folders_socket(),
            self.console_socket(),
        ]
    }

    /// Whoever starts, ends or removes an appliance has its turn first.
    pub fn turn_lock(&self) -> PathBuf {
        self.dir.join("up.lock")
    }

    /// Held by the bridge as long as it lives.
    pub fn bridge_lock(&self) -> PathBuf {
        self.dir.join("bridge.lock")
    }

    /// Waits for the turn to start an appliance here, and makes the folder.
    pub fn wait_for_turn(&self) -> Result<Lock, PlaceError> {
        loop {
            self.make()?;
            match Lock::wait(&self.turn_lock()) {
                // It was removed between the two calls, by whoever had the turn.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                taken => return taken.map_err(|source| PlaceError::File { path: self.turn_lock(), source }),
            }
        }
    }

    /// The turn, or nothing while somebody else has it.
    pub fn try_turn(&self) -> Result<Option<Lock>, PlaceError> {
        Lock::try_take(&self.turn_lock())
            .map_err(|source| PlaceError::File { path: self.turn_lock(), source })
    }

    /// Makes this process the bridge of this place; nothing while another one lives here.
    pub fn become_bridge(&self) -> Result<Option<Lock>, PlaceError> {
        let path = self.bridge_lock();
        let taken = Lock::try_take(&path).and_then(|taken| match taken {
            Some(held) => lock::sign(&path).map(|()| Some(held)),
            None => Ok(None),
        });
        taken.map_err(|source| PlaceError::File { path, source })
    }

    /// A bridge lives here.
    pub fn has_bridge(&self) -> Result<bool, PlaceError> {
        let path = self.bridge_lock();
        Lock::is_held(&path).map_err(|source| PlaceError::File { path, source })
    }

    /// The process of the bridge that lives here.
    pub fn bridge(&self) -> Result<Option<u32>, PlaceError> {
        let begun = Instant::now();
        while self.has_bridge()? {
            if let Some(pid) = lock::holder(&self.bridge_lock()) {
                return Ok(Some(pid));
            }
            if begun.elapsed() > SIGNED_WITHIN {
                return Err(PlaceError::Nameless { dir: self.dir.clone() });
            }
            std::thread::sleep(PAUSE);
        }
        Ok(None)
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
    match host::at_socket(path).map_err(file)? {
        AtSocket::Nothing => Ok(()),
        AtSocket::Stale => std::fs::remove_file(path).map_err(file),
        AtSocket::Live => Err(PlaceError::Taken { path: path.to_owned() }),
        AtSocket::Foreign => Err(PlaceError::NotASocket { path: path.to_owned() }),
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
        let held = place.become_bridge().unwrap();
        assert!(held.is_some());
        assert_eq!(place.bridge().unwrap(), Some(std::process::id()));
        assert!(place.become_bridge().unwrap().is_none());
        drop(held);
        assert!(!place.has_bridge().unwrap());
        assert_eq!(place.bridge().unwrap(), None);
    }

    #[test]
    fn a_long_folder_is_refused() {
        let long = Path::new("/tmp").join("x".repeat(100));
        assert!(matches!(Place::at(&long), Err(PlaceError::TooLong { .. })));
    }
}
