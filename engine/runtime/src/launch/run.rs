//! Prepares what a plan names, clones, and tells how far the new process came.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use contract::keeper::{Key, ToKeeper};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::ThreadNameSpaceType;
use sys::clone::{Memory, Numbers, Stack, clone_twice, clone_vfork};

use super::plan::{JoinField, NulInside, Plan, Source};
use super::spec::{Join, Process, Shm, Spec};
use super::step::Step;
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
        Errno::NOENT | Errno::NOTDIR => format!("stat {program}: no such file or directory"),
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
    let riders = stdio.riders();
    let message = ToKeeper::Launched { key: registration.key, note: registration.note }.encode();
    let plan = Plan::compile(spec, message, riders.len())?;
    let sources = prepare(&plan, spec, root, stdio)?;
    let mut files = vec![registration.socket];
    files.extend(stdio.child_ends());
    files.push(root);
    files.extend(sources.iter().map(AsFd::as_fd));
    files.extend(riders);
    files.extend(plan.joins.iter().filter_map(|field| namespace_file(spec, *field)));
    let own_pid_namespace = match &spec.namespaces.pid {
        // The process outside enters it by itself.
        _ if spec.ids().is_mapped() => None,
        Some(Join::Namespace(file)) => Some(PidNamespace::enter(file.as_fd())?),
        _ => None,
    };
    let launched = walk(&plan, &files, cgroup, memory(spec.alone), &spec.process);
    drop(own_pid_namespace);
    launched
}

/// The container that a further process joins.
#[derive(Debug)]
pub struct Joined<'a> {
    /// Its first process.
    pub pidfd: BorrowedFd<'a>,
    /// How its ids stand to the machine's.
    pub ids: IdMap,
    /// As [`Spec::alone`]: nothing in its cgroup can bring that to a limit of memory.
    pub alone: bool,
}

/// Starts a further process in a container.
///
/// # Errors
/// As [`start`].
pub fn enter(
    process: &Process,
    container: &Joined<'_>,
    stdio: &Stdio,
    registration: Registration<'_>,
    cgroup: BorrowedFd<'_>,
) -> Result<Launched, LaunchError> {
    let riders = stdio.riders();
    let message = ToKeeper::Launched { key: registration.key, note: registration.note }.encode();
    let plan = Plan::enter(process, container.ids.is_mapped(), message, riders.len())?;
    let mut files = vec![registration.socket];
    files.extend(stdio.child_ends());
    files.push(container.pidfd);
    files.extend(riders);
    let own_pid_namespace = PidNamespace::enter(container.pidfd)?;
    let launched = walk(&plan, &files, cgroup, memory(container.alone), process);
    drop(own_pid_namespace);
    launched
}

/// A copy costs page tables and page faults, so it is made only where sharing is a danger.
fn memory(alone: bool) -> Memory {
    if alone { Memory::Shared } else { Memory::Copied }
}

