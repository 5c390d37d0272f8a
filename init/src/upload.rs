//! An engine on its way from the host: nameless until it is whole, then in place of the one before at once.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use contract::control::ENGINE_MAX;
use contract::paths::{ENGINED_UPGRADE, RUN};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, IFlags, Mode, OFlags, fallocate, ioctl_getflags, ioctl_setflags, linkat,
    open,
};

use crate::messages::say;

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
        fix(path, false);
        std::fs::rename(&fresh, path)?;
        fix(path, true);
        Ok(())
    }
}

/// Takes away the one at [`ENGINED_UPGRADE`], if there is one.
pub fn remove() {
    fix(Path::new(ENGINED_UPGRADE), false);
    // It is only memory.
    let _ = std::fs::remove_file(ENGINED_UPGRADE);
}

/// What runs as the engine is nobody's to write to, as the image's own on its read-only root is not: a container into which an
/// engine process came could write to it by /proc/PID/exe once it ended (CVE-2019-5736). See FS_IMMUTABLE_FL in ioctl_iflags(2),
/// which takes a capability that no container has. A kernel without it on tmpfs, or a PID 1 without that capability, goes on
/// without.
fn fix(path: &Path, fixed: bool) {
    let Ok(file) = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else { return };
    let set = ioctl_getflags(&file).and_then(|mut flags| {
        flags.set(IFlags::IMMUTABLE, fixed);
        ioctl_setflags(&file, flags)
    });
    if let Err(error) = set {
        say!("{} can be written to: {error}", path.display());
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
        // Nobody writes to it, but another may take its place.
        let fixed = open(&path, OFlags::RDONLY, Mode::empty()).and_then(|file| ioctl_getflags(&file));
        if fixed.is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE)) {
            assert!(File::options().write(true).open(&path).is_err());
        }
        let mut next = Upload::begin_in(folder.path(), 4).unwrap();
        next.take(ELF).unwrap();
        next.install_at(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), ELF);
        fix(&path, false);
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
