//! Leading the system's clock without a jump, see adjtimex(2).

use std::io;

/// The kernel's limit for an offset that it works off by itself.
pub const SLEW_MAX_NANOS: i64 = 500_000_000;

/// The clock is behind by so much, or ahead where it is negative: it runs faster or slower until it is not, by a
/// sixteenth of what is left in each second. What was left of an earlier offset is forgotten.
///
/// # Errors
/// EPERM without CAP_SYS_TIME. An offset beyond [`SLEW_MAX_NANOS`] is cut by the kernel.
pub fn slew(behind_nanos: i64) -> io::Result<()> {
    // SAFETY: timex is plain memory, for which zero is a valid value.
    let mut wish: libc::timex = unsafe { std::mem::zeroed() };
    wish.modes = libc::ADJ_OFFSET
        | libc::ADJ_NANO
        | libc::ADJ_STATUS
        | libc::ADJ_TIMECONST
        | libc::ADJ_MAXERROR
        | libc::ADJ_ESTERROR;
    wish.offset = behind_nanos;
    // Only the offset: the rate at which a guest's clock drifts under load is not that of the next minute.
    wish.status = libc::STA_PLL | libc::STA_FREQHOLD;
    wish.constant = 2;
    wish.maxerror = behind_nanos.abs() / 1000;
    wish.esterror = wish.maxerror;
    // SAFETY: adjtimex reads and writes the one structure it is given.
    if unsafe { libc::adjtimex(&raw mut wish) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
