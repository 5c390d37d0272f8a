//! The standard streams of a process: pipes, or a pty of the container's own devpts.
//!
//! Every descriptor the engine needs again after it was restarted rides to PID 1 (`riders`), in an order that
//! [`Stdio::from_riders`] reads back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::ids::IdMap;
use crate::rootfs::{self, PrepareError};

/// The engine's ends.
#[derive(Debug)]
pub enum Ends {
    /// Three separate streams.
    Pipes {
        /// Write end, where the container has an open standard input.
        stdin: Option<OwnedFd>,
        /// Read end.
        stdout: OwnedFd,
        /// Read end.
        stderr: OwnedFd,
    },
    /// One terminal.
    Terminal {
        /// Both directions.
        master: OwnedFd,
        /// What was read from the master on its way to the spool.
        relay: (OwnedFd, OwnedFd),
    },
    /// Nothing is kept (detached exec).
    Null,
}

/// The streams of one process, both sides.
#[derive(Debug)]
pub struct Stdio {
    /// The engine's side.
    pub ends: Ends,
    child: Vec<OwnedFd>,
    devpts: Option<OwnedFd>,
}

/// How the riders are to be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StdioKind {
    /// stdout, stderr.
    Pipes,
    /// stdout, stderr, stdin; the last may have been shed.
    PipesWithStdin,
    /// master, relay.
    Terminal,
    /// Nothing.
    Null,
}

fn failed(what: &'static str) -> impl Fn(Errno) -> PrepareError {
    move |source| PrepareError { what: what.to_owned(), source }
}

/// See statfs(2).
const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

