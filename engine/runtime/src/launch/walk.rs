//! A process that walks the plan in the engine's own memory, or in a copy of it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use sys::clone::{Memory, Numbers, Stack, clone_twice, clone_vfork};

use super::bare::Bare;
use super::deadline::{self, DEADLINE};
use super::file::Files;
use super::plan::Plan;
use super::run::{LaunchError, Launched};
use super::spec::Process;
use super::step::Step;

/// Clones, and waits until the process runs its program or has failed.
pub(super) fn launch(
    plan: &Plan,
    files: &Files<'_>,
    cgroup: BorrowedFd<'_>,
    memory: Memory,
    process: &Process,
) -> Result<Launched, LaunchError> {
    let mut buffers = Buffers::take().map_err(LaunchError::Clone)?;
    // The number of the last step that was begun, counted from 1, and, where it failed, its errno.
    let reached = buffers.reached.at(0);
    reached.store(0, Ordering::Relaxed);
    let take = |steps: &[Step], first: usize| {
        for (index, step) in steps.iter().enumerate() {
            let number = (first + index) as u64 + 1;
            reached.store(number << 32, Ordering::Relaxed);
            if let Err(errno) = step.run(files) {
                reached.store(number << 32 | errno.raw_os_error() as u64, Ordering::Relaxed);
                return false;
            }
        }
        true
    };
    let mut child = || {
        take(&plan.steps, plan.outside.len());
        255
    };
    let [first, second] = &mut buffers.stacks;
    let watch = deadline::watch(buffers.pid.clone());
    // After the watch, whose thread must not be born in there.
    let bare = plan.bare.then(Bare::enter).transpose().map_err(LaunchError::Clone)?;
    let pid = Some(&*buffers.pid);
    let result = match plan.outside.is_empty() {
        true => clone_vfork(plan.flags, Some(cgroup), memory, first, pid, &mut child).map(Some),
        false => {
            let mut outside = || take(&plan.outside, 0);
            clone_twice(plan.flags, Some(cgroup), memory, [first, second], pid, &mut outside, &mut child)
        }
    };
    let timed_out = watch.end();
    drop(bare);
    let reached = reached.load(Ordering::Relaxed);
    let (step, errno) = ((reached >> 32) as usize, (reached & 0xffff_ffff) as i32);
    let made = result.map_err(LaunchError::Clone)?;
    match &made {
        Some(_) => buffers.give_back(),
        // Somebody killed the process outside. The one that it made may still be at work in memory that is about to be used
        // for other things; PID 1 starts another engine, and the containers run on.
        None if errno == 0 && memory == Memory::Shared => std::process::abort(),
        // It may be at its end there, or have a copy: its buffers are nobody else's.
        None => std::mem::forget(buffers),
    }
    match made {
        _ if errno != 0 => Err(explain(plan, step, Errno::from_raw_os_error(errno), process)),
        // Its end is PID 1's to tell, if PID 1 was told of it.
        Some(child) if step > plan.registers_at() => Ok(Launched { pid: child.pid, pidfd: child.pidfd }),
        _ if timed_out => Err(LaunchError::TimedOut(DEADLINE)),
        _ => Err(LaunchError::Killed),
    }
}

/// Where new processes run until they have memory of their own.
struct Buffers {
    stacks: [Stack; 2],
    reached: Numbers,
    /// Of the newest process.
    pid: Arc<AtomicU32>,
}

/// Of finished launches, so that a launch maps no memory.
static SPARE: Mutex<Vec<Buffers>> = Mutex::new(Vec::new());

/// Most buffers kept for the next launches.
const SPARE_MAX: usize = 8;

impl Buffers {
    fn take() -> std::io::Result<Buffers> {
        let spare = SPARE.lock().expect("no holder of the buffers panics").pop();
        let new = || {
            let stacks = [Stack::new()?, Stack::new()?];
            Ok(Buffers { stacks, reached: Numbers::new()?, pid: Arc::default() })
        };
        spare.map_or_else(new, Ok)
    }

    fn give_back(self) {
        let mut spare = SPARE.lock().expect("no holder of the buffers panics");
        if spare.len() < SPARE_MAX {
            spare.push(self);
        }
    }
}

/// The error of a step, counted from 1.
pub(super) fn explain(plan: &Plan, step: usize, errno: Errno, process: &Process) -> LaunchError {
    match step.checked_sub(1).and_then(|index| plan.all().nth(index)) {
        Some(Step::Exec { .. }) | None => {
            let program = process.args.first().cloned().unwrap_or_default();
            LaunchError::Exec { program, errno }
        }
        Some(step) => LaunchError::Step { step: step.describe(errno), errno },
    }
}
