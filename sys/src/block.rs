//! Requests to a mounted ext4, see the kernel's `fs/ext4/ioctl.c`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Grows the mounted ext4, of which `folder` is any open file or folder, to `blocks` of its blocks
/// (EXT4_IOC_RESIZE_FS).
///
/// # Errors
/// EINVAL where it would shrink, ENOTTY where it is no ext4; EIO.
pub fn grow_ext4(folder: BorrowedFd<'_>, blocks: u64) -> io::Result<()> {
    // _IOW('f', 16, __u64)
    const EXT4_IOC_RESIZE_FS: libc::Ioctl = 0x4008_6610;
    // SAFETY: EXT4_IOC_RESIZE_FS reads one 64-bit word from the pointer.
    let result = unsafe { libc::ioctl(folder.as_raw_fd(), EXT4_IOC_RESIZE_FS, &raw const blocks) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
