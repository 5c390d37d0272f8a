//! `pinnace namespace-outside` (hidden): unshares, waits for the network, starts `inside`, and tells how it ended.
//!
//! ```text
//!   bridge                          outside
//!     plan (a line of JSON) ──────►
//!     ◄─────────────────────────── ready       the namespaces are there
//!     go ─────────────────────────►
//!     ◄─────────────────────────── pid N       /init runs
//!     ◄─────────────────────────── ended HOW
//! ```
//! At any time instead: `error TEXT`.

use super::INSIDE;
use crate::guard::Ties;
use crate::host;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

/// What both processes need to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The unpacked root tree.
    pub root: PathBuf,
    /// The folder that becomes the data disk.
    pub data: PathBuf,
    /// Folders of the host that the machine gets.
    pub shares: Vec<PathBuf>,
    /// The cgroup to enter.
    pub cgroup: PathBuf,
    /// The words of `init`.
    pub words: Vec<String>,
}

/// How PID 1 ended, as a word on the line.
pub const POWERED_OFF: &str = "powered-off";
/// See [`POWERED_OFF`].
pub const RESET: &str = "reset";

/// Runs the subcommand.
pub fn outside(ties: &Ties) -> ExitCode {
    match hold(ties) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error {}", error.to_string().replace('\n', " ")));
            ExitCode::FAILURE
        }
    }
}

fn hold(ties: &Ties) -> io::Result<()> {
    host::die_with(ties.parent)?;
    host::lower_open_files(ties.files)?;
    let mut lines = io::stdin().lock().lines();
    let plan = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    let new = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWPID;
    unshare(new).map_err(named("make new namespaces"))?;
    // Mounts made from now on stay here, and the host's unmounts still come through to let go of its devices.
    let quiet = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, quiet, None::<&str>).map_err(named("part the mount tree"))?;
    tell("ready");
    lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    let mut child = start(&plan)?;
    tell(&format!("pid {}", child.id()));
    tell(&format!("ended {}", how(child.wait()?)));
    Ok(())
}

/// Starts `inside`, the first process of the new pid namespace, and waits until it became `init`.
fn start(plan: &str) -> io::Result<Child> {
    let console = io::stderr().as_fd().try_clone_to_owned()?;
    let mut command = Command::new(host::own_program()?);
    command.arg(INSIDE).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(console);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(plan.as_bytes())?;
    drop(stdin);
    // Closed by a successful execve; words in it are the reason of another end.
    let mut complaint = String::new();
    child.stdout.take().expect("stdout is piped").read_to_string(&mut complaint)?;
    match complaint.is_empty() {
        true => Ok(child),
        false => Err(io::Error::other(complaint)),
    }
}

/// In a pid namespace reboot(2) ends PID 1 by a signal that tells which it was (pid_namespaces(7)).
fn how(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) if signal == Signal::SIGINT as i32 => POWERED_OFF.to_owned(),
        Some(signal) if signal == Signal::SIGHUP as i32 => RESET.to_owned(),
        _ => status.to_string(),
    }
}

fn tell(line: &str) {
    // Without a bridge the parent-death signal is on its way.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Names what was tried.
pub fn named(what: &'static str) -> impl FnOnce(nix::Error) -> io::Error {
    move |errno| io::Error::other(format!("cannot {what}: {}", errno.desc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_pid_1_tells_what_it_wanted() {
        let check = |raw: i32, want: &str| assert_eq!(how(ExitStatus::from_raw(raw)), want);
        check(2, POWERED_OFF);
        check(1, RESET);
        check(9, "signal: 9 (SIGKILL)");
        check(0x100, "exit status: 1");
    }
}
