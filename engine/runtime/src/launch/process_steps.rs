//! The steps of a process about itself: limits, streams, identity, the program.

use std::ffi::CString;

use rustix::process::{Gid, Resource};
use sys::clone::{SIBLING_FLAGS, StringArray};

use super::plan::{Message, NulInside, c};
use super::spec::{JoinPid, Process, Rlimit, Spec};
use super::step::Step;
use crate::seccomp::Filter;

/// Who is there when the new process is born.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Birth {
    /// Nobody but the machine can see it.
    Alone {
        /// It has a user namespace.
        mapped: bool,
    },
    /// It is born into a pid namespace that has other processes. To one of them that has CAP_SYS_PTRACE its memory, its
    /// descriptors and its rights are as good as its own. So another process, which they do not see, does all that needs
    /// rights, and the one that is born has only what its program will have.
    Inside {
        /// The container has a user namespace.
        mapped: bool,
    },
}

impl Birth {
    pub(super) fn of(spec: &Spec) -> Birth {
        let mapped = spec.namespaces.user.is_some();
        match spec.namespaces.pid {
            Some(JoinPid::Container { .. }) => Birth::Inside { mapped },
            None | Some(JoinPid::Host) => Birth::Alone { mapped },
        }
    }
}

/// The descriptor through which a process of the zygote's speaks with the engine; those above it are closed.
pub(super) const CHANNEL: i32 = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct ProcessSteps {
    /// What a process may do for itself only as long as it has the machine's rights.
    pub granted: Vec<Step>,
    /// Once it is in its surroundings.
    pub steps: Vec<Step>,
    /// As [`super::plan::Plan::inside`].
    pub inside: Vec<Step>,
    /// As [`super::plan::Plan::processes`].
    pub processes: Option<Rlimit>,
}

impl ProcessSteps {
    /// # Errors
    /// A string has a NUL byte.
    pub(super) fn compile(
        process: &Process,
        birth: Birth,
        message: Message,
    ) -> Result<ProcessSteps, NulInside> {
        match birth {
            Birth::Alone { mapped } => alone(process, mapped, message),
            Birth::Inside { .. } => inside(process),
        }
    }
}

/// The order matters: seccomp comes as late as it can, so that its program need not allow what comes before; PID 1 is told
/// before that, because the program may forbid sendmsg(2).
fn alone(process: &Process, mapped: bool, message: Message) -> Result<ProcessSteps, NulInside> {
    let granted = if mapped { granted(process) } else { limits(process).collect() };
    let mut steps = vec![Step::NewSession, Step::Stdio, Step::Umask];
    steps.extend(process.terminal.then_some(Step::ControllingTerminal));
    steps.extend(identity(process)?);
    if !mapped {
        // Until here it has the engine's own score: a process that shares the engine's memory must be the last to be killed.
        steps.push(score(process));
        // Until here it opens files, with numbers above those of all that the engine has open.
        steps.extend(open_files(process));
    }
    steps.push(Step::Register { message: message.bytes, kept: message.kept });
    steps.push(Step::CloseFiles { from: CHANNEL });
    if mapped {
        steps.push(open_files(process).unwrap_or_else(own_open_files));
    }
    steps.push(Step::DefaultSignals(sys::clone::ignored_signals()));
    steps.extend(process.no_new_privileges.then_some(Step::NoNewPrivileges));
    steps.extend(process.seccomp.clone().map(Step::Seccomp));
    steps.push(Step::Capabilities(process.capabilities));
    steps.extend(program(process)?);
    Ok(ProcessSteps { granted, steps, inside: Vec::new(), processes: None })
}

/// The process of `steps` gives up every right before it makes the one of `inside`. The engine tells PID 1 of that one.
fn inside(process: &Process) -> Result<ProcessSteps, NulInside> {
    let processes = last_limit(process, Resource::Nproc).copied();
    let mut granted = granted(process);
    // For a moment there is a process more than there will be. Its limit comes in the place of the one that was asked for: once
    // lowered, only CAP_SYS_RESOURCE raises it again.
    granted.retain(|step| !matches!(step, Step::Rlimit(limit) if limit.resource == Resource::Nproc));
    granted.extend(processes.map(|limit| step_of(&one_more(limit))));
    let mut steps = vec![Step::Stdio, Step::Umask];
    steps.extend(identity(process)?);
    steps.push(Step::CloseFiles { from: CHANNEL + 1 });
    steps.push(open_files(process).unwrap_or_else(own_open_files));
    steps.push(Step::DefaultSignals(sys::clone::ignored_signals()));
    steps.extend(process.no_new_privileges.then_some(Step::NoNewPrivileges));
    let mut born = vec![Step::NewSession];
    born.extend(process.terminal.then_some(Step::ControllingTerminal));
    let seccomp = process.seccomp.clone();
    let capabilities = Step::Capabilities(process.capabilities);
    match seccomp {
        // Without CAP_SYS_ADMIN only a process that will never gain rights may be filtered. So the rest has to be born with
        // its rights, as all processes of runc are.
        Some(filter) if !lets_be_born(&filter, process.terminal) => {
            let place = if process.no_new_privileges { &mut steps } else { &mut born };
            place.push(capabilities);
            let at = if process.no_new_privileges { born.len() } else { born.len() - 1 };
            born.insert(at, Step::Seccomp(filter));
        }
        other => {
            steps.extend(other.map(Step::Seccomp));
            steps.push(capabilities);
        }
    }
    born.extend(program(process)?);
    Ok(ProcessSteps { granted, steps, inside: born, processes })
}

