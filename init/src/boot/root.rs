//! Off the initramfs, and read-only.
//!
//! pivot_root(2) refuses while the root is the kernel's first mount (rootfs), so no container could get a root of
//! its own. The usual way, switch_root, copies all files to another file system and deletes them here. A bind mount
//! of the root onto itself has a parent mount as well, which is all that pivot_root asks for, and copies nothing.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, unlinkat};
use rustix::mount::{MountFlags, mount_bind, mount_move, mount_remount};

use super::{BootError, Machine};

/// Any empty folder of the image.
const STEP: &str = "/mnt";

/// Makes a bind mount of the initramfs the root.
pub fn leave_initramfs(machine: &mut Machine) -> Result<(), BootError> {
    let failed = |what| move |error: rustix::io::Errno| BootError::Call { what, source: error.into() };
    machine.rootfs = Some(open_root().map_err(failed("open the root"))?);
    mount_bind("/", STEP).map_err(failed("bind the root"))?;
    rustix::process::chdir(STEP).map_err(failed("enter the new root"))?;
    mount_move(".", "/").map_err(failed("move the new root"))?;
    rustix::process::chroot(".").map_err(failed("change the root"))?;
    rustix::process::chdir("/").map_err(failed("enter the new root"))
}

/// Later this is the only way to the writable mount below: [`forget`] frees memory through it.
fn open_root() -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, "/", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Gives the memory of a file of the image back that nothing needs any more; one that stays costs only that.
pub fn forget(rootfs: Option<BorrowedFd<'_>>, path: &Path) {
    if let (Some(rootfs), Ok(relative)) = (rootfs, path.strip_prefix("/")) {
        let _ = unlinkat(rootfs, relative, AtFlags::empty());
    }
}

/// Nothing writes to the root from here on.
pub fn seal(_: &mut Machine) -> Result<(), BootError> {
    mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, "")
        .map_err(|error| BootError::Call { what: "make the root read-only", source: error.into() })
}
