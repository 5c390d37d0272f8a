//! For tests: a slow reading of a profile that knows nothing of ranges, trees or resolved rules.

use std::collections::BTreeSet;

use super::abi::{Abi, X32_BIT, X32_OWN_FIRST};
use super::evaluate::Call;
use super::profile::{Action, Condition, Operator, Profile, Rule, Scope};
use super::resolve::Host;

/// A profile read rule by rule for calls by one table.
pub(super) struct Reading<'a> {
    default: Action,
    abi: Abi,
    /// Each rule that counts, with its names.
    rules: Vec<(&'a Rule, Vec<Name>)>,
    newest: Option<u32>,
}

struct Name {
    number: Option<u32>,
    wide: bool,
    /// Number and first argument of the call that carries it.
    carrier: Option<(u32, u64)>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(profile: &'a Profile, host: &Host, abi: Abi) -> Reading<'a> {
        let held: Vec<&Rule> = profile.rules.iter().filter(|rule| holds(rule, host)).collect();
        // x32 shares the native tree, so also the native idea of what is newer than the profile.
        let counted = if abi == Abi::X32 { Abi::X86_64 } else { abi };
        let newest = held.iter().flat_map(|rule| &rule.names).filter_map(|name| counted.number(name)).max();
        let name = |name: &String| Name {
            number: abi.number(name),
            wide: abi.wide(name),
            carrier: abi.carrier(name).and_then(|(call, value)| Some((abi.number(call)?, value))),
        };
        let speaking = held.into_iter().filter(|rule| rule.action != profile.default);
        let rules = speaking.map(|rule| (rule, rule.names.iter().map(name).collect())).collect();
        Reading { default: profile.default, abi, rules, newest }
    }

    pub(super) fn answer(&self, call: &Call) -> Action {
        let named = |names: &[Name]| names.iter().any(|name| name.number == Some(call.number));
        let mut all = self.rules.iter().filter(|(_, names)| named(names));
        if let Some((rule, _)) = all.clone().find(|(rule, _)| rule.arguments.is_empty()) {
            return rule.action;
        }
        let hit = self.rules.iter().find(|(rule, names)| names.iter().any(|name| hits(rule, name, call)));
        let plain = if self.abi == Abi::X32 { call.number & !X32_BIT } else { call.number };
        let strict = !self.default.lets_pass();
        match hit {
            Some((rule, _)) => rule.action,
            None if strict && all.next().is_none() && self.newest.is_some_and(|newest| plain > newest) => {
                Action::NO_SUCH_CALL
            }
            None => self.default,
        }
    }
}

/// Whether a conditional rule matches by this of its names.
fn hits(rule: &Rule, name: &Name, call: &Call) -> bool {
    if rule.arguments.is_empty() {
        let carried =
            |(number, value): (u32, u64)| number == call.number && call.arguments[0] as u32 == value as u32;
        return name.carrier.is_some_and(carried);
    }
    let test = |condition: &Condition| matches(condition, name.wide, call);
    let twice = (0..6).any(|n| rule.arguments.iter().filter(|c| c.argument == n).count() > 1);
    name.number == Some(call.number)
        && if twice { rule.arguments.iter().any(test) } else { rule.arguments.iter().all(test) }
}

fn matches(condition: &Condition, wide: bool, call: &Call) -> bool {
    let narrow = |value: u64| if wide { value } else { u64::from(value as u32) };
    let (argument, value) =
        (narrow(call.arguments[usize::from(condition.argument)]), narrow(condition.value));
    match condition.operator {
        Operator::Equal => argument == value,
        Operator::NotEqual => argument != value,
        Operator::Less => argument < value,
        Operator::LessOrEqual => argument <= value,
        Operator::Greater => argument > value,
        Operator::GreaterOrEqual => argument >= value,
        Operator::MaskedEqual(mask) => argument & narrow(mask) == value,
    }
}

fn holds(rule: &Rule, host: &Host) -> bool {
    let go = host.native.go_name().to_owned();
    let bounding: Vec<String> = host.bounding.iter().map(|capability| capability.to_string()).collect();
    let Scope { capabilities, processors, kernel } = &rule.excludes;
    if processors.contains(&go)
        || capabilities.iter().any(|name| bounding.contains(name))
        || kernel.is_some_and(|from| host.kernel >= from)
    {
        return false;
    }
    let Scope { capabilities, processors, kernel } = &rule.includes;
    (processors.is_empty() || processors.contains(&go))
        && capabilities.iter().all(|name| bounding.contains(name))
        && kernel.is_none_or(|from| host.kernel >= from)
}

/// Whether no call has this number, so that the kernel refuses it anyway: what one of x86-64's two tables lacks.
pub(super) fn unassigned(abi: Abi, number: u32) -> bool {
    static X32: std::sync::OnceLock<BTreeSet<u32>> = std::sync::OnceLock::new();
    let x32 = X32.get_or_init(|| {
        let names = syscalls::x86_64::Sysno::iter().map(|number| number.name());
        names.filter_map(|name| Abi::X32.number(name)).collect()
    });
    match abi {
        Abi::X86_64 => (X32_OWN_FIRST..X32_BIT).contains(&number),
        Abi::X32 => !x32.contains(&number),
        _ => false,
    }
}

/// Every table a call on `native` may come by, with numbers worth asking about.
pub(super) fn doors(native: Abi) -> Vec<(Abi, Vec<u32>)> {
    let near = |from: u32| (from..from + 700).chain([from + 0x000f_0001, from + 0x3fff_ffff]);
    match native {
        Abi::X86_64 => vec![
            (Abi::X86_64, near(0).collect()),
            (Abi::X32, near(X32_BIT).chain([u32::MAX, u32::MAX - 1]).collect()),
            (Abi::X86, near(0).chain([X32_BIT, u32::MAX]).collect()),
        ],
        _ => vec![
            (Abi::Aarch64, near(0).chain([X32_BIT, u32::MAX]).collect()),
            (Abi::Arm, near(0).chain(0x000f_0000..0x000f_0010).chain([u32::MAX]).collect()),
        ],
    }
}
