//! mount_setattr(2), which the safe crates do not have yet.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Attributes of a mount; see mount_setattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountAttributes(u64);

impl MountAttributes {
    /// Read-only.
    pub const RDONLY: MountAttributes = MountAttributes(0x1);
    /// Set-user-ID bits have no effect.
    pub const NOSUID: MountAttributes = MountAttributes(0x2);
    /// Device files cannot be opened.
    pub const NODEV: MountAttributes = MountAttributes(0x4);
    /// Programs cannot be executed.
    pub const NOEXEC: MountAttributes = MountAttributes(0x8);
    /// Reading changes no time.
    pub const NOATIME: MountAttributes = MountAttributes(0x10);
    /// Reading changes the time always, rather than once a day.
    pub const STRICTATIME: MountAttributes = MountAttributes(0x20);
    /// Reading a folder changes no time.
    pub const NODIRATIME: MountAttributes = MountAttributes(0x80);

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: MountAttributes) -> MountAttributes {
        MountAttributes(self.0 | other.0)
    }

    /// The kernel's number for the set.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set of a number of the kernel's.
    pub const fn from_bits(bits: u64) -> MountAttributes {
        MountAttributes(bits)
    }
}

/// How mounts propagate; see mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Neither way.
    Private,
    /// From the peer to here.
    Slave,
    /// Both ways.
    Shared,
    /// Neither way, and it cannot be mounted elsewhere.
    Unbindable,
}

/// The field of times, see mount_setattr(2).
const ATIME: u64 = 0x70;

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the mount at `path` below `dir`; with an empty path the mount that `dir` is.
///
/// # Errors
/// Those of mount_setattr(2).
pub fn mount_setattr(
    dir: BorrowedFd<'_>,
    path: &CStr,
    set: MountAttributes,
    propagation: Option<Propagation>,
    recursive: bool,
) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: set.0,
        // The three ways of times are one field, which is cleared before it is set.
        attr_clr: if set.0 & ATIME != 0 { ATIME } else { 0 },
        propagation: match propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Slave) => libc::MS_SLAVE,
            Some(Propagation::Shared) => libc::MS_SHARED,
            Some(Propagation::Unbindable) => libc::MS_UNBINDABLE,
        },
        userns_fd: 0,
    };
    change(dir, path, &attr, recursive)
}

/// Takes away that the mount `dir` is read-only; its file system may still be.
///
/// # Errors
/// Those of mount_setattr(2).
pub fn make_writable(dir: BorrowedFd<'_>) -> io::Result<()> {
    let attr = MountAttr { attr_set: 0, attr_clr: MountAttributes::RDONLY.0, propagation: 0, userns_fd: 0 };
    change(dir, c"", &attr, false)
}

fn change(dir: BorrowedFd<'_>, path: &CStr, attr: &MountAttr, recursive: bool) -> io::Result<()> {
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    let flags = (libc::AT_EMPTY_PATH | recursive) as libc::c_uint;
    // SAFETY: `attr` is a complete mount_attr of the size passed; the path is null-terminated.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