impl Stdio {
    /// Pipes owned by the machine's `uid`, so that the program may open /dev/stdout again; standard input is empty
    /// unless `stdin`.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn pipes(uid: u32, stdin: bool) -> Result<Stdio, PrepareError> {
        let make = || {
            let (stdout, child_out) = pipe_with(PipeFlags::CLOEXEC)?;
            let (stderr, child_err) = pipe_with(PipeFlags::CLOEXEC)?;
            let (child_in, stdin) = if stdin {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
                rustix::io::ioctl_fionbio(write.as_fd(), true)?;
                (read, Some(write))
            } else {
                (null()?, None)
            };
            for end in [&stdout, &stderr] {
                rustix::io::ioctl_fionbio(end.as_fd(), true)?;
            }
            if uid != 0 {
                for end in [&child_out, &child_err] {
                    rustix::fs::fchown(end.as_fd(), Some(Uid::from_raw(uid)), None)?;
                }
                if stdin.is_some() {
                    rustix::fs::fchown(child_in.as_fd(), Some(Uid::from_raw(uid)), None)?;
                }
            }
            let ends = Ends::Pipes { stdin, stdout, stderr };
            Ok(Stdio { ends, child: vec![child_in, child_out, child_err], devpts: None })
        };
        make().map_err(failed("make pipes"))
    }

    /// A pty in a new devpts instance, owned by the machine's `uid` and the container's group `tty`.
    ///
    /// # Errors
    /// The kernel has no devpts.
    pub fn terminal(uid: u32, size: Option<(u16, u16)>, ids: IdMap) -> Result<Stdio, PrepareError> {
        let devpts = rootfs::devpts(ids)?;
        let master = rustix::fs::openat(devpts.as_fd(), "ptmx", Self::MASTER, Mode::empty())
            .map_err(failed("open ptmx"))?;
        Self::from_master(master, Some(devpts), (uid, rootfs::tty(ids)), size)
    }

    /// A pty in the devpts of the container whose root is `root`.
    ///
    /// # Errors
    /// The container has no devpts.
    pub fn terminal_in(
        root: BorrowedFd<'_>,
        uid: u32,
        size: Option<(u16, u16)>,
        ids: IdMap,
    ) -> Result<Stdio, PrepareError> {
        // The container may have put another device in its place.
        let is_ptmx = |stat: &rustix::fs::Stat, fs: &rustix::fs::StatFs| {
            stat.st_rdev == rustix::fs::makedev(5, 2) && fs.f_type == DEVPTS_SUPER_MAGIC
        };
        let master = rootfs::open_if(root, std::path::Path::new("/dev/pts/ptmx"), Self::MASTER, is_ptmx)
            .map_err(failed("open /dev/pts/ptmx of the container"))?;
        Self::from_master(master, None, (uid, rootfs::tty(ids)), size)
    }

    const MASTER: OFlags = OFlags::RDWR.union(OFlags::NOCTTY).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

    fn from_master(
        master: OwnedFd,
        devpts: Option<OwnedFd>,
        (uid, gid): (u32, u32),
        size: Option<(u16, u16)>,
    ) -> Result<Stdio, PrepareError> {
        let make = || {
            rustix::pty::unlockpt(master.as_fd())?;
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let slave = rustix::pty::ioctl_tiocgptpeer(master.as_fd(), flags)?;
            if let Some((rows, columns)) = size {
                resize(master.as_fd(), rows, columns)?;
            }
            rustix::fs::fchown(slave.as_fd(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            let ends = Ends::Terminal { master, relay: (read, write) };
            Ok(Stdio { ends, child: vec![slave], devpts })
        };
        make().map_err(failed("open a terminal"))
    }

    /// All three streams are /dev/null.
    ///
    /// # Errors
    /// /dev/null is missing.
    pub fn null() -> Result<Stdio, PrepareError> {
        let child = vec![null().map_err(failed("open /dev/null"))?];
        Ok(Stdio { ends: Ends::Null, child, devpts: None })
    }

    /// Which descriptors ride, in order.
    pub fn kind(&self) -> StdioKind {
        match &self.ends {
            Ends::Pipes { stdin: None, .. } => StdioKind::Pipes,
            Ends::Pipes { stdin: Some(_), .. } => StdioKind::PipesWithStdin,
            Ends::Terminal { .. } => StdioKind::Terminal,
            Ends::Null => StdioKind::Null,
        }
    }

    /// What shall outlive the engine.
    pub(crate) fn riders(&self) -> Vec<BorrowedFd<'_>> {
        match &self.ends {
            Ends::Pipes { stdin, stdout, stderr } => {
                let mut riders = vec![stdout.as_fd(), stderr.as_fd()];
                riders.extend(stdin.as_ref().map(AsFd::as_fd));
                riders
            }
            Ends::Terminal { master, relay } => vec![master.as_fd(), relay.0.as_fd(), relay.1.as_fd()],
            Ends::Null => vec![],
        }
    }

    pub(crate) fn child_ends(&self) -> [BorrowedFd<'_>; 3] {
        let end = |index: usize| self.child[index.min(self.child.len() - 1)].as_fd();
        [end(0), end(1), end(2)]
    }

    pub(crate) fn devpts(&self) -> Option<BorrowedFd<'_>> {
        self.devpts.as_ref().map(AsFd::as_fd)
    }

    /// Lets go of the process's side, so that its end closes the streams.
    pub fn into_ends(self) -> Ends {
        self.ends
    }
}

impl Ends {
    /// The riders as they came back from PID 1; `None` where their number does not fit.
    pub fn from_riders(kind: StdioKind, riders: Vec<OwnedFd>) -> Option<Ends> {
        let mut riders = riders.into_iter();
        let mut next = || riders.next();
        let ends = match kind {
            StdioKind::Pipes => Ends::Pipes { stdout: next()?, stderr: next()?, stdin: None },
            StdioKind::PipesWithStdin => Ends::Pipes { stdout: next()?, stderr: next()?, stdin: next() },
            StdioKind::Terminal => Ends::Terminal { master: next()?, relay: (next()?, next()?) },
            StdioKind::Null => Ends::Null,
        };
        riders.next().is_none().then_some(ends)
    }
}

/// Sets the size of a terminal in characters.
///
/// # Errors
/// The descriptor is no terminal.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<(), Errno> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size)
}

fn null() -> Result<OwnedFd, Errno> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}
