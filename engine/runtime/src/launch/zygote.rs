//! The engine's side of the zygote: a small process of the engine's own program that makes the processes which are born among
//! others (execs, probes, containers with `--pid container:`).
//!
//! ```text
//!   engine ── (cgroup, channel) ──► zygote ── clone3 into the cgroup ──► forerunner          in the engine's pid namespace
//!     │                                                                     │ has the zygote's memory, reads the steps
//!     │ ◄───────────────── Forked: its pidfd ───────────────────────────────┤ walks them, gives up every right
//!     │                                                                     └─ clone ──► the process      in the container's
//!     │ ◄───────────────── Born, with the kernel's word who says so ───────────────────────┤
//!     ├── Launched to PID 1 in its name                                                    │ waits
//!     └── Go ──────────────────────────────────────────────────────────────────────────────► execve
//! ```
//!
//! A process with CAP_SYS_PTRACE in that pid namespace may do with the new one as it likes, from its first instruction on. It
//! finds nothing there: neither memory, nor descriptors, nor rights of the engine. The forerunner, which has the rights,
//! it cannot see. The zygote was executed anew, so it never had the engine's memory, and each forerunner reads only its own orders.
//!
//! The end of the engine closes the socket and every channel, which ends the zygote and all that wait for a `Go`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use sys::clone::{CloneFlags, StringArray};
use sys::packet;
use sys::start::Program;

use super::deadline::DEADLINE;
use super::file::{File, Files};
use super::plan::{Message, Plan};
use super::process_steps::CHANNEL;
use super::run::{LaunchError, Launched};
use super::spec::Process;
use super::step::Step;
use super::walk::explain;

/// The argument by which the engine's program knows that it is to call [`super::zygote_main`].
pub const ZYGOTE: &str = "zygote";

/// Orders longer than this travel in several packets.
pub(super) const PIECE: usize = 64 * 1024;

/// One packet of orders for a forerunner. The names' descriptors ride along.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Piece<'a> {
    pub names: Vec<File>,
    pub bytes: &'a [u8],
    pub is_last: bool,
}

/// The orders, borrowed.
#[derive(Debug, Serialize)]
struct OrdersRef<'a> {
    steps: &'a [Step],
    inside: &'a [Step],
}

/// The orders of a forerunner.
#[derive(Debug, Deserialize)]
pub(super) struct Orders {
    /// Its own steps.
    pub steps: Vec<Step>,
    /// Those of the process that it makes.
    pub inside: Vec<Step>,
}

/// What comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// The forerunner exists; its pidfd rides along.
    Forked,
    /// A process could not be made.
    NotForked { errno: i32 },
    /// A step failed, counted from 1.
    Failed { step: usize, errno: i32 },
    /// The process exists, and waits.
    Born,
}

/// What the engine says to a process that is born.
pub(super) const GO: u8 = 1;

static SOCKET: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Starts the zygote ahead of the first launch that needs it.
///
/// # Errors
/// The program cannot be started.
pub fn start_zygote() -> std::io::Result<()> {
    let mut socket = SOCKET.lock().expect("no holder of the zygote's socket panics");
    if socket.is_none() {
        *socket = Some(start()?);
    }
    Ok(())
}

fn start() -> std::io::Result<OwnedFd> {
    let (ours, theirs) = packet::pair()?;
    let null = std::fs::File::open("/dev/null")?;
    let argument = std::ffi::CString::new(ZYGOTE).expect("no NUL in a constant");
    let program = Program {
        path: c"/proc/self/exe",
        arguments: StringArray::new(vec![c"engined".into(), argument]),
        environment: StringArray::new(vec![]),
        cgroup: None,
        fds: &[(null.as_fd(), 0), (theirs.as_fd(), CHANNEL)],
    };
    // A child of PID 1, as the processes that come of it have to be.
    program.start_as(CloneFlags::PARENT)?;
    Ok(ours)
}

/// Asks for a forerunner in `cgroup`. A zygote that somebody killed is replaced.
fn ask(cgroup: BorrowedFd<'_>, channel: BorrowedFd<'_>) -> std::io::Result<()> {
    let mut socket = SOCKET.lock().expect("no holder of the zygote's socket panics");
    loop {
        let (zygote, is_new) = match socket.take() {
            Some(zygote) => (zygote, false),
            None => (start()?, true),
        };
        match packet::send(zygote.as_fd(), &[GO], &[cgroup, channel]) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe && !is_new => {}
            sent => {
                *socket = Some(zygote);
                return sent;
            }
        }
    }
}

/// A report with its descriptors and, by the kernel's word, the process that sent it.
type Heard = (Report, Vec<OwnedFd>, Option<u32>);

/// A process that is about to make another one in a control group, and waits for its orders. Dropped without any, it ends.
#[derive(Debug)]
pub struct Forerunner {
    channel: OwnedFd,
    itself: Option<OwnedFd>,
    born: Option<Launched>,
}

impl Forerunner {
    /// Has one made, which takes a moment in which the caller can prepare the orders.
    ///
    /// # Errors
    /// There is no zygote and none can be started.
    pub fn call(cgroup: BorrowedFd<'_>) -> Result<Forerunner, LaunchError> {
        let call = || {
            let (channel, theirs) = packet::pair()?;
            packet::pass_credentials(channel.as_fd())?;
            packet::limit_waits(channel.as_fd(), DEADLINE)?;
            ask(cgroup, theirs.as_fd())?;
            Ok(Forerunner { channel, itself: None, born: None })
        };
        call().map_err(LaunchError::Clone)
    }

