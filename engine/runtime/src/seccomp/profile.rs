//! The text of a profile, in Docker's format: OCI's `linux.seccomp` plus `archMap`, `includes` and `excludes`.
//!
//! Whatever is wrong in a profile is found here, before a container exists. Unknown keys are skipped, as moby's
//! decoder does.

use serde::Deserialize;

use super::abi::Abi;
use super::resolve::KernelVersion;

/// A profile whose every word is understood.
#[derive(Debug, Clone)]
pub struct Profile {
    pub(super) default: Action,
    pub(super) tables: Tables,
    pub(super) rules: Vec<Rule>,
    flags: u32,
}

/// Which tables beside the native one are filtered by the rules instead of refused.
#[derive(Debug, Clone)]
pub(super) enum Tables {
    /// `architectures`, or neither key: these.
    Listed(Vec<Abi>),
    /// `archMap`: by native table.
    Map(Vec<(Abi, Vec<Abi>)>),
}

/// `SECCOMP_RET_*` with its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Action(pub(super) u32);

impl Action {
    pub(super) const KILL_THREAD: Action = Action(0);
    const KILL_PROCESS: u32 = 0x8000_0000;
    const TRAP: u32 = 0x0003_0000;
    const ERRNO: u32 = 0x0005_0000;
    const TRACE: u32 = 0x7ff0_0000;
    const LOG: u32 = 0x7ffc_0000;
    const ALLOW: u32 = 0x7fff_0000;
    /// What a kernel without the syscall would answer.
    pub(super) const NO_SUCH_CALL: Action = Action(Self::ERRNO | 38);

    fn read(name: &str, errno: Option<u32>) -> Result<Action, ProfileError> {
        // EPERM where the profile gives no number, as runc does.
        let data = errno.unwrap_or(1) & 0xffff;
        Ok(Action(match name {
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
            "SCMP_ACT_KILL_PROCESS" => Self::KILL_PROCESS,
            "SCMP_ACT_TRAP" => Self::TRAP,
            "SCMP_ACT_ERRNO" => Self::ERRNO | data,
            "SCMP_ACT_TRACE" => Self::TRACE | data,
            "SCMP_ACT_LOG" => Self::LOG,
            "SCMP_ACT_ALLOW" => Self::ALLOW,
            "SCMP_ACT_NOTIFY" => return Err(ProfileError::Notify),
            _ => return Err(ProfileError::Action { name: name.to_owned() }),
        }))
    }

    /// Whether the call goes on, watched or not.
    pub(super) fn lets_pass(self) -> bool {
        matches!(self.0 & 0xffff_0000, Self::ALLOW | Self::LOG | Self::TRACE)
    }
}

/// One entry of `syscalls`.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) names: Vec<String>,
    pub(super) action: Action,
    pub(super) arguments: Vec<Condition>,
    pub(super) includes: Scope,
    pub(super) excludes: Scope,
}

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Condition {
    /// Which argument, 0 to 5.
    pub(super) argument: u8,
    pub(super) operator: Operator,
    pub(super) value: u64,
    /// All 64 bits are compared, not only the low 32.
    pub(super) wide: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// Equal in the bits of the mask.
    MaskedEqual(u64),
}

/// Where a rule holds, or does not.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    pub(super) capabilities: Vec<String>,
    pub(super) processors: Vec<String>,
    pub(super) kernel: Option<KernelVersion>,
}

