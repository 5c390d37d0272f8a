//! Locks that end with the program, however it ends, and the number of the process that holds one.
//!
//! A lock's file may be removed by whoever holds the lock, so every taker looks whether the path still leads to the file
//! it locked. The holder's number lies in a file beside it, since Windows lets nobody read a file that is locked.

use crate::host;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Who looks at a lock holds it shared for microseconds, so one attempt proves nothing.
const LOOKED_AT: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(2);

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "dropping it is what it is for")] File);

impl Lock {
    /// The lock, as soon as nobody else has it.
    pub fn wait(path: &Path) -> io::Result<Lock> {
        loop {
            let file = open(path)?;
            file.lock()?;
            if host::leads_to(path, &file)? {
                return Ok(Lock(file));
            }
        }
    }

    /// The lock, or nothing where somebody else has it.
    pub fn try_take(path: &Path) -> io::Result<Option<Lock>> {
        let begun = Instant::now();
        loop {
            let file = open(path)?;
            match file.try_lock() {
                Ok(()) if host::leads_to(path, &file)? => return Ok(Some(Lock(file))),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if begun.elapsed() >= LOOKED_AT => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Whether somebody has the lock. Those who look do not disturb one another, and whoever takes it tries long enough.
    pub fn is_held(path: &Path) -> io::Result<bool> {
        let file = match host::private(OpenOptions::new().read(true)).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    host::private(OpenOptions::new().create(true).truncate(false).write(true)).open(path)
}

/// Notes this process as the holder of a lock.
pub fn sign(path: &Path) -> io::Result<()> {
    host::write_private(&holder_file(path), std::process::id().to_string().as_bytes())
}

/// The process that holds a lock, once it has said so; the note of one that was killed names nobody who lives.
pub fn holder(path: &Path) -> Option<u32> {
    let pid = std::fs::read_to_string(holder_file(path)).ok()?.parse().ok()?;
    host::process_lives(pid).then_some(pid)
}

/// Where the holder's number is.
pub fn holder_file(path: &Path) -> PathBuf {
    path.with_extension("pid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn path() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        (folder, path)
    }

    #[test]
    fn one_holds_it_and_others_see_that() {
        let (_folder, path) = path();
        assert!(!Lock::is_held(&path).unwrap());
        assert!(!path.exists(), "looking makes nothing");
        let lock = Lock::try_take(&path).unwrap().unwrap();
        assert!(Lock::is_held(&path).unwrap());
        assert!(Lock::try_take(&path).unwrap().is_none());
        drop(lock);
        assert!(!Lock::is_held(&path).unwrap());
        assert!(Lock::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn the_holder_is_named_as_long_as_it_lives() {
        let (_folder, path) = path();
        assert_eq!(holder(&path), None);
        sign(&path).unwrap();
        assert_eq!(holder(&path), Some(std::process::id()));
        std::fs::write(holder_file(&path), i32::MAX.to_string()).unwrap();
        assert_eq!(holder(&path), None);
    }

    #[test]
    fn those_who_look_keep_nobody_from_taking_it() {
        let (_folder, path) = path();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        Lock::is_held(&path).unwrap();
                    }
                });
            }
            let taken = (0..200).all(|_| Lock::try_take(&path).unwrap().is_some());
            done.store(true, Ordering::Relaxed);
            assert!(taken);
        });
    }

    #[test]
    fn a_lock_whose_file_was_removed_is_no_lock() {
        let (_folder, path) = path();
        let first = Lock::wait(&path).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Lock::wait(&path).unwrap());
            std::thread::sleep(Duration::from_millis(50));
            std::fs::remove_file(&path).unwrap();
            drop(first);
            let _second = second.join().unwrap();
            assert!(Lock::is_held(&path).unwrap(), "the second holds what the path leads to");
        });
    }
}
