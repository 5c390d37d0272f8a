//! Which devices a container may use: rules, compiled to one eBPF program and attached to its cgroup (v2).
//!
//! ```text
//!   Vec<Rule> ──program::compile──► instructions ──Gate::load──► program in the kernel ──attach──► cgroup
//! ```
//!
//! The rules of a container that asked for no devices are loaded once; attaching costs one bpf(2) call then.
//! The attachment lives as long as the cgroup, whatever becomes of the engine. It makes no device nodes.

mod machine;
mod program;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

pub use machine::{devices_at, host_devices, number_of};
pub use program::Kind;

/// Access to a device: `r`, `w` and `m` (mknod) as the kernel's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Access(u32);

impl Access {
    /// mknod(2).
    pub const MKNOD: Access = Access(1);
    /// Reading.
    pub const READ: Access = Access(2);
    /// Writing.
    pub const WRITE: Access = Access(4);
    /// All three.
    pub const ALL: Access = Access(7);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }

    /// `BPF_DEVCG_ACC_*`.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// One line of a device list. Later rules prevail over earlier ones; what no rule allows is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Allows or denies.
    pub allow: bool,
    /// Character, block, or any device.
    pub kind: Kind,
    /// Any where `None`.
    pub major: Option<u32>,
    /// Any where `None`.
    pub minor: Option<u32>,
    /// What is allowed or denied.
    pub access: Access,
}

impl Rule {
    /// A rule that allows.
    #[must_use]
    pub const fn allow(kind: Kind, major: Option<u32>, minor: Option<u32>, access: Access) -> Rule {
        Rule { allow: true, kind, major, minor, access }
    }
}

/// What every container may use (moby `daemon/pkg/oci/defaults.go` and runc's `AllowedDevices`): any mknod, and
/// null, zero, full, random, urandom, tty, console, ptmx and the pseudo terminals.
pub const CONTAINER_DEFAULT: [Rule; 12] = {
    const fn character(major: u32, minor: Option<u32>) -> Rule {
        Rule::allow(Kind::Character, Some(major), minor, Access::ALL)
    }
    [
        Rule { allow: false, kind: Kind::Any, major: None, minor: None, access: Access::ALL },
        character(1, Some(3)),
        character(1, Some(5)),
        character(1, Some(7)),
        character(1, Some(8)),
        character(1, Some(9)),
        character(5, Some(0)),
        character(5, Some(1)),
        character(5, Some(2)),
        character(136, None),
        Rule::allow(Kind::Character, None, None, Access::MKNOD),
        Rule::allow(Kind::Block, None, None, Access::MKNOD),
    ]
};

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid device cgroup rule {text:?}: expected \"[acb] MAJOR:MINOR [rwm]\", each number or *")]
pub struct RuleError {
    /// As given.
    pub text: String,
}

/// Reads a rule that allows, for example `c 42:* rmw` (the kernel's cgroup-v1/devices form).
impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Rule, RuleError> {
        read_rule(text).ok_or_else(|| RuleError { text: text.to_owned() })
    }
}

fn read_rule(text: &str) -> Option<Rule> {
    let mut words = text.split(' ');
    let kind = match words.next()? {
        "a" => Kind::Any,
        "b" => Kind::Block,
        "c" => Kind::Character,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let (major, minor) = (read_number(major)?, read_number(minor)?);
    let access = read_access(words.next()?)?;
    words.next().is_none().then_some(Rule::allow(kind, major, minor, access))
}

fn read_number(text: &str) -> Option<Option<u32>> {
    if text == "*" { Some(None) } else { text.parse().ok().map(Some) }
}

/// Reads a word of `r`, `w` and `m`; nothing for an empty or unknown one.
pub fn access(text: &str) -> Option<Access> {
    read_access(text)
}

fn read_access(text: &str) -> Option<Access> {
    let bit = |letter| match letter {
        'r' => Some(Access::READ),
        'w' => Some(Access::WRITE),
        'm' => Some(Access::MKNOD),
        _ => None,
    };
    text.chars().map(bit).reduce(|all, one| Some(all?.and(one?)))?
}

/// Why the devices of a cgroup are not guarded.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The kernel has no device programs, or this process may not use them. The caller may warn and go on where
    /// the rest of the isolation suffices.
    #[error("device rules are not available on this kernel: {source}")]
    Unsupported {
        /// Of bpf(2).
        source: std::io::Error,
    },
    /// The kernel refused the rules.
    #[error("loading {rules} device rules failed: {source}")]
    Load {
        /// How many.
        rules: usize,
        /// Of bpf(2).
        source: std::io::Error,
    },
    /// The cgroup refused them.
    #[error("attaching device rules to the cgroup failed: {source}")]
    Attach {
        /// Of bpf(2).
        source: std::io::Error,
    },
}

/// Rules in the kernel, ready to be attached to any number of cgroups.
pub struct Gate {
    program: OwnedFd,
}

impl fmt::Debug for Gate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Gate({:?})", self.program)
    }
}

impl Gate {
    /// Loads `rules`.
    ///
    /// # Errors
    /// [`GateError::Unsupported`] or [`GateError::Load`].
    pub fn load(rules: &[Rule]) -> Result<Gate, GateError> {
        let instructions = program::compile(rules);
        match sys::bpf::load_device_program("pinnace_devices", &instructions) {
            Ok(program) => Ok(Gate { program }),
            Err(source) if unsupported(&source) => Err(GateError::Unsupported { source }),
            Err(source) => Err(GateError::Load { rules: rules.len(), source }),
        }
    }

    /// The gate of [`CONTAINER_DEFAULT`], loaded by the first call that succeeds.
    ///
    /// # Errors
    /// Those of [`Gate::load`].
    pub fn container_default() -> Result<Arc<Gate>, GateError> {
        static LOADED: Mutex<Option<Arc<Gate>>> = Mutex::new(None);
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = &*loaded {
            return Ok(gate.clone());
        }
        let gate = Arc::new(Gate::load(&CONTAINER_DEFAULT)?);
        *loaded = Some(gate.clone());
        Ok(gate)
    }

    /// Guards the cgroup v2 directory open as `cgroup`, and all below it. Once for a cgroup: a second gate would
    /// hold beside the first.
    ///
    /// # Errors
    /// [`GateError::Unsupported`] or [`GateError::Attach`].
    pub fn attach(&self, cgroup: BorrowedFd<'_>) -> Result<(), GateError> {
        sys::bpf::attach_device_program(cgroup, self.program.as_fd()).map_err(|source| match errno(&source) {
            // Not a directory of the second version of cgroups.
            Some(Errno::BADF) => GateError::Unsupported { source },
            _ => GateError::Attach { source },
        })
    }
}

/// ENOSYS: no bpf(2); EPERM: not allowed to us; EINVAL: a kernel without CONFIG_CGROUP_BPF, since our own programs
/// are well formed.
fn unsupported(error: &std::io::Error) -> bool {
    matches!(errno(error), Some(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP))
}

fn errno(error: &std::io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests;
