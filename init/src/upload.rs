//! An engine on its way from the host: nameless until it is whole, then in place of the one before at once.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use contract::paths::{ENGINED_UPGRADE, RUN};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, IFlags, Mode, OFlags, fallocate, ioctl_getflags, ioctl_setflags, linkat,
    open,
};

use crate::messages::say;

/// How every executable begins, see elf(5).
const ELF: &[u8; 4] = b"\x7fELF";

/// A file without a name, beside the place where it will have one, for an engine of `bytes` bytes.
pub fn file(bytes: u64) -> io::Result<File> {
    file_in(Path::new(RUN), bytes)
}

fn file_in(folder: &Path, bytes: u64) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(open(folder, flags, Mode::RWXU)?);
    fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    Ok(file)
}

/// Gives it its name. The file is closed, since none that is open for writing can be executed.
pub fn install(file: File) -> io::Result<()> {
    install_at(file, Path::new(ENGINED_UPGRADE))
}

fn install_at(file: File, path: &Path) -> io::Result<()> {
    let mut begin = [0; ELF.len()];
    if file.read_exact_at(&mut begin, 0).is_err() || begin != *ELF {
        return Err(io::Error::new(ErrorKind::InvalidData, "not an executable"));
    }
    let fresh = path.with_extension("new");
    // What a failure between the two names left.
    let _ = std::fs::remove_file(&fresh);
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, nameless, CWD, &fresh, AtFlags::SYMLINK_FOLLOW)?;
    fix(path, false);
    std::fs::rename(&fresh, path)?;
    fix(path, true);
    Ok(())
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
    use crate::body::Body;

    fn begin(folder: &Path, bytes: u64) -> Body {
        Body::of("engine", file_in(folder, bytes).unwrap(), bytes)
    }

    #[test]
    fn it_has_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engined");
        let mut body = begin(folder.path(), 6);
        assert_eq!(body.take(b"\x7fELF").unwrap(), 4);
        assert!(!body.is_whole() && !path.exists());
        assert_eq!(body.take(b"56status\n").unwrap(), 2);
        assert!(body.is_whole() && !path.exists());
        install_at(body.into_file().unwrap(), &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"\x7fELF56");
        // Nobody writes to it, but another may take its place.
        let fixed = open(&path, OFlags::RDONLY, Mode::empty()).and_then(|file| ioctl_getflags(&file));
        if fixed.is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE)) {
            assert!(File::options().write(true).open(&path).is_err());
        }
        let mut next = begin(folder.path(), 4);
        next.take(ELF).unwrap();
        install_at(next.into_file().unwrap(), &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), ELF);
        fix(&path, false);
    }

    #[test]
    fn what_is_no_executable_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engined");
        std::fs::write(&path, "before").unwrap();
        for text in ["x", "#!/bin/sh\n"] {
            let mut body = begin(folder.path(), text.len() as u64);
            body.take(text.as_bytes()).unwrap();
            let error = install_at(body.into_file().unwrap(), &path).unwrap_err();
            assert_eq!(error.to_string(), "not an executable");
        }
        let mut torn = begin(folder.path(), 8);
        torn.take(ELF).unwrap();
        assert!(torn.into_file().is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
    }
}
