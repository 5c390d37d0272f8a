//! From a profile to the rules that hold for one process: per table of syscall numbers, number → verdict.
//!
//! The meaning is that of moby's `setupSeccomp` followed by runc and libseccomp:
//! - a rule counts when its `includes` hold and none of its `excludes` does;
//! - a rule with the default action changes nothing and is skipped;
//! - a name that a table lacks is skipped there;
//! - an unconditional rule wins over conditional ones of the same call, whichever came first, and the first
//!   unconditional one over later ones; among conditional ones the first that matches decides;
//! - two conditions on one argument in one rule are alternatives;
//! - calls newer than the newest one that the profile names are answered with ENOSYS rather than EPERM, so that
//!   libraries fall back to older calls (runc's `patchbpf`).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::abi::Abi;
use super::profile::{Action, Condition, Operator, Profile, Rule, Scope, Tables};
use crate::capabilities::{Capabilities, Capability};

/// A kernel's version, for `minKernel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion(pub u32, pub u32);

impl KernelVersion {
    /// Reads `6.12` and `6.12.43+deb12-cloud-amd64`.
    #[must_use]
    pub fn parse(text: &str) -> Option<KernelVersion> {
        let (first, rest) = text.split_once('.')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some(KernelVersion(first.parse().ok()?, rest[..end].parse().ok()?))
    }

    /// The running kernel's.
    #[must_use]
    pub fn running() -> KernelVersion {
        static RUNNING: OnceLock<KernelVersion> = OnceLock::new();
        *RUNNING.get_or_init(|| {
            let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            // An unreadable version is taken for the oldest this engine runs on.
            KernelVersion::parse(&release).unwrap_or(KernelVersion(5, 14))
        })
    }
}

/// What a profile's rules depend on.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// The processor's native table.
    pub native: Abi,
    /// The kernel.
    pub kernel: KernelVersion,
    /// The bounding set of the process.
    pub bounding: Capabilities,
}

impl Host {
    /// This machine, for a process with this bounding set.
    #[must_use]
    pub fn this(bounding: Capabilities) -> Host {
        Host { native: Abi::NATIVE, kernel: KernelVersion::running(), bounding }
    }
}

/// The rules for one process.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// For numbers without a verdict.
    pub(super) default: Action,
    /// The native table first.
    pub(super) tables: Vec<Table>,
}

/// The rules for calls by one table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) abi: Abi,
    pub(super) verdicts: BTreeMap<u32, Verdict>,
    /// The answer to numbers above this one is ENOSYS.
    pub(super) newest: Option<u32>,
}

/// What is done about one syscall.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Verdict {
    /// The same whatever the arguments.
    Always(Action),
    /// The first alternative whose conditions all hold, else the default.
    First(Vec<(Vec<Condition>, Action)>),
}

impl Profile {
    /// The rules that hold on `host`.
    pub(super) fn resolve(&self, host: &Host) -> Rules {
        let rules: Vec<&Rule> = self.rules.iter().filter(|rule| rule.holds(host)).collect();
        let tables = self.abis(host.native).into_iter().map(|abi| self.table(abi, &rules)).collect();
        Rules { default: self.default, tables }
    }

    fn abis(&self, native: Abi) -> Vec<Abi> {
        let others: &[Abi] = match &self.tables {
            Tables::Listed(listed) => listed,
            Tables::Map(rows) => {
                rows.iter().find(|(key, _)| *key == native).map_or(&[], |(_, below)| below.as_slice())
            }
        };
        let mut abis = vec![native];
        for abi in others.iter().filter(|abi| abi.runs_on(native)) {
            if !abis.contains(abi) {
                abis.push(*abi);
            }
        }
        abis
    }

    fn table(&self, abi: Abi, rules: &[&Rule]) -> Table {
        let mut verdicts = BTreeMap::new();
        let mut newest = None;
        for rule in rules {
            for name in &rule.names {
                let number = abi.number(name);
                newest = newest.max(number);
                if rule.action == self.default {
                    continue;
                }
                if let Some(number) = number {
                    let wide = abi.wide(name);
                    let narrowed = |condition: &Condition| Condition { wide, ..*condition };
                    let conditions: Vec<Condition> = rule.arguments.iter().map(narrowed).collect();
                    add(&mut verdicts, number, &conditions, rule.action);
                }
                add_carried(&mut verdicts, abi, name, rule);
            }
        }
        let stub = !self.default.lets_pass() && self.default != Action::NO_SUCH_CALL;
        Table { abi, verdicts, newest: newest.filter(|_| stub) }
    }
}

/// The same call through `socketcall` or `ipc`. A rule that looks at arguments cannot be kept there, since they
/// are behind a pointer: it is left out, so such a call is not let through that door.
fn add_carried(verdicts: &mut BTreeMap<u32, Verdict>, abi: Abi, name: &str, rule: &Rule) {
    let Some((carrier, value)) = abi.carrier(name).filter(|_| rule.arguments.is_empty()) else { return };
    if let Some(number) = abi.number(carrier) {
        let condition = Condition { argument: 0, operator: Operator::Equal, value, wide: false };
        add(verdicts, number, &[condition], rule.action);
    }
}

fn add(verdicts: &mut BTreeMap<u32, Verdict>, number: u32, conditions: &[Condition], action: Action) {
    let verdict = verdicts.entry(number).or_insert_with(|| Verdict::First(Vec::new()));
    let Verdict::First(alternatives) = verdict else { return };
    if conditions.is_empty() {
        *verdict = Verdict::Always(action);
    } else if repeats_an_argument(conditions) {
        alternatives.extend(conditions.iter().map(|condition| (vec![*condition], action)));
    } else {
        alternatives.push((conditions.to_vec(), action));
    }
}

fn repeats_an_argument(conditions: &[Condition]) -> bool {
    let mut seen = [false; 6];
    conditions.iter().any(|condition| std::mem::replace(&mut seen[usize::from(condition.argument)], true))
}

impl Rule {
    fn holds(&self, host: &Host) -> bool {
        let Scope { capabilities, processors, kernel } = &self.excludes;
        let excluded = processors.iter().any(|name| name == host.native.go_name())
            || capabilities.iter().any(|name| has(host.bounding, name))
            || kernel.is_some_and(|from| host.kernel >= from);
        let Scope { capabilities, processors, kernel } = &self.includes;
        let included = (processors.is_empty() || processors.iter().any(|name| name == host.native.go_name()))
            && capabilities.iter().all(|name| has(host.bounding, name))
            && kernel.is_none_or(|from| host.kernel >= from);
        included && !excluded
    }
}

/// Profiles write capabilities in full and in upper case; other spellings name none.
fn has(bounding: Capabilities, name: &str) -> bool {
    let known = Capability::named(name).filter(|capability| capability.to_string() == name);
    known.is_some_and(|capability| bounding.has(capability))
}