fn namespace_file(spec: &Spec, field: JoinField) -> Option<BorrowedFd<'_>> {
    let join = match field {
        JoinField::User => return spec.namespaces.user.as_ref().map(|user| user.file.as_fd()),
        JoinField::Pid => &spec.namespaces.pid,
        JoinField::Net => &spec.namespaces.net,
        JoinField::Ipc => &spec.namespaces.ipc,
        JoinField::Uts => &spec.namespaces.uts,
    };
    match join {
        Some(Join::Namespace(file)) => Some(file.as_fd()),
        _ => None,
    }
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
            Source::Shm => match &spec.shm {
                Shm::Mount(mount) => own(mount.as_fd(), "mount /dev/shm")?,
                Shm::None | Shm::New { .. } => unreachable!("the plan was compiled from this spec"),
            },
        });
    }
    // An image whose root folder is opaque hides the base layer, which has them otherwise.
    for own in ["/dev", "/proc", "/sys"] {
        rootfs::make_mount_point(root, Path::new(own), None, ids)?;
    }
    for point in &plan.mount_points {
        rootfs::make_mount_point(root, Path::new(&point.path), point.like.as_deref(), ids)?;
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

fn walk(
    plan: &Plan,
    files: &[BorrowedFd<'_>],
    cgroup: BorrowedFd<'_>,
    memory: Memory,
    process: &Process,
) -> Result<Launched, LaunchError> {
    let mut place = Place::take().map_err(LaunchError::Clone)?;
    // The number of the last step that was begun, counted from 1, and, where it failed, its errno.
    let reached = place.reached.at(0);
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
    let [first, second] = &mut place.stacks;
    let result = match plan.outside.is_empty() {
        true => clone_vfork(plan.flags, Some(cgroup), memory, first, &mut child).map(Some),
        false => {
            let mut outside = || take(&plan.outside, 0);
            clone_twice(plan.flags, Some(cgroup), memory, [first, second], &mut outside, &mut child)
        }
    };
    let reached = reached.load(Ordering::Relaxed);
    let (step, errno) = ((reached >> 32) as usize, (reached & 0xffff_ffff) as i32);
    let made = result.map_err(LaunchError::Clone)?;
    match &made {
        Some(_) => place.give_back(),
        // Somebody killed the process outside. The one that it made may still be at work in memory that is about to be used
        // for other things; PID 1 starts another engine, and the containers run on.
        None if errno == 0 && memory == Memory::Shared => std::process::abort(),
        // It may be at its end there, or have a copy: its place is nobody else's.
        None => std::mem::forget(place),
    }
    match made {
        _ if errno != 0 => Err(explain(plan, step, Errno::from_raw_os_error(errno), process)),
        // Its end is PID 1's to tell, if PID 1 was told of it.
        Some(child) if step > plan.registers_at() => Ok(Launched { pid: child.pid, pidfd: child.pidfd }),
        _ => Err(LaunchError::Killed),
    }
}

/// Where new processes run until they have memory of their own.
struct Place {
    stacks: [Stack; 2],
    reached: Numbers,
}

/// Of finished launches, so that a launch maps no memory.
static PLACES: Mutex<Vec<Place>> = Mutex::new(Vec::new());

/// Most places kept for the next launches.
const PLACES_KEPT: usize = 8;

impl Place {
    fn take() -> std::io::Result<Place> {
        let spare = PLACES.lock().expect("no holder of the places panics").pop();
        let new = || Ok(Place { stacks: [Stack::new()?, Stack::new()?], reached: Numbers::new()? });
        spare.map_or_else(new, Ok)
    }

    fn give_back(self) {
        let mut places = PLACES.lock().expect("no holder of the places panics");
        if places.len() < PLACES_KEPT {
            places.push(self);
        }
    }
}

fn explain(plan: &Plan, step: usize, errno: Errno, process: &Process) -> LaunchError {
    match plan.outside.iter().chain(&plan.steps).nth(step - 1) {
        Some(Step::Exec { .. }) | None => {
            let program = process.args.first().cloned().unwrap_or_default();
            LaunchError::Exec { program, errno }
        }
        Some(step) => LaunchError::Step { step: step.describe(), errno },
    }
}

/// The calling thread's children are born in another pid namespace until this is dropped.
struct PidNamespace {
    own: OwnedFd,
}

impl PidNamespace {
    fn enter(namespace: BorrowedFd<'_>) -> Result<PidNamespace, LaunchError> {
        let clone_error = |errno: Errno| LaunchError::Clone(errno.into());
        let own = rustix::fs::open("/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(clone_error)?;
        rustix::thread::move_into_thread_name_spaces(namespace, ThreadNameSpaceType::PROCESS_ID)
            .map_err(clone_error)?;
        Ok(PidNamespace { own })
    }
}

impl Drop for PidNamespace {
    fn drop(&mut self) {
        let back =
            rustix::thread::move_into_thread_name_spaces(self.own.as_fd(), ThreadNameSpaceType::PROCESS_ID);
        // A thread left behind in a container's pid namespace would start engine work there.
        back.expect("setns(2) back to the engine's own pid namespace is always permitted");
    }
}
