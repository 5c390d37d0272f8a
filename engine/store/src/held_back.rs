//! The database's file, to which nothing is written before its schema is known.
//!
//! redb writes when it opens a file: it marks it as in use, and repairs it after an unclean end. A disk of a later
//! release must not be touched, but its schema is only known from an open database. So until [`HeldBack::release`] all
//! that redb writes is kept in memory, laid over what it reads. Then it goes to the file in its order, with its syncs,
//! since that order is what makes a repair safe against a power cut.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// One change of the file.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
    Sync,
}

/// Clones are the same file.
#[derive(Debug, Clone)]
pub(super) struct HeldBack {
    file: Arc<FileBackend>,
    /// In order; `None` from the release on.
    changes: Arc<RwLock<Option<Vec<Change>>>>,
}

impl HeldBack {
    pub(super) fn new(file: File) -> Result<HeldBack, redb::Error> {
        let changes = Arc::new(RwLock::new(Some(Vec::new())));
        Ok(HeldBack { file: Arc::new(FileBackend::new(file)?), changes })
    }

    /// Writes what was held back. From now on everything goes to the file at once.
    pub(super) fn release(&self) -> io::Result<()> {
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes.take().unwrap_or_default() {
            match change {
                Change::Write(offset, data) => self.file.write(offset, &data)?,
                Change::Length(length) => self.file.set_len(length)?,
                Change::Sync => self.file.sync_data()?,
            }
        }
        Ok(())
    }

    /// What was held back so far.
    #[cfg(test)]
    pub(super) fn kept(&self) -> Vec<Change> {
        let changes = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        changes.as_ref().expect("nothing was released").clone()
    }

    /// Keeps a change, or says that it is to be done now.
    fn keep(&self, change: impl FnOnce() -> Change) -> bool {
        if self.changes.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            return false;
        }
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        changes.as_mut().map(|changes| changes.push(change())).is_some()
    }
}

#[cfg(test)]
impl Change {
    /// Does it to the bytes of a file.
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(offset, data) => {
                let begin = *offset as usize;
                bytes.resize(bytes.len().max(begin + data.len()), 0);
                bytes[begin..begin + data.len()].copy_from_slice(data);
            }
            Change::Length(length) => bytes.resize(*length as usize, 0),
            Change::Sync => {}
        }
    }
}

/// The end of the file as it would be.
fn length(on_disk: u64, changes: &[Change]) -> u64 {
    changes.iter().fold(on_disk, |length, change| match change {
        Change::Write(offset, data) => length.max(offset + data.len() as u64),
        Change::Length(length) => *length,
        Change::Sync => length,
    })
}

/// Reads what is on disk and puts the changes over it; what was cut off in between is zero.
fn read_over(file: &FileBackend, changes: &[Change], offset: u64, out: &mut [u8]) -> io::Result<()> {
    let on_disk = file.len()?.saturating_sub(offset).min(out.len() as u64) as usize;
    file.read(offset, &mut out[..on_disk])?;
    out[on_disk..].fill(0);
    for change in changes {
        match change {
            Change::Write(at, data) => overlay(offset, out, *at, data),
            Change::Length(length) => {
                let left = length.saturating_sub(offset).min(out.len() as u64) as usize;
                out[left..].fill(0);
            }
            Change::Sync => {}
        }
    }
    Ok(())
}

/// Copies that part of `data`, which begins at `at`, that lies in `out`, which begins at `offset`.
fn overlay(offset: u64, out: &mut [u8], at: u64, data: &[u8]) {
    let (begin, end) = (at.max(offset), (at + data.len() as u64).min(offset + out.len() as u64));
    if begin < end {
        let (from, to) = ((begin - at) as usize, (begin - offset) as usize);
        let count = (end - begin) as usize;
        out[to..to + count].copy_from_slice(&data[from..from + count]);
    }
}

impl StorageBackend for HeldBack {
    fn len(&self) -> Result<u64, io::Error> {
        let changes = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        Ok(length(self.file.len()?, changes.as_deref().unwrap_or_default()))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let changes = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        let Some(changes) = changes.as_deref() else { return self.file.read(offset, out) };
        if offset + out.len() as u64 > length(self.file.len()?, changes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read_over(&self.file, changes, offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        if self.keep(|| Change::Length(len)) { Ok(()) } else { self.file.set_len(len) }
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        if self.keep(|| Change::Sync) { Ok(()) } else { self.file.sync_data() }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        if self.keep(|| Change::Write(offset, data.to_vec())) {
            Ok(())
        } else {
            self.file.write(offset, data)
        }
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
