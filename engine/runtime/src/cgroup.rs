//! One container's control group on the unified hierarchy (cgroup v2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// A cgroup folder, open.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    folder: OwnedFd,
}

/// A cgroup operation failed.
#[derive(Debug, thiserror::Error)]
#[error("cgroup {path}: {what}: {source}", path = path.display())]
pub struct CgroupError {
    path: PathBuf,
    what: String,
    #[source]
    source: io::Error,
}

impl Cgroup {
    /// Makes the cgroup `path`, or opens it where it exists.
    ///
    /// # Errors
    /// The parent is missing.
    pub fn create(path: &Path) -> Result<Cgroup, CgroupError> {
        match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(source) => return Err(error(path, "make")(source)),
        }
        Self::open(path)
    }

    /// Makes the cgroup `path` for a new life. What an earlier one left there, processes or limits, is ended and removed first.
    ///
    /// # Errors
    /// The parent is missing, or a process of the earlier life does not end.
    pub fn create_anew(path: &Path) -> Result<Cgroup, CgroupError> {
        match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
            Ok(()) => Self::open(path),
            Err(Errno::EXIST) => {
                kill_and_remove(path)?;
                rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o755)).map_err(error(path, "make"))?;
                Self::open(path)
            }
            Err(source) => Err(error(path, "make")(source)),
        }
    }

    /// Opens an existing cgroup.
    ///
    /// # Errors
    /// It does not exist.
    pub fn open(path: &Path) -> Result<Cgroup, CgroupError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty()).map_err(error(path, "open"))?;
        Ok(Cgroup { path: path.to_owned(), folder })
    }

    /// For `CLONE_INTO_CGROUP` and for attaching programs.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Writes an interface file such as `memory.max`.
    ///
    /// # Errors
    /// ENOENT where the controller is missing, and the kernel's refusals.
    pub fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        let write = || {
            let fd = rustix::fs::openat(&self.folder, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(&fd, value.as_bytes()).map(drop)
        };
        write().map_err(error(&self.path, &format!("write {value:?} to {file}")))
    }

    /// Reads an interface file.
    ///
    /// # Errors
    /// ENOENT where the controller is missing.
    pub fn read(&self, file: &str) -> Result<String, CgroupError> {
        std::fs::read_to_string(self.path.join(file)).map_err(|source| CgroupError {
            path: self.path.clone(),
            what: format!("read {file}"),
            source,
        })
    }

    /// SIGKILL to every process inside, at once; no fork can outrun it.
    ///
    /// # Errors
    /// Only where the kernel is older than 5.14.
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.write("cgroup.kill", "1")
    }

    /// Stops or continues every process inside and waits until the kernel says so. Where one cannot be stopped (it hangs in a
    /// file system that does not answer) all go on.
    ///
    /// # Errors
    /// The cgroup is gone, or it takes longer than a second.
    pub fn freeze(&self, frozen: bool) -> Result<(), CgroupError> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })?;
        let waited = self.wait_for(if frozen { "frozen 1" } else { "frozen 0" });
        if frozen && waited.is_err() {
            self.write("cgroup.freeze", "0")?;
        }
        waited
    }

    fn wait_for(&self, wanted: &str) -> Result<(), CgroupError> {
        // The kernel freezes tasks as they next run; the file tells when the last one did.
        for _ in 0..2000 {
            if self.read("cgroup.events")?.lines().any(|line| line == wanted) {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_micros(500));
        }
        let timed_out = io::Error::from(io::ErrorKind::TimedOut);
        Err(CgroupError { path: self.path.clone(), what: format!("wait for {wanted:?}"), source: timed_out })
    }

    /// Process ids inside, as this pid namespace sees them.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        Ok(self.read("cgroup.procs")?.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// [`Cgroup::pids`] of this and of every cgroup below it.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn all_pids(&self) -> Result<Vec<u32>, CgroupError> {
        let mut pids = self.pids()?;
        let mut left = vec![self.path.clone()];
        while let Some(folder) = left.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    // One that is gone meanwhile has no processes.
                    pids.extend(
                        Cgroup::open(&entry.path()).and_then(|child| child.pids()).unwrap_or_default(),
                    );
                    left.push(entry.path());
                }
            }
        }
        pids.sort_unstable();
        Ok(pids)
    }

    /// How often the kernel killed a process inside for want of memory; 0 without the memory controller.
    pub fn oom_kills(&self) -> u64 {
        let events = self.read("memory.events").unwrap_or_default();
        events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
    }
}

/// Makes `parent`, a path below the tree's `root`, with every controller for those below it.
///
/// # Errors
/// EBUSY where a cgroup on the way has processes of its own (cgroups(7), "no internal processes").
pub fn make_parent(root: &Path, parent: &Path) -> Result<(), CgroupError> {
    let mut path = root.to_owned();
    for name in parent {
        path.push(name);
        let cgroup = Cgroup::create(&path)?;
        let (has, gives) = (cgroup.read("cgroup.controllers")?, cgroup.read("cgroup.subtree_control")?);
        if has != gives {
            let all: Vec<String> = has.split_ascii_whitespace().map(|one| format!("+{one}")).collect();
            cgroup.write("cgroup.subtree_control", &all.join(" "))?;
        }
    }
    Ok(())
}

/// Removes a cgroup whose processes have ended, and its descendants; one that is gone is fine.
///
/// # Errors
/// EBUSY while a process is inside.
pub fn remove(path: &Path) -> Result<(), CgroupError> {
    match rustix::fs::rmdir(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::BUSY) => {
            let children = std::fs::read_dir(path).into_iter().flatten().flatten();
            for child in children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                remove(&child.path())?;
            }
            match rustix::fs::rmdir(path) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(source) => Err(error(path, "remove")(source)),
            }
        }
        Err(source) => Err(error(path, "remove")(source)),
    }
}

/// Ends every process of a cgroup and removes it, with its descendants; one that is gone is fine.
///
/// # Errors
/// EBUSY where a process has not ended after 200 ms: the kernel may keep one for as long as a device does not answer.
pub fn kill_and_remove(path: &Path) -> Result<(), CgroupError> {
    // Mostly the first process was the last.
    let mut removed = remove(path);
    for _ in 0..200 {
        if removed.is_ok() {
            break;
        }
        let _ = Cgroup::open(path).and_then(|cgroup| cgroup.kill());
        // The kernel takes a moment to bury the last process.
        std::thread::sleep(std::time::Duration::from_millis(1));
        removed = remove(path);
    }
    removed
}

fn error(path: &Path, what: &str) -> impl FnOnce(Errno) -> CgroupError {
    move |source| CgroupError { path: path.to_owned(), what: what.to_owned(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_frozen_goes_on() {
        // A folder with the two files that the freezer has; nobody freezes anything.
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cgroup.freeze"), "0").unwrap();
        std::fs::write(folder.path().join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        let cgroup = Cgroup::open(folder.path()).unwrap();
        let error = cgroup.freeze(true).unwrap_err();
        assert!(error.to_string().contains("wait for \"frozen 1\""), "{error}");
        assert_eq!(cgroup.read("cgroup.freeze").unwrap(), "0");
    }
}
