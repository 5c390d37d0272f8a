//! The end: no process, no mount, nothing unwritten, no power.

use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use contract::console::GAVE_UP;
use contract::settings::{Backend, OnFailure};
use rustix::system::{RebootCommand, reboot};

use crate::line;
use crate::messages::{last, say};

use super::Action;

/// Between SIGTERM and SIGKILL: whoever wanted to end in order was asked by the engine before.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// For killed processes to be gone; one in an uninterruptible sleep is not waited for longer.
const GONE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// A restart after a failure waits, so that the reason can be read and the machine does not spin.
const BEFORE_RESTART: Duration = Duration::from_secs(5);

/// How a namespace's PID 1 ends when it had to give up, for the program on the host.
const EXIT_FAILED: i32 = 1;

/// What [`give_up`] does, known to the panic hook too.
static POLICY: OnceLock<(Backend, OnFailure)> = OnceLock::new();

/// Sets what happens when this process must give up.
pub fn set_policy(backend: Backend, on_failure: OnFailure) {
    // A second call would come from a second boot of this process, and there is none.
    let _ = POLICY.set((backend, on_failure));
}

/// Ends every process but this one, runs `undo`, writes all to disk and switches off or restarts.
pub fn down(action: Action, backend: Backend, undo: impl FnOnce()) -> ! {
    say!(
        "{}",
        match action {
            Action::PowerOff => "powering off",
            Action::Reboot => "restarting",
        }
    );
    end_processes();
    undo();
    leave(action, backend, false)
}

/// After a failed boot or a panic: by policy, never a silent hang. The host is told why on the control line, where it has
/// one, and on the console, which it reads in any case.
pub fn give_up(reason: &str) -> ! {
    let reason = reason.replace('\n', " ");
    line::last_words(&reason);
    last(format!("{GAVE_UP}{reason}\n").as_bytes());
    let (backend, on_failure) = POLICY.get().copied().unwrap_or_default();
    let action = match on_failure {
        OnFailure::PowerOff => Action::PowerOff,
        OnFailure::Reboot => Action::Reboot,
    };
    if action == Action::Reboot {
        say!("restarting in {} s", BEFORE_RESTART.as_secs());
        sleep(BEFORE_RESTART);
    }
    leave(action, backend, true)
}

/// In a pid namespace reboot(2) ends this process by SIGINT (power off) or SIGHUP (restart), which the host sees
/// (pid_namespaces(7)).
fn leave(action: Action, backend: Backend, failed: bool) -> ! {
    rustix::fs::sync();
    let command = match action {
        Action::PowerOff if failed && backend == Backend::Namespace => std::process::exit(EXIT_FAILED),
        Action::PowerOff => RebootCommand::PowerOff,
        Action::Reboot => RebootCommand::Restart,
    };
    if let Err(error) = reboot(command) {
        say!("cannot switch off or restart: {error}");
    }
    // A machine that does not know how to switch itself off comes back here: the kernel panics over the end of its
    // PID 1, and restarts (kernel.panic).
    std::process::exit(EXIT_FAILED)
}

fn end_processes() {
    for (signal, patience) in [(nix::libc::SIGTERM, LAST_WORDS), (nix::libc::SIGKILL, GONE)] {
        // ESRCH: there is none.
        if sys::reap::kill_all(signal).is_err() || reap_all(patience) {
            return;
        }
    }
    say!("some processes do not end and are left");
}

/// Whether there is no child left.
fn reap_all(patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        match sys::reap::peek() {
            Err(_) => return true,
            Ok(Some(pid)) => {
                let _ = sys::reap::take(pid);
            }
            Ok(None) if Instant::now() >= until => return false,
            Ok(None) => sleep(PAUSE),
        }
    }
}