/// Why a profile is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// No JSON, or of another shape.
    #[error("decoding seccomp profile failed: {0}")]
    Json(#[from] serde_json::Error),
    /// Both of two keys that exclude each other.
    #[error(
        "both '{one}' and '{other}' are specified in the seccomp profile, use either '{one}' or '{other}'"
    )]
    Both {
        /// The one key.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// `defaultAction` is missing.
    #[error("the seccomp profile has no defaultAction: add one, for example \"SCMP_ACT_ERRNO\"")]
    NoDefault,
    /// An entry of `syscalls` names none.
    #[error("seccomp profile: entry {entry} of 'syscalls' has no name")]
    NoName {
        /// Counted from 1.
        entry: usize,
    },
    /// An unknown architecture.
    #[error("seccomp profile: unknown architecture {name:?}")]
    Architecture {
        /// As given.
        name: String,
    },
    /// An unknown action.
    #[error("seccomp profile: unknown action {name:?}")]
    Action {
        /// As given.
        name: String,
    },
    /// An action that needs a supervisor process.
    #[error("seccomp profile: SCMP_ACT_NOTIFY needs a listener process, which this engine does not offer")]
    Notify,
    /// An unknown comparison.
    #[error("seccomp profile: unknown operator {name:?}")]
    Operator {
        /// As given.
        name: String,
    },
    /// System calls have six arguments.
    #[error("seccomp profile: argument index {index} is not in 0..=5")]
    Argument {
        /// As given.
        index: u32,
    },
    /// Not `major.minor`.
    #[error("seccomp profile: invalid minKernel {text:?}, expected \"<kernel>.<major>\"")]
    Kernel {
        /// As given.
        text: String,
    },
    /// An unknown flag.
    #[error("seccomp profile: unknown flag {name:?}")]
    Flag {
        /// As given.
        name: String,
    },
    /// The kernel takes 4096 instructions.
    #[error("seccomp profile: its program has {instructions} instructions, the kernel takes at most 4096")]
    TooLong {
        /// How many it has.
        instructions: usize,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileText {
    default_action: Option<String>,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchitectureText>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    syscalls: Option<Vec<RuleText>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchitectureText {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleText {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<ArgumentText>>,
    includes: Option<ScopeText>,
    excludes: Option<ScopeText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArgumentText {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeText {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl Profile {
    /// Reads a profile, for example the one of `--security-opt seccomp=`.
    ///
    /// # Errors
    /// The first word that is not understood.
    pub fn parse(text: &str) -> Result<Profile, ProfileError> {
        let text: ProfileText = serde_json::from_str(text)?;
        if text.listener_path.is_some_and(|path| !path.is_empty()) {
            return Err(ProfileError::Notify);
        }
        let default = text.default_action.as_deref().filter(|name| !name.is_empty());
        let default = Action::read(default.ok_or(ProfileError::NoDefault)?, text.default_errno_ret)?;
        let tables = tables(text.architectures.unwrap_or_default(), text.arch_map.unwrap_or_default())?;
        let rules = text.syscalls.unwrap_or_default().into_iter().enumerate();
        let rules = rules.map(|(at, rule)| rule.read(at + 1)).collect::<Result<_, _>>()?;
        Ok(Profile { default, tables, rules, flags: flags(text.flags)? })
    }

    /// `SECCOMP_FILTER_FLAG_*` for the attach.
    pub(super) fn flags(&self) -> u32 {
        self.flags
    }
}

/// Without the key runc and crun set SPEC_ALLOW: the speculation barrier that the kernel would otherwise add
/// slows interpreters down by half.
fn flags(names: Option<Vec<String>>) -> Result<u32, ProfileError> {
    const LOG: u32 = 2;
    const SPEC_ALLOW: u32 = 4;
    let Some(names) = names else { return Ok(SPEC_ALLOW) };
    names.into_iter().try_fold(0, |flags, name| match name.as_str() {
        // The launched process has one thread, so there is none to synchronise with.
        "SECCOMP_FILTER_FLAG_TSYNC" => Ok(flags),
        "SECCOMP_FILTER_FLAG_LOG" => Ok(flags | LOG),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(flags | SPEC_ALLOW),
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => Err(ProfileError::Notify),
        _ => Err(ProfileError::Flag { name }),
    })
}

fn tables(listed: Vec<String>, map: Vec<ArchitectureText>) -> Result<Tables, ProfileError> {
    if map.is_empty() {
        return Ok(Tables::Listed(read_tables(listed)?));
    }
    if !listed.is_empty() {
        return Err(ProfileError::Both { one: "architectures", other: "archMap" });
    }
    let mut rows = Vec::new();
    for ArchitectureText { architecture, sub_architectures } in map {
        let below = read_tables(sub_architectures.unwrap_or_default())?;
        rows.extend(read_tables(vec![architecture])?.into_iter().map(|native| (native, below.clone())));
    }
    Ok(Tables::Map(rows))
}

fn read_tables(names: Vec<String>) -> Result<Vec<Abi>, ProfileError> {
    let read = |name: String| Abi::of_profile(&name).ok_or(ProfileError::Architecture { name });
    Ok(names.into_iter().map(read).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

impl RuleText {
    fn read(self, entry: usize) -> Result<Rule, ProfileError> {
        let mut names = self.names.unwrap_or_default();
        if let Some(name) = self.name.filter(|name| !name.is_empty()) {
            if !names.is_empty() {
                return Err(ProfileError::Both { one: "name", other: "names" });
            }
            names.push(name);
        }
        if names.is_empty() || names.iter().any(String::is_empty) {
            return Err(ProfileError::NoName { entry });
        }
        let arguments = self.args.unwrap_or_default().into_iter().map(ArgumentText::read);
        Ok(Rule {
            names,
            action: Action::read(&self.action, self.errno_ret)?,
            arguments: arguments.collect::<Result<_, _>>()?,
            includes: self.includes.map(ScopeText::read).transpose()?.unwrap_or_default(),
            excludes: self.excludes.map(ScopeText::read).transpose()?.unwrap_or_default(),
        })
    }
}

impl ArgumentText {
    fn read(self) -> Result<Condition, ProfileError> {
        let argument = u8::try_from(self.index).ok().filter(|index| *index < 6);
        let argument = argument.ok_or(ProfileError::Argument { index: self.index })?;
        let (operator, value) = match self.op.as_str() {
            "SCMP_CMP_EQ" => (Operator::Equal, self.value),
            "SCMP_CMP_NE" => (Operator::NotEqual, self.value),
            "SCMP_CMP_LT" => (Operator::Less, self.value),
            "SCMP_CMP_LE" => (Operator::LessOrEqual, self.value),
            "SCMP_CMP_GT" => (Operator::Greater, self.value),
            "SCMP_CMP_GE" => (Operator::GreaterOrEqual, self.value),
            "SCMP_CMP_MASKED_EQ" => (Operator::MaskedEqual(self.value), self.value_two),
            _ => return Err(ProfileError::Operator { name: self.op }),
        };
        Ok(Condition { argument, operator, value, wide: true })
    }
}

impl ScopeText {
    fn read(self) -> Result<Scope, ProfileError> {
        let kernel = |text: String| KernelVersion::parse(&text).ok_or(ProfileError::Kernel { text });
        Ok(Scope {
            capabilities: self.caps.unwrap_or_default(),
            processors: self.arches.unwrap_or_default(),
            kernel: self.min_kernel.map(kernel).transpose()?,
        })
    }
}
