//! A log of bounded size: what is older lies in NAME.1, what is older still is gone.

use crate::host;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A log that is longer is moved aside, so both files have at most about twice this, in bytes.
pub const LOG_MAX: u64 = 8 << 20;

/// See the module.
#[derive(Debug)]
pub struct BoundedLog {
    path: PathBuf,
    file: File,
    length: u64,
}

impl BoundedLog {
    /// An empty log; the last one is moved aside.
    pub fn begin(path: &Path) -> io::Result<BoundedLog> {
        set_aside(path)?;
        Ok(BoundedLog { path: path.to_owned(), file: host::create_private(path)?, length: 0 })
    }

    /// Goes on where the last one ended.
    pub fn go_on(path: &Path) -> io::Result<BoundedLog> {
        let file = append(path)?;
        Ok(BoundedLog { path: path.to_owned(), length: file.metadata()?.len(), file })
    }
}

/// A file for its owner alone, of which what is there stays.
pub fn append(path: &Path) -> io::Result<File> {
    host::private(OpenOptions::new().create(true).append(true)).open(path)
}

impl Write for BoundedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.length >= LOG_MAX {
            *self = BoundedLog::begin(&self.path)?;
        }
        let written = self.file.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Where what is older lies.
pub fn older(path: &Path) -> PathBuf {
    let mut older = path.to_owned().into_os_string();
    older.push(".1");
    older.into()
}

fn set_aside(path: &Path) -> io::Result<()> {
    match std::fs::rename(path, older(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        std::fs::write(&path, "before").unwrap();
        let mut log = BoundedLog::go_on(&path).unwrap();
        let chunk = vec![b'x'; 1 << 20];
        log.write_all(&chunk).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(b"beforex"));
        (0..20).for_each(|_| log.write_all(&chunk).unwrap());
        for path in [&path, &older(&path)] {
            assert!(std::fs::metadata(path).unwrap().len() <= LOG_MAX + chunk.len() as u64);
        }
    }
}
