//! For tests: an interpreter of classic BPF as seccomp uses it, and a slow reading of a profile that knows
//! nothing of ranges, trees or resolved rules.

use super::abi::{Abi, X32_BIT};
use super::profile::{Action, Condition, Operator, Profile, Rule, Scope};
use super::resolve::Host;
use sys::seccomp::Instruction;

/// `struct seccomp_data` without the instruction pointer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) audit: u32,
    pub(super) arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.audit,
            16..64 => {
                let argument = self.arguments[((offset - 16) / 8) as usize];
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
            _ => panic!("load at {offset}"),
        }
    }
}

/// The answer and how many instructions it took.
pub(super) fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    let (mut at, mut accumulator) = (0, 0);
    for steps in 1.. {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = call.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => jump(accumulator == k),
            0x25 => jump(accumulator > k),
            0x35 => jump(accumulator >= k),
            0x45 => jump(accumulator & k != 0),
            0x06 => return (k, steps),
            _ => panic!("instruction {code:#x}"),
        }
    }
    unreachable!("a program ends by a return")
}

/// What the profile says of a call by `abi`, read rule by rule.
pub(super) fn answer(profile: &Profile, host: &Host, abi: Option<Abi>, call: &Call) -> Action {
    let Some(abi) = abi else { return Action::KILL_THREAD };
    let rules: Vec<&Rule> = profile.rules.iter().filter(|rule| holds(rule, host)).collect();
    let numbers = rules.iter().flat_map(|rule| &rule.names).filter_map(|name| abi.number(name));
    let newest = numbers.max();
    let strict = !profile.default.lets_pass();
    let mut matched = None;
    for rule in rules.iter().filter(|rule| rule.action != profile.default) {
        for name in &rule.names {
            if let Some((carrier, value)) = abi.carrier(name).filter(|_| rule.arguments.is_empty())
                && abi.number(carrier) == Some(call.number)
                && call.arguments[0] as u32 == value as u32
            {
                matched = matched.or(Some(rule.action));
            }
            if abi.number(name) != Some(call.number) {
                continue;
            }
            if rule.arguments.is_empty() {
                return first_unconditional(&rules, profile, abi, call.number);
            }
            let test = |condition: &Condition| matches(condition, abi, call);
            let twice = (0..6).any(|n| rule.arguments.iter().filter(|c| c.argument == n).count() > 1);
            let hit = if twice { rule.arguments.iter().any(test) } else { rule.arguments.iter().all(test) };
            matched = matched.or(hit.then_some(rule.action));
        }
    }
    let unconditional_later = rules
        .iter()
        .any(|r| r.action != profile.default && r.arguments.is_empty() && names(r, abi, call.number));
    if unconditional_later {
        return first_unconditional(&rules, profile, abi, call.number);
    }
    match matched {
        Some(action) => action,
        None if strict && newest.is_some_and(|newest| call.number > newest) => Action::NO_SUCH_CALL,
        None => profile.default,
    }
}

fn names(rule: &Rule, abi: Abi, number: u32) -> bool {
    rule.names.iter().any(|name| abi.number(name) == Some(number))
}

fn first_unconditional(rules: &[&Rule], profile: &Profile, abi: Abi, number: u32) -> Action {
    let mut all = rules.iter().filter(|r| r.action != profile.default && r.arguments.is_empty());
    all.find(|rule| names(rule, abi, number)).expect("asked where there is one").action
}

fn matches(condition: &Condition, abi: Abi, call: &Call) -> bool {
    let narrow = |value: u64| if abi.wide() { value } else { u64::from(value as u32) };
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
