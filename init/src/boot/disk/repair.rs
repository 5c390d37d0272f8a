//! Repairing the data disk by the image's own e2fsck(8).

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use contract::paths::E2FSCK;
use sys::clone::StringArray;
use sys::start::Program;

use crate::messages::say;

/// Why it is not repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The program did not start.
    #[error("cannot run {E2FSCK}")]
    Start {
        /// The kernel's word.
        source: io::Error,
    },
    /// The program gave up.
    #[error("{E2FSCK} ended with wait status {status:#x}, see its lines above")]
    Failed {
        /// As of wait(2).
        status: i32,
    },
}

/// What is safe first (`-p`). What it leaves to a person to decide is then answered with yes (`-y`): there is no person
/// here, and a copy of the disk can be made on the host before it is tried.
pub fn run(device: &Path) -> Result<(), RepairError> {
    let status = e2fsck(device, c"-p")?;
    if is_repaired(status) {
        return Ok(());
    }
    say!("data disk {}: repaired at the cost of what cannot be saved", device.display());
    let status = e2fsck(device, c"-y")?;
    if is_repaired(status) { Ok(()) } else { Err(RepairError::Failed { status }) }
}

/// Exit code 0: nothing was wrong; 1 and 2: it is not any more.
fn is_repaired(status: i32) -> bool {
    matches!(status, 0 | 0x100 | 0x200)
}

/// Its wait status. Its lines go to the console.
fn e2fsck(device: &Path, how: &std::ffi::CStr) -> Result<i32, RepairError> {
    let started = |source| RepairError::Start { source };
    let path = CString::new(E2FSCK).expect("no NUL in a constant");
    let device = CString::new(device.as_os_str().as_bytes()).map_err(|error| started(error.into()))?;
    let null = File::open("/dev/null").map_err(started)?;
    let fds = [(null.as_fd(), 0), (rustix::stdio::stderr(), 1), (rustix::stdio::stderr(), 2)];
    let program = Program {
        path: &path,
        arguments: StringArray::new(vec![c"e2fsck".into(), how.into(), device]),
        environment: StringArray::new(Vec::new()),
        cgroup: None,
        fds: &fds,
    };
    let pid = program.start().map_err(started)?.pid;
    loop {
        // Nothing else happens in a boot that waits for its disk.
        match sys::reap::take(pid).map_err(started)? {
            Some(ended) => return Ok(ended.status),
            None => sleep(Duration::from_millis(5)),
        }
    }
}
