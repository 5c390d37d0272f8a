//! Kernel modules: a list before the engine starts, a longer one beside it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use contract::paths::{INIT, MODULES, MODULES_BOOT, MODULES_LATE, MODULES_READY};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use sys::clone::StringArray;
use sys::start::Program;

use crate::messages::{chain, say};

use super::{BootError, Machine};

/// The only argument of the helper process that loads [`MODULES_LATE`].
pub const LATE: &str = "--late-modules";

/// Where the helper finds the writable root.
const ROOTFS_FD: RawFd = 3;

/// Loads [`MODULES_BOOT`].
pub fn load_boot(machine: &mut Machine) -> Result<(), BootError> {
    let rootfs = machine.rootfs.as_ref().map(AsFd::as_fd);
    list(MODULES_BOOT)?.iter().try_for_each(|path| load(path, rootfs))
}

/// Starts the helper: the kernel takes its time for each module, and the keeper must not wait. Returns the
/// helper's process id.
pub fn start_late(machine: &Machine) -> io::Result<u32> {
    let arguments = [INIT, LATE].map(|word| CString::new(word).expect("no NUL in a constant"));
    let path = arguments[0].clone();
    let fds: Vec<_> = machine.rootfs.iter().map(|fd| (fd.as_fd(), ROOTFS_FD)).collect();
    let (arguments, environment) = (StringArray::new(arguments.into()), StringArray::new(Vec::new()));
    let program = Program { path: &path, arguments, environment, cgroup: None, fds: &fds };
    Ok(program.start()?.pid)
}

/// The helper: tries every module of [`MODULES_LATE`], then makes [`MODULES_READY`].
pub fn helper() {
    let rootfs: Option<OwnedFd> = sys::inherit::take(ROOTFS_FD);
    match list(MODULES_LATE) {
        Err(error) => say!("{}", chain(&error)),
        Ok(paths) => paths.iter().for_each(|path| {
            if let Err(error) = load(path, rootfs.as_ref().map(AsFd::as_fd)) {
                say!("{}", chain(&error));
            }
        }),
    }
    ready();
}

/// Makes [`MODULES_READY`]: whoever waits for modules need not wait any longer.
pub fn ready() {
    if let Err(error) = File::create(MODULES_READY) {
        say!("cannot write {MODULES_READY}: {error}");
    }
}

/// An image without a list has all it needs in the kernel.
fn list(path: &str) -> Result<Vec<PathBuf>, BootError> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            Ok(text.lines().filter(|line| !line.is_empty()).map(|l| Path::new(MODULES).join(l)).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(BootError::Read { path: path.into(), source }),
    }
}

/// Loads one and gives the memory of its file back. ENODEV: a driver without its device, which is no fault.
fn load(path: &Path, rootfs: Option<BorrowedFd<'_>>) -> Result<(), BootError> {
    let file = File::open(path).map_err(|source| BootError::Read { path: path.to_owned(), source })?;
    match rustix::system::finit_module(&file, c"", 0) {
        Ok(()) | Err(Errno::EXIST | Errno::NODEV) => {}
        Err(error) => return Err(BootError::Module { path: path.to_owned(), source: error.into() }),
    }
    if let (Some(rootfs), Ok(relative)) = (rootfs, path.strip_prefix("/")) {
        // The initramfs is memory; a file that stays costs only that.
        let _ = unlinkat(rootfs, relative, AtFlags::empty());
    }
    Ok(())
}