/// Whether a filtered process can make another one, which then can say that it is there, wait, and take a terminal.
fn lets_be_born(filter: &Filter, terminal: bool) -> bool {
    filter.lets_pass("clone", SIBLING_FLAGS)
        && ["read", "write", "setsid", "exit_group"].iter().all(|name| filter.lets_pass(name, 0))
        && (!terminal || filter.lets_pass("ioctl", 0))
}

fn identity(process: &Process) -> Result<[Step; 3], NulInside> {
    let user = &process.user;
    let groups = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    Ok([
        Step::KeepCapabilities { bounding: process.capabilities.bounding },
        Step::Identity { uid: user.uid, gid: user.gid, groups },
        Step::WorkingDirectory(c(&process.cwd)?),
    ])
}

fn program(process: &Process) -> Result<impl Iterator<Item = Step>, NulInside> {
    let exec = Step::Exec {
        candidates: candidates(process)?,
        arguments: strings(&process.args)?,
        environment: strings(&process.env)?,
    };
    Ok((!process.signals_held).then_some(Step::UnblockSignals).into_iter().chain([exec]))
}

/// Written even where it is 0: the engine's own, which a child inherits, protects it from the killer.
fn score(process: &Process) -> Step {
    Step::Write {
        path: c"/proc/self/oom_score_adj".into(),
        value: process.oom_score_adj.to_string().into_bytes(),
    }
}

/// Limits but for that of open files.
fn limits(process: &Process) -> impl Iterator<Item = Step> {
    process.rlimits.iter().filter(|limit| limit.resource != Resource::Nofile).map(step_of)
}

fn step_of(limit: &Rlimit) -> Step {
    Step::Rlimit(*limit)
}

fn one_more(limit: Rlimit) -> Rlimit {
    let more = |value: Option<u64>| value.map(|value| value.saturating_add(1));
    Rlimit { soft: more(limit.soft), hard: more(limit.hard), ..limit }
}

fn last_limit(process: &Process, resource: Resource) -> Option<&Rlimit> {
    process.rlimits.iter().rfind(|limit| limit.resource == resource)
}

fn open_files(process: &Process) -> Option<Step> {
    last_limit(process, Resource::Nofile).map(step_of)
}

/// The limit that a child has from the engine.
fn own_open_files() -> Step {
    let own = rustix::process::getrlimit(Resource::Nofile);
    Step::Rlimit(Rlimit { resource: Resource::Nofile, soft: own.current, hard: own.maximum })
}

/// It may open as many files as can be: all containers with mapped ids are one user to the kernel, which counts what they have
/// on the way in sockets, and refuses a descriptor for PID 1 to whoever may open less (ETOOMANYREFS in unix(7)).
fn granted(process: &Process) -> Vec<Step> {
    let asked = last_limit(process, Resource::Nofile);
    let least = asked.map_or(0, |limit| limit.hard.unwrap_or(u64::MAX));
    let raise = Step::RaiseFiles { least, most: most_open_files() };
    [raise].into_iter().chain(limits(process)).chain([score(process)]).collect()
}

/// What the kernel allows at most; it does not change while the engine runs.
fn most_open_files() -> u64 {
    static MOST: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let read = || std::fs::read_to_string("/proc/sys/fs/nr_open").ok()?.trim().parse().ok();
    *MOST.get_or_init(|| read().unwrap_or(1 << 20))
}

fn strings(words: &[String]) -> Result<StringArray, NulInside> {
    Ok(StringArray::new(words.iter().map(|word| c(word)).collect::<Result<_, _>>()?))
}

/// Paths execve(2) is tried with: the program itself where it has a slash, else one for each folder of PATH.
pub(super) fn candidates(process: &Process) -> Result<Vec<CString>, NulInside> {
    let program = process.args.first().map_or("", String::as_str);
    if program.is_empty() || program.contains('/') {
        return Ok(vec![c(program)?]);
    }
    let path = process.env.iter().rev().find_map(|word| word.strip_prefix("PATH=")).unwrap_or("");
    path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| c(&format!("{dir}/{program}"))).collect()
}
