//! What Linux alone does this way.

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use std::io;

/// The running program, also when its file was replaced meanwhile.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// Makes this process die when its parent does (prctl(2), PR_SET_PDEATHSIG); an error when that is dead already. The
/// kernel sends the signal when the parent's *thread* ends: the bridge therefore starts machines from its main thread.
pub fn die_with(parent: u32) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    match getppid().as_raw() as u32 == parent {
        true => Ok(()),
        false => Err(io::Error::other("the bridge is gone")),
    }
}

/// This host's memory, in bytes, where it can be told.
pub fn memory() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib = total.trim().trim_end_matches(" kB").parse::<u64>().ok()?;
    kib.checked_mul(1024)
}