    /// Starts the process of `plan`, and waits until it runs its program or has failed.
    pub(super) fn launch(
        mut self,
        plan: &Plan,
        files: &Files<'_>,
        message: &Message,
        process: &Process,
    ) -> Result<Launched, LaunchError> {
        self.run(plan, files, message, process).inspect_err(|_| self.kill())
    }

    fn run(
        &mut self,
        plan: &Plan,
        files: &Files<'_>,
        message: &Message,
        process: &Process,
    ) -> Result<Launched, LaunchError> {
        self.send_orders(plan, files).map_err(of_channel)?;
        loop {
            match self.next(plan, process)?.ok_or(LaunchError::Killed)? {
                (Report::Forked, fds, _) => self.itself = fds.into_iter().next(),
                (Report::Born, _, pid) => {
                    self.register(plan, files, message, pid.ok_or(LaunchError::Killed)?)?;
                    break;
                }
                (Report::NotForked { .. } | Report::Failed { .. }, ..) => return Err(LaunchError::Killed),
            }
        }
        packet::send(self.channel.as_fd(), &[GO], &[]).map_err(of_channel)?;
        loop {
            match self.next(plan, process)? {
                // The channel closes by execve(2).
                None => return self.born.take().ok_or(LaunchError::Killed),
                // The zygote comes to say it when it has a processor, and that may be late.
                Some((Report::Forked, fds, _)) => self.itself = fds.into_iter().next(),
                Some(_) => return Err(LaunchError::Killed),
            }
        }
    }

    fn send_orders(&self, plan: &Plan, files: &Files<'_>) -> std::io::Result<()> {
        let encoded = |error: postcard::Error| std::io::Error::other(error);
        let orders = OrdersRef { steps: &plan.steps, inside: &plan.inside };
        let bytes = postcard::to_stdvec(&orders).map_err(encoded)?;
        // What only the engine uses stays with it.
        let files: Vec<_> =
            files.iter().filter(|(name, _)| !matches!(name, File::Keeper | File::Kept(_))).collect();
        let mut pieces = bytes.chunks(PIECE).peekable();
        let mut groups = files.chunks(packet::FDS_MAX).peekable();
        loop {
            let (bytes, group) = (pieces.next().unwrap_or_default(), groups.next().unwrap_or_default());
            let is_last = pieces.peek().is_none() && groups.peek().is_none();
            let (names, fds): (Vec<_>, Vec<_>) = group.iter().copied().unzip();
            let piece = postcard::to_stdvec(&Piece { names, bytes, is_last }).map_err(encoded)?;
            match packet::send(self.channel.as_fd(), &piece, &fds) {
                // Its report, or its silence, says more.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                sent => sent?,
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// The next report that is no error; `None` where all who had the other end have closed it. Whoever has the process in its
    /// hands may send anything, at its own cost.
    fn next(&self, plan: &Plan, process: &Process) -> Result<Option<Heard>, LaunchError> {
        let Some(packet) = packet::receive(self.channel.as_fd(), 64, true).map_err(of_channel)? else {
            return Ok(None);
        };
        match postcard::from_bytes(&packet.bytes) {
            Ok(Report::Failed { step, errno }) => {
                Err(explain(plan, step, Errno::from_raw_os_error(errno), process))
            }
            Ok(Report::NotForked { errno }) => {
                Err(LaunchError::Clone(std::io::Error::from_raw_os_error(errno)))
            }
            Ok(report) => Ok(Some((report, packet.fds, packet.pid))),
            Err(_) => Err(LaunchError::Killed),
        }
    }

    /// Tells PID 1 of process `pid`, which may be gone already.
    fn register(
        &mut self,
        plan: &Plan,
        files: &Files<'_>,
        message: &Message,
        pid: u32,
    ) -> Result<(), LaunchError> {
        let failed = |errno| match errno {
            Errno::SRCH => LaunchError::Killed,
            errno => LaunchError::Step { step: "register with PID 1".to_owned(), errno },
        };
        let process = Pid::from_raw(pid.cast_signed()).ok_or(LaunchError::Killed)?;
        let pidfd = rustix::process::pidfd_open(process, PidfdFlags::empty()).map_err(failed)?;
        if let Some(limit) = &plan.processes {
            rustix::process::prlimit(Some(process), limit.resource, limit.values()).map_err(failed)?;
        }
        self.born = Some(Launched { pid, pidfd });
        let keeper = files.get(File::Keeper).map_err(failed)?;
        let kept = (0..message.kept).map(|index| files.get(File::Kept(index)));
        let kept: Vec<_> = kept.collect::<Result<_, _>>().map_err(failed)?;
        crate::keeper::register(keeper, &message.bytes, &kept, Some(pid)).map_err(failed)
    }

    /// Nothing of a failed launch goes on. Where PID 1 knows the process, it tells its end.
    fn kill(&self) {
        let born = self.born.as_ref().map(|born| &born.pidfd);
        for pidfd in self.itself.iter().chain(born) {
            // ESRCH: it has ended by itself.
            let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
        }
    }
}

fn of_channel(error: std::io::Error) -> LaunchError {
    match error.kind() {
        std::io::ErrorKind::WouldBlock => LaunchError::TimedOut(DEADLINE),
        std::io::ErrorKind::BrokenPipe => LaunchError::Killed,
        _ => LaunchError::Clone(error),
    }
}
