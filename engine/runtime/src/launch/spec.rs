//! What to launch, in the OCI runtime specification's words.
//!
//! The types are our own and not the `oci-spec` crate's: nothing here is read from JSON, and a type whose every
//! field is optional would put the decision what an absent value means into the launcher.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::wire;
use crate::ids::IdMap;
use crate::seccomp::Filter;

/// One container: its first process and everything around it.
#[derive(Debug)]
pub struct Spec {
    /// The first process.
    pub process: Process,
    /// The new process may use the engine's memory until it runs its program, because nobody but the container itself can bring
    /// its cgroup to a limit of memory. Where others can, the kernel's out-of-memory killer may choose the process on their
    /// account, and whoever shares its memory dies with it: there it gets a copy.
    pub may_share_memory: bool,
    /// The root file system becomes read-only after everything was mounted in it.
    pub readonly_root: bool,
    /// Host name; ignored where the UTS namespace is joined.
    pub hostname: String,
    /// NIS domain name, empty for none.
    pub domainname: String,
    /// Namespaces; those not joined are new.
    pub namespaces: Namespaces,
    /// Mounts beyond the default ones, in any order.
    pub mounts: Vec<VolumeMount>,
    /// What stands at /dev/shm.
    pub shm: Shm,
    /// Device nodes beyond the default set.
    pub devices: Vec<Device>,
    /// Covered by /dev/null (files) or an empty read-only tmpfs (folders).
    pub masked_paths: Vec<String>,
    /// Made read-only in place.
    pub readonly_paths: Vec<String>,
    /// Below /proc/sys, dots as separators.
    pub sysctls: Vec<(String, String)>,
    /// /sys is writable.
    pub writable_sys: bool,
    /// /sys/fs/cgroup is writable.
    pub writable_cgroups: bool,
}

impl Spec {
    /// How the container's ids stand to the machine's.
    pub fn ids(&self) -> IdMap {
        self.namespaces.user.as_ref().map_or_else(IdMap::default, |user| user.ids)
    }
}

/// One process in a container.
#[derive(Debug, Clone)]
pub struct Process {
    /// Program and arguments, never empty.
    pub args: Vec<String>,
    /// `KEY=value` words.
    pub env: Environment,
    /// Absolute working directory.
    pub cwd: String,
    /// Numeric identity, as the container counts.
    pub user: UserIds,
    /// Capability sets.
    pub capabilities: CapabilitySets,
    /// Signals stay blocked in the new program, which takes them when it is ready: process 1 of a pid namespace would
    /// lose those that come before it has handlers.
    pub signals_held: bool,
    /// See prctl(2) `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// Seccomp program; `None` is unconfined.
    pub seccomp: Option<Arc<Filter>>,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Written to /proc/self/oom_score_adj.
    pub oom_score_adj: i32,
    /// A pty becomes the controlling terminal.
    pub terminal: bool,
}

/// `KEY=value` words in order.
pub type Environment = Vec<String>;

/// Numeric identity of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserIds {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Capability sets as bit masks, bit n is capability n; see capabilities(7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// Limit of what an execve may gain.
    pub bounding: u64,
    /// What the process has and may raise.
    pub permitted: u64,
    /// What the kernel checks.
    pub effective: u64,
    /// Kept over execve with file inheritable bits.
    pub inheritable: u64,
}

/// One resource limit; see setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Which.
    #[serde(with = "wire::resource")]
    pub resource: rustix::process::Resource,
    /// Enforced value; `None` is unlimited.
    pub soft: Option<u64>,
    /// Ceiling of the soft value; `None` is unlimited.
    pub hard: Option<u64>,
}

impl Rlimit {
    /// As setrlimit(2) takes them.
    pub(super) fn values(&self) -> rustix::process::Rlimit {
        rustix::process::Rlimit { current: self.soft, maximum: self.hard }
    }
}

/// Where the pid namespace comes from, when it is not new.
#[derive(Debug)]
pub enum JoinPid {
    /// Another container's.
    Container {
        /// Its open namespace file.
        namespace: OwnedFd,
        /// A proc file system of it, as a detached mount: only a process in there could make another one.
        proc: OwnedFd,
    },
    /// The one the engine runs in.
    Host,
}

/// Where a namespace comes from, when it is not new.
#[derive(Debug)]
pub enum Join {
    /// An open namespace file.
    Namespace(OwnedFd),
    /// The one the engine runs in.
    Host,
}

/// Shared memory of a container.
#[derive(Debug)]
pub enum Shm {
    /// The folder is empty and takes no files.
    None,
    /// A memory file system of its own.
    New {
        /// Its size.
        bytes: u64,
    },
    /// Another one's, as a detached mount.
    Mount(OwnedFd),
}

/// A user namespace, with its ids written.
#[derive(Debug)]
pub struct UserNamespace {
    /// An open namespace file.
    pub file: OwnedFd,
    /// Its ids.
    pub ids: IdMap,
}

/// Namespaces that are not new; `None` makes a new one. The mount namespace is always new.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// User and group ids; `None` is the engine's own. It owns every namespace that is new, and has to own those that
    /// are joined.
    pub user: Option<UserNamespace>,
    /// Network.
    pub net: Option<Join>,
    /// Process ids.
    pub pid: Option<JoinPid>,
    /// System V IPC and POSIX message queues.
    pub ipc: Option<Join>,
    /// Host name.
    pub uts: Option<Join>,
    /// Cgroup view; only [`Join::Host`] applies.
    pub cgroup: Option<Join>,
}

/// A mount at a path of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount {
    /// Absolute path in the container.
    pub target: String,
    /// What appears there.
    pub kind: VolumeKind,
}

/// What a [`VolumeMount`] shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeKind {
    /// A file or folder of the engine's view.
    Bind(BindMount),
    /// An empty memory file system.
    Tmpfs(TmpfsMount),
    /// A mount that was made ready.
    Prepared(PreparedMount),
}

/// A detached mount, which can be attached once.
#[derive(Debug, Clone)]
pub struct PreparedMount {
    /// The mount.
    pub mount: Arc<OwnedFd>,
    /// What it shows, for messages.
    pub source: String,
}

/// The same descriptor.
impl PartialEq for PreparedMount {
    fn eq(&self, other: &PreparedMount) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount)
    }
}

impl Eq for PreparedMount {}

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// File or folder.
    pub source: PathBuf,
    /// No writes.
    pub readonly: bool,
    /// Mounts below the source come along.
    pub recursive: bool,
}

/// A tmpfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TmpfsMount {
    /// What the container sees as mounted: `tmpfs`, or `shm` for the one of shared memory.
    pub source: &'static str,
    /// Options as `key=value` for fsconfig(2): size, mode, uid, gid, nr_inodes.
    pub options: Vec<(String, String)>,
    /// Mount attributes.
    pub attributes: sys::mounts::MountAttributes,
    /// How mounts in it propagate; `None` is not at all.
    pub propagation: Option<sys::mounts::Propagation>,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Path in the container, below /dev.
    pub path: String,
    /// Block device, otherwise character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner, as the machine counts.
    pub uid: u32,
    /// Group, as the machine counts.
    pub gid: u32,
}
