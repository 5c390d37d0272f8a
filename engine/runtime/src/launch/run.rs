//! Prepares what a plan names, clones, and tells how far the new process came.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use contract::keeper::{Key, ToKeeper};
use rustix::io::Errno;
use sys::clone::Memory;

use super::file::{File, Files, Namespace};
use super::plan::{Like, Message, NulInside, Plan, Source};
use super::spec::{Join, JoinPid, Process, Shm, Spec};
use super::step::Step;
use super::walk;
use super::zygote::Forerunner;
use crate::ids::IdMap;
use crate::rootfs::{self, PrepareError};
use crate::stdio::Stdio;

/// How PID 1 is told of the new process.
#[derive(Debug)]
pub struct Registration<'a> {
    /// The engine's end of the keeper socket.
    pub socket: BorrowedFd<'a>,
    /// Name of the process.
    pub key: Key,
    /// Given back when the engine returns.
    pub note: Vec<u8>,
}

/// A process that runs its program.
#[derive(Debug)]
pub struct Launched {
    /// Process id in the engine's pid namespace.
    pub pid: u32,
    /// See pidfd_open(2).
    pub pidfd: OwnedFd,
}

/// Why a process does not run.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A string cannot be given to the kernel.
    #[error(transparent)]
    Nul(#[from] NulInside),
    /// Something could not be prepared.
    #[error("{0}")]
    Prepare(#[from] PrepareError),
    /// clone3(2) or what surrounds it failed.
    #[error("cannot start a process: {0}")]
    Clone(#[source] std::io::Error),
    /// The new process failed at a step.
    #[error("{step}: {errno}")]
    Step {
        /// What it was doing.
        step: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Something killed the new process before it came to its program.
    #[error("the process was killed while it was being started (memory limit too low?)")]
    Killed,
    /// It took so long that it was given up: its control group is frozen, or somebody stopped it.
    #[error("the process did not come to its program in {} seconds and was killed", .0.as_secs())]
    TimedOut(std::time::Duration),
    /// The program could not be executed. The text is what runc's users know.
    #[error("exec: \"{program}\": {}", exec_text(program, *errno))]
    Exec {
        /// As the user wrote it.
        program: String,
        /// The kernel's answer.
        errno: Errno,
    },
}

fn exec_text(program: &str, errno: Errno) -> String {
    match errno {
        Errno::NOENT if !program.contains('/') => "executable file not found in $PATH".to_owned(),
        Errno::NOENT => format!("stat {program}: no such file or directory"),
        Errno::NOTDIR => format!("stat {program}: not a directory"),
        Errno::ACCESS => "permission denied".to_owned(),
        // What Go says, and behind it what docker's command line makes its exit code of.
        Errno::ISDIR => "is a directory: permission denied".to_owned(),
        Errno::NOEXEC => "exec format error".to_owned(),
        other => other.to_string(),
    }
}

/// Starts the first process of a container in `cgroup`, its root file system being the detached mount `root`. Blocks
/// until it runs its program or has failed.
///
/// # Errors
/// See [`LaunchError`]; after one nothing is left but, where PID 1 was told already, an exit status to be
/// acknowledged.
pub fn start(
    spec: &Spec,
    root: BorrowedFd<'_>,
    stdio: &Stdio,
    registration: Registration<'_>,
    cgroup: BorrowedFd<'_>,
) -> Result<Launched, LaunchError> {
    let message = registration.message(stdio.riders().len());
    let plan = Plan::compile(spec, message.clone())?;
    let forerunner = (!plan.inside.is_empty()).then(|| Forerunner::call(cgroup)).transpose()?;
    let sources = prepare(&plan, spec, root, stdio)?;
    let mut files = registration.files(stdio);
    files.add(File::Root, root);
    files.add_all(File::Source, sources.iter().map(AsFd::as_fd));
    for (namespace, file) in joined(spec) {
        files.add(File::Join(namespace), file);
    }
    match forerunner {
        Some(forerunner) => forerunner.launch(&plan, &files, &message, &spec.process),
        None => walk::launch(&plan, &files, cgroup, memory(spec.may_share_memory), &spec.process),
    }
}

impl Registration<'_> {
    fn message(&self, kept: usize) -> Message {
        let bytes = ToKeeper::Launched { key: self.key, note: self.note.clone() }.encode();
        Message { bytes, kept }
    }

    /// What every launch has.
    fn files<'a>(&'a self, stdio: &'a Stdio) -> Files<'a> {
        let mut files = Files::default();
        files.add(File::Keeper, self.socket);
        files.add_all(|index| File::Stdio(index as u8), stdio.child_ends());
        files.add_all(File::Kept, stdio.riders());
        files
    }
}

/// The container that a further process joins.
#[derive(Debug)]
pub struct Joined<'a> {
    /// Its first process.
    pub pidfd: BorrowedFd<'a>,
    /// How its ids stand to the machine's.
    pub ids: IdMap,
}

/// Starts a further process in a container, whose control group the forerunner is in.
///
/// # Errors
/// As [`start`].
pub fn enter(
    process: &Process,
    container: &Joined<'_>,
    stdio: &Stdio,
    registration: Registration<'_>,
    forerunner: Forerunner,
) -> Result<Launched, LaunchError> {
    let message = registration.message(stdio.riders().len());
    let plan = Plan::enter(process, container.ids.is_mapped(), message.clone())?;
    let mut files = registration.files(stdio);
    files.add(File::FirstProcess, container.pidfd);
    forerunner.launch(&plan, &files, &message, process)
}

/// A copy costs page tables and page faults, so it is made only where sharing is a danger.
fn memory(may_share: bool) -> Memory {
    if may_share { Memory::Shared } else { Memory::Copied }
}

/// The namespaces that are not new, with their files.
fn joined(spec: &Spec) -> impl Iterator<Item = (Namespace, BorrowedFd<'_>)> {
    let ns = &spec.namespaces;
    fn file(join: &Option<Join>) -> Option<BorrowedFd<'_>> {
        match join {
            Some(Join::Namespace(file)) => Some(file.as_fd()),
            Some(Join::Host) | None => None,
        }
    }
    let pid = match &ns.pid {
        Some(JoinPid::Container { namespace, .. }) => Some(namespace.as_fd()),
        Some(JoinPid::Host) | None => None,
    };
    let all = [
        (Namespace::User, ns.user.as_ref().map(|user| user.file.as_fd())),
        (Namespace::Pid, pid),
        (Namespace::Net, file(&ns.net)),
        (Namespace::Ipc, file(&ns.ipc)),
        (Namespace::Uts, file(&ns.uts)),
    ];
    all.into_iter().filter_map(|(namespace, file)| Some((namespace, file?)))
}

