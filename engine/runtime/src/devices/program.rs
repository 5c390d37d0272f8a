//! From device rules to eBPF.
//!
//! The rules are walked from the last to the first with the set of accesses still to be judged: a denying rule
//! that matches the device and touches the set ends with "no", an allowing one takes its accesses out of the set,
//! and an empty set ends with "yes". So each single access is judged by the last rule that speaks of it.

use sys::bpf::Instruction;

use super::Rule;

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Both kinds.
    Any,
    /// Block devices.
    Block,
    /// Character devices.
    Character,
}

impl Kind {
    /// `BPF_DEVCG_DEV_*`.
    fn code(self) -> Option<i32> {
        match self {
            Kind::Any => None,
            Kind::Block => Some(1),
            Kind::Character => Some(2),
        }
    }
}

const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const SET: u8 = 0xb7;
const COPY_WORD: u8 = 0xbc;
const JUMP_NOT_EQUAL: u8 = 0x56;
const JUMP_ANY_BIT: u8 = 0x46;
const JUMP: u8 = 0x05;
const EXIT: u8 = 0x95;

/// The result.
const R0: u8 = 0;
/// `struct bpf_cgroup_dev_ctx` on entry.
const CONTEXT: u8 = 1;
const DEVICE_KIND: u8 = 2;
const ASKED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, constant: i32) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset, constant }
}

/// The program for `rules`: 1 lets the access pass, 0 makes it fail with EPERM.
pub(super) fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut code = vec![
        // The context's first word holds the access in its high half and the kind in its low one.
        instruction(LOAD_WORD, DEVICE_KIND, CONTEXT, 0, 0),
        instruction(COPY_WORD, ASKED, DEVICE_KIND, 0, 0),
        instruction(AND, DEVICE_KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ASKED, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        judge(&mut code, rule);
        if !rule.allow
            && rule.kind == Kind::Any
            && (rule.major, rule.minor) == (None, None)
            && rule.access.0 == 7
        {
            // Earlier rules cannot speak after one that denies all; the verifier refuses unreachable code.
            return code;
        }
    }
    answer(&mut code, 0);
    code
}

fn judge(code: &mut Vec<Instruction>, rule: &Rule) {
    let number = |value: Option<u32>| value.map(u32::cast_signed);
    let tests = [(DEVICE_KIND, rule.kind.code()), (MAJOR, number(rule.major)), (MINOR, number(rule.minor))];
    let tests: Vec<(u8, i32)> = tests.into_iter().filter_map(|(r, value)| Some((r, value?))).collect();
    let mut body = Vec::new();
    let access = rule.access.0.cast_signed();
    if rule.allow {
        body.push(instruction(AND, ASKED, 0, 0, !access));
        body.push(instruction(JUMP_NOT_EQUAL, ASKED, 0, 2, 0));
        answer(&mut body, 1);
    } else if access == 7 && tests.is_empty() {
        answer(&mut body, 0);
    } else {
        body.push(instruction(JUMP_ANY_BIT, ASKED, 0, 1, access));
        body.push(instruction(JUMP, 0, 0, 2, 0));
        answer(&mut body, 0);
    }
    for (at, (register, value)) in tests.iter().enumerate() {
        let skip = i16::try_from(tests.len() - at - 1 + body.len()).expect("a rule is short");
        code.push(instruction(JUMP_NOT_EQUAL, *register, 0, skip, *value));
    }
    code.append(&mut body);
}

fn answer(code: &mut Vec<Instruction>, value: i32) {
    code.push(instruction(SET, R0, 0, 0, value));
    code.push(instruction(EXIT, 0, 0, 0, 0));
}
