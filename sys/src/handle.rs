//! File handles, by which fanotify(7) names what happened where; see name_to_handle_at(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// MAX_HANDLE_SZ of the kernel, in bytes.
const LONGEST: usize = 128;

#[repr(C)]
struct Handle {
    head: libc::file_handle,
    bytes: [u8; LONGEST],
}

/// A file's handle with its file system's number before it, as the kernel lays them out in `struct fanotify_event_info_fid`.
///
/// # Errors
/// The file system has no handles, or those of the two calls.
pub fn of(file: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut system = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the pointer is to a statfs structure of ours.
    if unsafe { libc::fstatfs(file.as_raw_fd(), system.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroes are a statfs, and the call filled it in.
    let number = unsafe { system.assume_init() }.f_fsid;
    // SAFETY: the type is two ints without a hole; any bytes will do.
    let number: [u8; 8] = unsafe { std::mem::transmute(number) };
    let head = libc::file_handle { handle_bytes: LONGEST as u32, handle_type: 0, f_handle: [] };
    let mut handle = Handle { head, bytes: [0; LONGEST] };
    let mut mount = 0;
    // SAFETY: the handle has room for as many bytes as it says, the path is empty and null-terminated.
    let result = unsafe {
        libc::name_to_handle_at(
            file.as_raw_fd(),
            c"".as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let length = (handle.head.handle_bytes as usize).min(LONGEST);
    let mut all = number.to_vec();
    all.extend(handle.head.handle_bytes.to_ne_bytes());
    all.extend(handle.head.handle_type.to_ne_bytes());
    all.extend(&handle.bytes[..length]);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn a_file_has_one_handle() {
        let (here, there) = (File::open("/").unwrap(), File::open("/usr").unwrap());
        let Ok(handle) = of(here.as_fd()) else { return };
        assert_eq!(handle, of(File::open("/").unwrap().as_fd()).unwrap());
        assert_ne!(handle, of(there.as_fd()).unwrap());
        assert_eq!(handle.len(), 16 + u32::from_ne_bytes(handle[8..12].try_into().unwrap()) as usize);
    }
}
