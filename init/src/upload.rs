//! An engine on its way from the host: nameless until it is whole, then in place of the one before at once.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use contract::control::ENGINE_MAX;
use contract::paths::{ENGINED_UPGRADE, RUN};
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, fallocate, linkat, open};

/// How every executable begins, see elf(5).
const ELF: &[u8; 4] = b"\x7fELF";

/// See the module.
#[derive(Debug)]
pub struct Upload {
    file: File,
    taken: u64,
    wanted: u64,
}

impl Upload {
    /// Begins one of `bytes` bytes; the memory for it is taken now.
    pub fn begin(bytes: u64) -> io::Result<Upload> {
        Upload::begin_in(Path::new(RUN), bytes)
    }

    fn begin_in(folder: &Path, bytes: u64) -> io::Result<Upload> {
        if bytes == 0 || bytes > ENGINE_MAX {
            let text = format!("an engine has from 1 to {ENGINE_MAX} bytes");
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = File::from(open(folder, flags, Mode::RWXU)?);
        fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
        Ok(Upload { file, taken: 0, wanted: bytes })
    }

    /// Takes what belongs to it from the beginning of `bytes`; returns how much that was.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = usize::try_from(self.wanted - self.taken).unwrap_or(usize::MAX);
        let own = &bytes[..left.min(bytes.len())];
        self.file.write_all_at(own, self.taken)?;
        self.taken += own.len() as u64;
        Ok(own.len())
    }

    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.taken == self.wanted
    }

    /// Gives it its name. The file is closed, since none that is open for writing can be executed.
    pub fn install(self) -> io::Result<()> {
        self.install_at(Path::new(ENGINED_UPGRADE))
    }

    fn install_at(self, path: &Path) -> io::Result<()> {
        let mut begin = [0; ELF.len()];
        if !self.is_whole() || self.file.read_exact_at(&mut begin, 0).is_err() || begin != *ELF {
            return Err(io::Error::new(ErrorKind::InvalidData, "not an executable"));
        }
        let fresh = path.with_extension("new");
        // What a failure between the two names left.
        let _ = std::fs::remove_file(&fresh);
        let nameless = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(CWD, nameless, CWD, &fresh, AtFlags::SYMLINK_FOLLOW)?;
        std::fs::rename(&fresh, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engined");
        let mut upload = Upload::begin_in(folder.path(), 6).unwrap();
        assert_eq!(upload.take(b"\x7fELF").unwrap(), 4);
        assert!(!upload.is_whole() && !path.exists());
        assert_eq!(upload.take(b"56status\n").unwrap(), 2);
        assert!(upload.is_whole() && !path.exists());
        upload.install_at(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"\x7fELF56");
    }

    #[test]
    fn what_is_no_executable_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engined");
        std::fs::write(&path, "before").unwrap();
        for text in ["x", "#!/bin/sh\n"] {
            let mut upload = Upload::begin_in(folder.path(), text.len() as u64).unwrap();
            upload.take(text.as_bytes()).unwrap();
            assert_eq!(upload.install_at(&path).unwrap_err().to_string(), "not an executable");
        }
        let mut torn = Upload::begin_in(folder.path(), 8).unwrap();
        torn.take(ELF).unwrap();
        assert!(torn.install_at(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
        assert!(Upload::begin_in(folder.path(), 0).is_err());
        assert!(Upload::begin_in(folder.path(), ENGINE_MAX + 1).is_err());
    }
}
