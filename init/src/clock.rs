//! Keeping the machine's clock with the host's: a guest that slept with its host wakes up in the past.
//!
//! The host tells the time now and then, over the control line. Where the hypervisor has a clock to look at
//! (Documentation/driver-api/ptp.rst), that is read instead, and by itself each minute: nothing delays it on its way.
//! A small difference is worked off by a faster or slower clock, since databases take time that goes backwards for a
//! fault; a large one is a jump whatever is done.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, DynamicClockId, Timespec, clock_gettime, clock_gettime_dynamic, clock_settime};

use crate::messages::say;

/// How often a clock of the hypervisor is read.
const PERIOD: Duration = Duration::from_secs(60);

/// Clocks of hypervisors, which count as the host's wall clock does. A network card's may count otherwise.
const NAMES: [&str; 3] = ["KVM virtual PTP", "hyperv", "ptp_vmw"];

/// See the module.
#[derive(Debug, Default)]
pub struct Clock {
    device: Option<File>,
    /// When the device is read again.
    due: Option<Instant>,
}

impl Clock {
    /// Looks for a clock of the hypervisor. Their drivers are modules of the late list.
    pub fn open(now: Instant) -> Clock {
        let device = find(Path::new("/sys/class/ptp"), Path::new("/dev"));
        let due = device.is_some().then_some(now);
        Clock { device, due }
    }

    /// When [`Clock::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Time passes: reads the device if that is due.
    pub fn tick(&mut self, now: Instant) {
        if self.due.is_some_and(|due| now >= due) {
            self.due = Some(now + PERIOD);
            if let Err(error) = self.read().map_or(Ok(()), correct) {
                say!("cannot set the clock: {error}");
            }
        }
    }

    /// The host says that it is `nanos` since 1970 UTC. Returns by how much the clock was behind, in nanoseconds.
    pub fn follow(&self, nanos: u64) -> io::Result<i64> {
        let told = || i64::try_from(nanos).unwrap_or(i64::MAX).saturating_sub(now());
        let behind = self.read().unwrap_or_else(told);
        correct(behind).map(|()| behind)
    }

    /// By how much the clock is behind the device's: the best of three readings, since each may be interrupted.
    fn read(&self) -> Option<i64> {
        let device = self.device.as_ref()?;
        let readings = (0..3).filter_map(|_| {
            let before = now();
            let time = clock_gettime_dynamic(DynamicClockId::Dynamic(device.as_fd())).ok()?;
            let after = now();
            Some((after - before, nanos_of(time) - (before + (after - before) / 2)))
        });
        readings.min_by_key(|(took, _)| *took).map(|(_, behind)| behind)
    }
}

fn find(class: &Path, dev: &Path) -> Option<File> {
    let named = |device: &std::fs::DirEntry| {
        let name = std::fs::read_to_string(device.path().join("clock_name")).unwrap_or_default();
        NAMES.contains(&name.trim())
    };
    let device = std::fs::read_dir(class).ok()?.flatten().find(named)?;
    File::open(dev.join(device.file_name())).ok()
}

/// Makes it right: at once, or little by little.
fn correct(behind: i64) -> io::Result<()> {
    if behind.abs() < sys::clock::SLEW_MAX_NANOS {
        return sys::clock::slew(behind);
    }
    say!("the clock is off by {} ms and is set", behind / 1_000_000);
    // What was still to be worked off is of the past.
    sys::clock::slew(0)?;
    let wanted = now().saturating_add(behind);
    let time =
        Timespec { tv_sec: wanted.div_euclid(1_000_000_000), tv_nsec: wanted.rem_euclid(1_000_000_000) };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

fn now() -> i64 {
    nanos_of(clock_gettime(ClockId::Realtime))
}

fn nanos_of(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_hypervisors_clock_is_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let (class, dev) = (root.path().join("class"), root.path().join("dev"));
        let device = |name: &str, clock: &str| {
            std::fs::create_dir_all(class.join(name)).unwrap();
            std::fs::create_dir_all(&dev).unwrap();
            std::fs::write(class.join(name).join("clock_name"), format!("{clock}\n")).unwrap();
            std::fs::write(dev.join(name), "").unwrap();
        };
        assert!(find(&class, &dev).is_none());
        device("ptp0", "ena-ptp-05");
        assert!(find(&class, &dev).is_none());
        device("ptp1", "KVM virtual PTP");
        assert!(find(&class, &dev).is_some());
    }

    #[test]
    fn a_device_that_cannot_be_read_is_as_none() {
        let clock = Clock { device: Some(tempfile::tempfile().unwrap()), due: None };
        assert_eq!(clock.read(), None);
        let clock = Clock::default();
        assert_eq!((clock.read(), clock.deadline()), (None, None));
    }
}
