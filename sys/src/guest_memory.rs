//! Files read straight into a guest's memory and written straight from it: preadv(2) and pwritev(2) with pieces that somebody
//! else may change at any moment, which no reference of Rust's can stand for.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use vm_memory::VolatileSlice;

/// IOV_MAX: pieces of one call; what is in more of them is left out.
const PIECES_MAX: usize = 1024;

/// Reads from `offset` of a file on; returns how many bytes there were.
///
/// # Errors
/// Those of preadv(2).
pub fn read_at(file: BorrowedFd<'_>, into: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let guards: Vec<_> = into.iter().take(PIECES_MAX).map(VolatileSlice::ptr_guard_mut).collect();
    let pieces: Vec<_> = guards
        .iter()
        .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
        .collect();
    // SAFETY: each guard keeps its piece writable for its whole length until after the call.
    let length = unsafe {
        libc::preadv(file.as_raw_fd(), pieces.as_ptr(), pieces.len() as libc::c_int, offset.cast_signed())
    };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

/// Writes at `offset` of a file; returns how many bytes.
///
/// # Errors
/// Those of pwritev(2).
pub fn write_at(file: BorrowedFd<'_>, from: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let guards: Vec<_> = from.iter().take(PIECES_MAX).map(VolatileSlice::ptr_guard).collect();
    let pieces: Vec<_> = guards
        .iter()
        .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast_mut().cast(), iov_len: guard.len() })
        .collect();
    // SAFETY: each guard keeps its piece readable for its whole length until after the call, which only reads.
    let length = unsafe {
        libc::pwritev(file.as_raw_fd(), pieces.as_ptr(), pieces.len() as libc::c_int, offset.cast_signed())
    };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

    #[test]
    fn what_is_in_pieces_stays_in_order() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x2000)]).unwrap();
        memory.write_slice(b"second", GuestAddress(0x1000)).unwrap();
        memory.write_slice(b"first ", GuestAddress(0x10)).unwrap();
        let piece = |at, length| memory.get_slice(GuestAddress(at), length).unwrap();
        let file = tempfile::tempfile().unwrap();
        assert_eq!(write_at(file.as_fd(), &[piece(0x10, 6), piece(0x1000, 6)], 2).unwrap(), 12);
        assert_eq!(read_at(file.as_fd(), &[piece(0x100, 1), piece(0x200, 100)], 1).unwrap(), 13);
        let mut found = [0; 12];
        memory.read_slice(&mut found, GuestAddress(0x200)).unwrap();
        assert_eq!(&found, b"first second");
        assert!(write_at(file.as_fd(), &[piece(0, 1)], u64::MAX).is_err());
    }
}