fn prepare(
    plan: &Plan,
    spec: &Spec,
    root: BorrowedFd<'_>,
    stdio: &Stdio,
) -> Result<Vec<OwnedFd>, PrepareError> {
    let ids = spec.ids();
    let mut files = Vec::with_capacity(plan.sources.len());
    for source in &plan.sources {
        files.push(match source {
            Source::Dev { devices, terminal } => rootfs::dev(devices, *terminal, ids)?,
            Source::DevPts => {
                stdio.devpts().map_or_else(|| rootfs::devpts(ids), |fd| own(fd, "mount devpts"))?
            }
            Source::Tmpfs(tmpfs) => rootfs::tmpfs(tmpfs, ids)?,
            Source::Mqueue => rootfs::mqueue()?,
            Source::Bind(bind) => rootfs::bind(bind)?,
            Source::Prepared(prepared) => own(prepared.mount.as_fd(), "mount a volume")?,
            Source::Shm => match &spec.shm {
                Shm::Mount(mount) => own(mount.as_fd(), "mount /dev/shm")?,
                Shm::None | Shm::New { .. } => unreachable!("the plan was compiled from this spec"),
            },
            Source::Proc => match &spec.namespaces.pid {
                Some(JoinPid::Container { proc, .. }) => own(proc.as_fd(), "mount /proc")?,
                None | Some(JoinPid::Host) => unreachable!("the plan was compiled from this spec"),
            },
        });
    }
    // An image whose root folder is opaque hides the base layer, which has them otherwise.
    for own in ["/dev", "/proc", "/sys"] {
        rootfs::make_mount_point(root, Path::new(own), None, ids)?;
    }
    for point in &plan.mount_points {
        let path = Path::new(&point.path);
        match &point.like {
            Like::Folder => rootfs::make_mount_point(root, path, None, ids)?,
            Like::Path(like) => rootfs::make_mount_point(root, path, Some(like), ids)?,
            Like::Mount(mount) => rootfs::make_place_of(root, path, mount, ids)?,
        }
    }
    if let Some(Step::WorkingDirectory(cwd)) =
        plan.steps.iter().find(|step| matches!(step, Step::WorkingDirectory(_)))
    {
        // A path below a volume may be missing in the root and is then made there in vain, as Docker does.
        let _ = rootfs::make_folders(root, Path::new(cwd.to_str().unwrap_or("/")), ids);
    }
    Ok(files)
}

fn own(fd: BorrowedFd<'_>, what: &str) -> Result<OwnedFd, PrepareError> {
    fd.try_clone_to_owned().map_err(|error| PrepareError {
        what: what.to_owned(),
        source: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    })
}
