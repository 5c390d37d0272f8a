//! Changes of the host's folders, done again in the machine so that its kernel tells of them by inotify(7).
//!
//! The host's server knows the thread that reads a change from [`contract::paths::HOST_CHANGES`]: what that thread does about it
//! is answered as done and changes nothing, and nothing else that it does to a file of the host is done at all.

// The thread does nothing else.
#![allow(clippy::disallowed_methods)]

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, chmod, mkdirat, mknodat, open, renameat, statat, symlinkat,
    unlinkat,
};
use rustix::io::{Errno, pwrite, read};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};

/// Longest record: a word and two paths.
const RECORD_MAX: usize = 3 * 4096;
/// It is told by system calls alone.
const STACK: usize = 64 << 10;

/// Starts the thread that tells of changes. Returns what wakes it, which does not block; nothing where the folders are mounted in
/// another way, so that the kernel knows of all changes by itself.
///
/// # Errors
/// There is no thread to be had.
pub fn tell(mounts: &Path) -> io::Result<Option<impl Fn() + Send + 'static>> {
    let Ok(changes) = File::open(mounts.join("changes")) else { return Ok(None) };
    let (wake, woken) = sync_channel(1);
    let mounts = mounts.to_owned();
    let thread = std::thread::Builder::new().name("host-changes".to_owned()).stack_size(STACK);
    thread.spawn(move || run(&changes, &mounts, &woken))?;
    Ok(Some(move || match wake.try_send(()) {
        // One that is on its way will read this, too.
        Ok(()) | Err(TrySendError::Full(())) => {}
        Err(TrySendError::Disconnected(())) => {
            tracing::debug!("changes of the host's folders are told no longer")
        }
    }))
}

/// An engine that begins finds what was not told when the one before it ended.
fn run(changes: &File, mounts: &Path, woken: &Receiver<()>) {
    loop {
        loop {
            let mut record = vec![0; RECORD_MAX];
            match read(changes, &mut record) {
                Ok(0) => break,
                Ok(length) => tell_one(mounts, &record[..length]),
                Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "changes of the host's folders are told no longer");
                    return;
                }
            }
        }
        if woken.recv().is_err() {
            return;
        }
    }
}

fn tell_one(mounts: &Path, record: &[u8]) {
    let mut parts = record.split(|byte| *byte == 0);
    let word = parts.next().unwrap_or_default();
    let mut path = || -> PathBuf { mounts.join(OsStr::from_bytes(parts.next().unwrap_or_default())) };
    let (path, to) = (path(), path());
    let told = match word {
        b"made" => mknodat(CWD, &path, FileType::RegularFile, Mode::RUSR | Mode::WUSR, 0),
        b"made-folder" => mkdirat(CWD, &path, Mode::RWXU),
        b"made-link" => symlinkat(".", CWD, &path),
        b"removed" => unlinkat(CWD, &path, AtFlags::empty()),
        b"removed-folder" => unlinkat(CWD, &path, AtFlags::REMOVEDIR),
        b"moved" => renameat(CWD, &path, CWD, &to),
        b"written" => write(&path),
        b"attributes" => attributes(&path),
        word => return tracing::warn!(word = %String::from_utf8_lossy(word), "a change of another release"),
    };
    // One that the kernel has met meanwhile is no news as a name.
    let told = if told == Err(Errno::EXIST) && word == b"made" { write(&path) } else { told };
    if let Err(error) = told {
        // Nobody here has ever asked for that name, so nobody waits for it; or it is gone again.
        tracing::debug!(path = %path.display(), %error, "a change of the host's is not told");
    }
}

/// Opens, writes and closes.
fn write(path: &Path) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::empty())?;
    pwrite(&file, b"\n", 0).map(drop)
}

fn attributes(path: &Path) -> Result<(), Errno> {
    let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        // The kernel would follow it.
        FileType::Symlink => Ok(()),
        _ => chmod(path, Mode::from_raw_mode(stat.st_mode & 0o7777)),
    }
}
