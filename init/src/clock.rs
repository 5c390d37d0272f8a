//! Keeping the machine's clock with the host's: a guest that slept with its host wakes up in the past.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// A smaller difference is not worth a jump: the line itself takes a moment on its way.
const TOLERANCE: Duration = Duration::from_millis(50);

/// Sets the clock to `nanos` since 1970 UTC if it is off by more than [`TOLERANCE`].
pub fn follow(nanos: u64) -> rustix::io::Result<()> {
    let wanted = Duration::from_nanos(nanos);
    let now = clock_gettime(ClockId::Realtime);
    let now = Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
    if now.abs_diff(wanted) <= TOLERANCE {
        return Ok(());
    }
    let time = Timespec { tv_sec: wanted.as_secs().cast_signed(), tv_nsec: wanted.subsec_nanos().into() };
    clock_settime(ClockId::Realtime, time)
}
