//! Requests to a block device and to the ext4 on it, see ioctl_list(2) and the kernel's `uapi/linux/fs.h`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes `length` bytes of the block device from `offset` on read as zeros (BLKZEROOUT). Where the device can, the
/// space is given back rather than written.
///
/// # Errors
/// EINVAL unless both are multiples of the device's sector size; EIO.
pub fn zero_out(device: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    const BLKZEROOUT: libc::Ioctl = 0x127f;
    let range = [offset, length];
    // SAFETY: BLKZEROOUT reads two 64-bit words from the pointer.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), BLKZEROOUT, range.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

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
