//! One thing a new process does to itself, and how.
//!
//! [`Step::run`] executes between clone3(2) and execve(2) in memory shared with the engine: it must not allocate,
//! lock or panic, so it makes bare system calls on prepared strings.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    self, FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};
use rustix::process::Resource;
use rustix::thread::{self as task, CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};
use sys::clone::{CloneFlags, StringArray};
use sys::mounts::{MountAttributes, Propagation, mount_setattr};

use super::file::{File, Files, Namespace};
use super::{spec, wire};
use crate::seccomp::Filter;

/// One step. Paths are the container's once its root was entered; after [`Step::EnterRoot`] and until [`Step::LeaveOldRoot`] none may
/// have `..` in it or lead through a link of the image's, which could climb to the old root.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Step {
    /// setns(2) into one namespace.
    JoinNamespace { namespace: Namespace },
    /// setns(2) into all namespaces of a container's first process; into the user's only where `user` says so, for nobody may
    /// enter the one he is in. The pid namespace is that of the children to come.
    JoinFirstProcess { user: bool },
    /// Effective ids 0 in the user namespace entered: what the kernel makes along with the next namespaces belongs to its
    /// root. The real ones stay, by which processes are counted (RLIMIT_NPROC).
    ActAsRoot,
    /// unshare(2). A cgroup namespace is made this way by every process: it is rooted at the process's own cgroup, while
    /// clone3(2) would root it at the engine's.
    Unshare(#[serde(with = "wire::clone_flags")] CloneFlags),
    /// No mount or unmount here reaches the engine's mount namespace.
    MakeMountsPrivate,
    /// Attaches the root file system over `/` and makes it the root. The old one lies over it: invisible, but the
    /// kernel shows a user namespace a new proc or sysfs only where it sees another one (mnt_already_visible).
    EnterRoot,
    /// Attaches the root file system over `/` of an empty mount namespace and makes it the root. What lies under it may stay: it is
    /// empty and read-only.
    EnterFirstRoot,
    /// Lets go of the old root.
    LeaveOldRoot,
    /// Attaches a detached mount.
    Attach { file: File, target: CString, follow: bool },
    /// A mount that belongs to namespaces of the new process (proc, sysfs, mqueue, cgroup2).
    MountNew {
        fstype: CString,
        target: CString,
        #[serde(with = "wire::mount_attributes")]
        attributes: MountAttributes,
        optional: bool,
    },
    /// A bind mount from one path of the container to another.
    BindWithin { source: CString, target: CString },
    /// Covers a path that must not be read; a missing one is fine.
    Mask { target: CString },
    /// Makes a path read-only; a missing one is fine.
    MakeReadOnly { target: CString },
    /// The root itself.
    MakeRootReadOnly,
    /// sethostname(2).
    Hostname(CString),
    /// setdomainname(2).
    Domainname(CString),
    /// Writes a value into a file (sysctls, oom_score_adj).
    Write { path: CString, value: Vec<u8> },
    /// setrlimit(2).
    Rlimit(spec::Rlimit),
    /// Allows `most` open files, and at least `least`, until the process has opened all it needs.
    RaiseFiles { least: u64, most: u64 },
    /// setsid(2).
    NewSession,
    /// dup2(2) to 0, 1 and 2.
    Stdio,
    /// Standard input becomes the controlling terminal.
    ControllingTerminal,
    /// umask(2) 0022, as runtimes leave it.
    Umask,
    /// prctl(2) `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// Drops everything else from the bounding set and lives through the change of user.
    KeepCapabilities { bounding: u64 },
    /// setgroups(2), setresgid(2), setresuid(2).
    Identity {
        uid: u32,
        gid: u32,
        #[serde(with = "wire::groups")]
        groups: Vec<rustix::process::Gid>,
    },
    /// The working directory, as the user it will run as; no link of /proc leads to it (CVE-2024-21626).
    WorkingDirectory(CString),
    /// Tells PID 1: the `Launched` packet with the descriptors that shall outlive the engine.
    Register { message: Vec<u8>, kept: usize },
    /// No descriptor of the engine goes along.
    CloseFiles { from: i32 },
    /// seccomp(2).
    Seccomp(#[serde(with = "wire::filter")] Arc<Filter>),
    /// What the engine ignores has its default effect again.
    DefaultSignals(u64),
    /// Every signal may come.
    UnblockSignals,
    /// capset(2).
    Capabilities(spec::CapabilitySets),
    /// execve(2) of the first candidate that exists, as execvp(3) searches.
    Exec {
        candidates: Vec<CString>,
        #[serde(with = "wire::strings")]
        arguments: StringArray,
        #[serde(with = "wire::strings")]
        environment: StringArray,
    },
}

impl Step {
    /// Takes the step. `files` are the launch's descriptors.
    pub(super) fn run(&self, files: &Files<'_>) -> Result<(), Errno> {
        match self {
            Step::JoinNamespace { namespace } => {
                let file = files.get(File::Join(*namespace))?;
                task::move_into_link_name_space(file, Some(namespace.kind()))
            }
            Step::JoinFirstProcess { user } => join_first_process(files.get(File::FirstProcess)?, *user),
            Step::Unshare(flags) => sys::clone::unshare_namespaces(*flags).map_err(errno),
            Step::MakeMountsPrivate => {
                setattr(CWD, c"/", MountAttributes::default(), Some(Propagation::Private), true)
            }
            Step::EnterRoot => enter_root(files.get(File::Root)?),
            Step::EnterFirstRoot => enter_first_root(files.get(File::Root)?),
            Step::LeaveOldRoot => leave_old_root(),
            Step::Attach { file, target, follow } => attach(files.get(*file)?, target, *follow),
            Step::MountNew { fstype, target, attributes, optional } => {
                match mount_new(fstype, target, *attributes) {
                    Err(Errno::NODEV | Errno::NOENT) if *optional => Ok(()),
                    other => other,
                }
            }
            Step::BindWithin { source, target } => mount::mount_bind(source.as_c_str(), target.as_c_str()),
            Step::Mask { target } => absent_is_fine(mask(target)),
            Step::MakeReadOnly { target } => absent_is_fine(make_read_only(target)),
            Step::MakeRootReadOnly => setattr(CWD, c"/", MountAttributes::RDONLY, None, false),
            Step::Hostname(name) => rustix::system::sethostname(name.to_bytes()),
            Step::Domainname(name) => rustix::system::setdomainname(name.to_bytes()),
            Step::Write { path, value } => write(path, value),
            _ => self.run_identity(files),
        }
    }

    /// What the step does, for the error's reader.
    pub(super) fn describe(&self, errno: Errno) -> String {
        match self {
            Step::JoinNamespace { namespace } => format!("join {namespace:?} namespace"),
            Step::Unshare(_) => "make new namespaces".to_owned(),
            Step::JoinFirstProcess { .. } => "join the namespaces of the container".to_owned(),
            Step::EnterRoot | Step::EnterFirstRoot => "enter the root file system".to_owned(),
            Step::LeaveOldRoot => "leave the old root".to_owned(),
            Step::Attach { target, .. } | Step::MountNew { target, .. } | Step::BindWithin { target, .. } => {
                format!("mount at {}", target.to_string_lossy())
            }
            Step::Mask { target } => format!("mask {}", target.to_string_lossy()),
            Step::MakeReadOnly { target } => format!("make {} read-only", target.to_string_lossy()),
            // A value is refused by the write, a name by the open before it.
            Step::Write { path, .. } if matches!(errno, Errno::NOENT | Errno::ACCESS | Errno::NOTDIR) => {
                format!("open {}", path.to_string_lossy())
            }
            Step::Write { path, .. } => format!("write {}", path.to_string_lossy()),
            Step::Rlimit(limit) => format!("set rlimit {:?}", limit.resource),
            Step::RaiseFiles { .. } => "set rlimit Nofile".to_owned(),
            Step::Identity { uid, gid, .. } => format!("become user {uid}:{gid}"),
            Step::WorkingDirectory(path) => {
                format!("chdir to cwd (\"{}\") set in config.json failed", path.to_string_lossy())
            }
            Step::Hostname(name) => format!("set host name {}", name.to_string_lossy()),
            Step::Register { .. } => "register with PID 1".to_owned(),
            Step::Seccomp(_) => "install the seccomp filter".to_owned(),
            Step::Capabilities(_) | Step::KeepCapabilities { .. } => "set capabilities".to_owned(),
            other => format!("{other:?}"),
        }
    }

    /// The steps about the process itself, not its surroundings.
    fn run_identity(&self, files: &Files<'_>) -> Result<(), Errno> {
        match self {
            Step::Rlimit(limit) => rustix::process::setrlimit(limit.resource, limit.values()),
            Step::NewSession => rustix::process::setsid().map(|_| ()),
            Step::Stdio => {
                rustix::stdio::dup2_stdin(files.get(File::Stdio(0))?)?;
                rustix::stdio::dup2_stdout(files.get(File::Stdio(1))?)?;
                rustix::stdio::dup2_stderr(files.get(File::Stdio(2))?)
            }
            Step::ControllingTerminal => rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()),
            Step::Umask => {
                rustix::process::umask(Mode::from_raw_mode(0o022));
                Ok(())
            }
            Step::ActAsRoot => act_as_root(),
            Step::NoNewPrivileges => task::set_no_new_privs(true),
            Step::KeepCapabilities { bounding } => keep_capabilities(*bounding),
            Step::Identity { uid, gid, groups } => become_user(*uid, *gid, groups),
            Step::WorkingDirectory(path) => enter_folder(path),
            Step::Register { message, kept } => register(message, *kept, files),
            Step::CloseFiles { from } => sys::clone::close_from(*from).map_err(errno),
            Step::RaiseFiles { least, most } => raise_files(*least, *most),
            Step::Seccomp(filter) => sys::seccomp::install(&filter.instructions, filter.flags).map_err(errno),
            Step::Capabilities(capabilities) => set_capabilities(capabilities),
            Step::DefaultSignals(ignored) => {
                sys::clone::default_signals(*ignored);
                Ok(())
            }
            Step::UnblockSignals => {
                sys::clone::unblock_signals();
                Ok(())
            }
            Step::Exec { candidates, arguments, environment } => exec(candidates, arguments, environment),
            // Every other variant is handled in `run`.
            _ => Err(Errno::NOSYS),
        }
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn absent_is_fine(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        other => other,
    }
}

fn setattr(
    dir: BorrowedFd<'_>,
    path: &std::ffi::CStr,
    set: MountAttributes,
    propagation: Option<Propagation>,
    recursive: bool,
) -> Result<(), Errno> {
    mount_setattr(dir, path, set, propagation, recursive).map_err(errno)
}

fn join_first_process(pidfd: BorrowedFd<'_>, user: bool) -> Result<(), Errno> {
    use rustix::thread::ThreadNameSpaceType as Kind;
    let kinds = if user { Kind::USER } else { Kind::empty() }
        | Kind::MOUNT
        | Kind::NETWORK
        | Kind::INTER_PROCESS_COMMUNICATION
        | Kind::HOST_NAME_AND_NIS_DOMAIN_NAME
        | Kind::CONTROL_GROUP
        | Kind::PROCESS_ID;
    task::move_into_thread_name_spaces(pidfd, kinds)
}

/// pivot_root(2)'s own page shows `pivot_root(".", ".")`: the old root ends up on top of the new one and is
/// unmounted there.
fn enter_root(root: BorrowedFd<'_>) -> Result<(), Errno> {
    mount::move_mount(root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(c".", c".")
}

fn enter_first_root(root: BorrowedFd<'_>) -> Result<(), Errno> {
    mount::move_mount(root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(root)?;
    rustix::process::chroot(c".")
}

fn leave_old_root() -> Result<(), Errno> {
    mount::unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")
}

fn attach(mount: BorrowedFd<'_>, target: &std::ffi::CStr, follow: bool) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if !follow {
        return mount::move_mount(mount, c"", CWD, target, flags);
    }
    let path = OFlags::PATH | OFlags::CLOEXEC;
    let place =
        rustix::fs::openat2(CWD, target, path, Mode::empty(), rustix::fs::ResolveFlags::NO_MAGICLINKS)?;
    // A link in the image must not choose which of /proc's files the container's own stand for, as runc has it.
    if rustix::fs::fstatfs(&place)?.f_type == rustix::fs::PROC_SUPER_MAGIC {
        return Err(Errno::PERM);
    }
    mount::move_mount(mount, c"", place.as_fd(), c"", flags | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH)
}

/// Symbolic links are not followed: a link in the image in /proc's place must not decide what gets mounted
/// where (CVE-2019-19921).
fn mount_new(
    fstype: &std::ffi::CStr,
    target: &std::ffi::CStr,
    attributes: MountAttributes,
) -> Result<(), Errno> {
    let fs = mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What runc calls it, for those who look into /proc/mounts.
    let source = if fstype == c"cgroup2" { c"cgroup" } else { fstype };
    mount::fsconfig_set_string(fs.as_fd(), c"source", source)?;
    mount::fsconfig_create(fs.as_fd())?;
    let mount = mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    setattr(mount.as_fd(), c"", attributes, None, false)?;
    attach(mount.as_fd(), target, false)
}

/// Most of these paths are missing on any one machine, and a look is far cheaper than an attempt to mount.
fn mask(target: &std::ffi::CStr) -> Result<(), Errno> {
    let kind = FileType::from_raw_mode(rustix::fs::stat(target)?.st_mode);
    if kind != FileType::Directory {
        return cover(target);
    }
    let fs = mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    mount::fsconfig_set_string(fs.as_fd(), c"source", c"tmpfs")?;
    mount::fsconfig_set_string(fs.as_fd(), c"nr_inodes", c"1")?;
    mount::fsconfig_create(fs.as_fd())?;
    let mount = mount::fsmount(
        fs.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )?;
    attach(mount.as_fd(), target, false)
}

/// Only by the one /dev/null: a volume may have put something else there (CVE-2025-31133).
fn cover(target: &std::ffi::CStr) -> Result<(), Errno> {
    let null =
        rustix::fs::open(c"/dev/null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let null = null.map_err(|_| Errno::NODEV)?;
    let stat = rustix::fs::fstat(&null)?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !device || stat.st_rdev != rustix::fs::makedev(1, 3) {
        return Err(Errno::NODEV);
    }
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let clone = mount::open_tree(null.as_fd(), c"", flags)?;
    attach(clone.as_fd(), target, false)
}

fn make_read_only(target: &std::ffi::CStr) -> Result<(), Errno> {
    mount::mount_bind_recursive(target, target)?;
    let locked = MountAttributes::RDONLY
        .and(MountAttributes::NOSUID)
        .and(MountAttributes::NODEV)
        .and(MountAttributes::NOEXEC);
    setattr(CWD, target, locked, None, true)
}

fn write(path: &std::ffi::CStr, value: &[u8]) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // A kernel's file, and nothing that was mounted in its place.
    if rustix::fs::fstatfs(&file)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
        return Err(Errno::PERM);
    }
    rustix::io::write(file, value).map(|_| ())
}

fn keep_capabilities(bounding: u64) -> Result<(), Errno> {
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if bounding & (1 << bit) != 0 {
            continue;
        }
        match task::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // The first number this kernel does not know.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    task::set_keep_capabilities(true)
}

/// Not chdir(2): a path like /proc/self/fd/7 would lead to whatever folder the engine has open, and through that out of the
/// container.
fn enter_folder(path: &std::ffi::CStr) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder =
        rustix::fs::openat2(CWD, path, flags, Mode::empty(), rustix::fs::ResolveFlags::NO_MAGICLINKS)?;
    rustix::process::fchdir(folder)
}

