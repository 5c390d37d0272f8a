//! Descriptors that a parent left open at agreed numbers.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers already handed out, one bit each.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Takes over the descriptor `number` (below 64), close-on-exec from now on; `None` where it is not open or was
/// taken before. Call it before anything else can have been opened at that number.
pub fn take(number: RawFd) -> Option<OwnedFd> {
    let bit = u32::try_from(number).ok().and_then(|n| 1u64.checked_shl(n))?;
    if TAKEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return None;
    }
    // SAFETY: fcntl on any number only reports whether it is open and sets its flag.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: the number is open, and TAKEN gives it to one owner only.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
