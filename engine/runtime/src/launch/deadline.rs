//! Launches that take too long are killed. A process on its way may stand still for ever: somebody freezes the control group it is
//! in, or stops it. The engine's thread stands still with it, since it waits as vfork(2) does.
//!
//! A thread that looks at the clock now and then does the killing. It is there only while there are launches, and a
//! launch neither wakes it nor waits for it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Far beyond what a launch takes on a slow and busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// How often the thread looks.
const PERIOD: Duration = Duration::from_secs(5);

struct Watched {
    since: Instant,
    /// The process's id once it was cloned, then 0 again; its lock is held to kill it.
    pid: Arc<AtomicU32>,
    killed: bool,
}

#[derive(Default)]
struct Watcher {
    launches: Vec<Watched>,
    runs: bool,
}

static WATCHER: Mutex<Watcher> = Mutex::new(Watcher { launches: Vec::new(), runs: false });

/// A launch that is watched until its end.
pub(super) struct Watch {
    pid: Arc<AtomicU32>,
}

/// The process whose id clone3(2) writes to `pid` is killed where the launch does not end in time.
pub(super) fn watch(pid: Arc<AtomicU32>) -> Watch {
    pid.store(0, Ordering::Relaxed);
    let mut watcher = WATCHER.lock().expect("no holder of the watcher panics");
    watcher.launches.push(Watched { since: Instant::now(), pid: pid.clone(), killed: false });
    if !watcher.runs {
        // Without the thread launches are as good as they were, but for their deadline.
        watcher.runs = std::thread::Builder::new().name("deadline".to_owned()).spawn(look).is_ok();
    }
    Watch { pid }
}

impl Watch {
    /// The launch has ended; whether it was killed.
    pub(super) fn end(self) -> bool {
        let mut watcher = WATCHER.lock().expect("no holder of the watcher panics");
        let own = watcher.launches.iter().position(|launch| Arc::ptr_eq(&launch.pid, &self.pid));
        own.is_some_and(|index| watcher.launches.swap_remove(index).killed)
    }
}

fn look() {
    loop {
        std::thread::sleep(PERIOD);
        let mut watcher = WATCHER.lock().expect("no holder of the watcher panics");
        if watcher.launches.is_empty() {
            watcher.runs = false;
            return;
        }
        let now = Instant::now();
        watcher.launches.iter_mut().for_each(|launch| launch.kill_late(now, DEADLINE));
    }
}

impl Watched {
    fn kill_late(&mut self, now: Instant, deadline: Duration) {
        let pid = Pid::from_raw(self.pid.load(Ordering::Relaxed).cast_signed());
        if let Some(pid) = pid.filter(|_| now.saturating_duration_since(self.since) >= deadline) {
            // The launch is still on the list, so its thread still waits, and the number is still the process's.
            self.killed = kill_process(pid, Signal::KILL).is_ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_late_are_killed() {
        let child = std::process::Command::new("sleep").arg("100").spawn();
        let mut child = child.unwrap();
        let pid = Arc::new(AtomicU32::new(child.id()));
        let mut launch = Watched { since: Instant::now(), pid, killed: false };
        launch.kill_late(launch.since + Duration::from_secs(29), DEADLINE);
        assert!(!launch.killed && child.try_wait().unwrap().is_none());
        launch.kill_late(launch.since + DEADLINE, DEADLINE);
        assert!(launch.killed);
        assert!(!child.wait().unwrap().success());
    }
}