/// Only the machine's root may raise the hard limit. Without that right the old one may do.
fn raise_files(least: u64, most: u64) -> Result<(), Errno> {
    use rustix::process::Rlimit;
    let set = |limit: u64| {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        rustix::process::setrlimit(Resource::Nofile, limit)
    };
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    match set(most.max(least)) {
        Err(Errno::PERM) if least <= hard => set(hard),
        other => other,
    }
}

fn act_as_root() -> Result<(), Errno> {
    task::set_thread_res_gid(None, rustix::process::Gid::ROOT, None)?;
    task::set_thread_res_uid(None, rustix::process::Uid::ROOT, None)
}

fn become_user(uid: u32, gid: u32, groups: &[rustix::process::Gid]) -> Result<(), Errno> {
    use rustix::process::{Gid, Uid};
    task::set_thread_groups(groups)?;
    let gid = Gid::from_raw(gid);
    task::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(uid);
    task::set_thread_res_uid(uid, uid, uid)?;
    // Changing the user clears the effective set; the steps that follow still need it (seccomp without
    // no_new_privs wants CAP_SYS_ADMIN).
    let mut sets = task::capabilities(None)?;
    sets.effective = sets.permitted;
    task::set_capabilities(None, sets)
}

fn register(message: &[u8], kept: usize, files: &Files<'_>) -> Result<(), Errno> {
    let keeper = files.get(File::Keeper)?;
    let mut fds = [keeper; contract::keeper::FDS_MAX];
    let fds = fds.get_mut(..kept).ok_or(Errno::MSGSIZE)?;
    for (index, fd) in fds.iter_mut().enumerate() {
        *fd = files.get(File::Kept(index))?;
    }
    crate::keeper::register(keeper, message, fds, None)
}

fn set_capabilities(capabilities: &spec::CapabilitySets) -> Result<(), Errno> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(capabilities.effective),
        permitted: CapabilitySet::from_bits_retain(capabilities.permitted),
        inheritable: CapabilitySet::from_bits_retain(capabilities.inheritable),
    };
    task::set_capabilities(None, sets)
}

/// Like execvp(3): a missing candidate is passed over, a forbidden one is remembered.
fn exec(candidates: &[CString], arguments: &StringArray, environment: &StringArray) -> Result<(), Errno> {
    let mut worst = Errno::NOENT;
    for path in candidates {
        match errno(sys::clone::execve(path, arguments, environment)) {
            Errno::NOENT | Errno::NOTDIR => {}
            // Where PATH is searched, a folder of the program's name is no program.
            Errno::ACCESS if candidates.len() == 1 && is_folder(path) => return Err(Errno::ISDIR),
            Errno::ACCESS => worst = Errno::ACCESS,
            other => return Err(other),
        }
    }
    Err(worst)
}

fn is_folder(path: &std::ffi::CStr) -> bool {
    let kind = |stat: rustix::fs::Stat| rustix::fs::FileType::from_raw_mode(stat.st_mode);
    rustix::fs::stat(path).is_ok_and(|stat| kind(stat) == rustix::fs::FileType::Directory)
}
