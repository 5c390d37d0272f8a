//! From rules to classic BPF.
//!
//! ```text
//!   load arch ─ native? ──► load nr ──► search tree over ranges of numbers ──► leaf: a return, or argument tests
//!             └ other?  ──► load nr ──► its own tree
//!             └ none    ──► kill the thread, as libseccomp does for a foreign architecture
//! ```
//!
//! Code is written back to front, so that every jump's target is known when the jump is written. A conditional
//! jump reaches 255 instructions; what is further away is reached by a copy of the return, or by a long jump.

use std::collections::{BTreeMap, HashMap};

use super::abi::{Abi, X32_BIT, X32_OWN_FIRST};
use super::profile::{Action, Condition, Operator};
use super::resolve::{Rules, Table, Verdict};
use sys::seccomp::Instruction;

/// `BPF_MAXINSNS` of linux/bpf_common.h.
pub(super) const INSTRUCTIONS_MAX: usize = 4096;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The program for `rules`.
pub(super) fn compile(rules: &Rules) -> Vec<Instruction> {
    let mut code = Backwards::default();
    let mut otherwise = code.ret(Action::KILL_THREAD);
    for table in rules.tables.iter().rev().filter(|table| table.abi != Abi::X32) {
        let x32 = rules.tables.iter().find(|other| other.abi == Abi::X32 && table.abi == Abi::X86_64);
        let tree = code.tree(&ranges(table, x32, rules.default), u32::MAX);
        let body = match (table.abi, x32) {
            (Abi::X86_64, Some(_)) => code.without_x32_bit(tree),
            _ => tree,
        };
        let body = code.load(NUMBER, body);
        otherwise = code.branch(JUMP_EQUAL, table.abi.audit(), body, otherwise);
    }
    code.load(ARCHITECTURE, otherwise);
    code.code.reverse();
    code.code
}

/// What a number leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Leaf {
    Answer(Action),
    Test { alternatives: Vec<(Vec<Condition>, Action)>, default: Action },
}

/// Numbers from `start` up to the next range's start.
#[derive(Debug, Clone)]
struct Range {
    start: u32,
    leaf: Leaf,
}

/// All numbers of one audit architecture, equal neighbours merged.
///
/// x32 shares the native tree, its bit taken off, with its own numbers behind the native ones. What only one of
/// the two tables has is judged as in the other then; the kernel itself answers ENOSYS to such a call.
fn ranges(table: &Table, x32: Option<&Table>, default: Action) -> Vec<Range> {
    let mut verdicts: BTreeMap<u32, &Verdict> =
        table.verdicts.iter().map(|(n, verdict)| (*n, verdict)).collect();
    let own = x32.iter().flat_map(|x32| x32.verdicts.range(X32_BIT | X32_OWN_FIRST..));
    verdicts.extend(own.map(|(number, verdict)| (number & !X32_BIT, verdict)));
    let mut ranges = Vec::new();
    let mut next = Some(0);
    for (number, verdict) in verdicts {
        if let Some(next) = next.filter(|next| *next < number) {
            add_gap(&mut ranges, next, number - 1, table.newest, default);
        }
        add(&mut ranges, number, leaf(verdict, default));
        next = number.checked_add(1);
    }
    let last = if table.abi == Abi::X86_64 && x32.is_none() { X32_BIT - 1 } else { u32::MAX };
    if let Some(next) = next {
        add_gap(&mut ranges, next, last, table.newest, default);
    }
    if last != u32::MAX {
        // As libseccomp: x32 is foreign then, but for -1, which a tracer leaves behind to skip a call.
        add(&mut ranges, X32_BIT, Leaf::Answer(Action::KILL_THREAD));
        add(&mut ranges, u32::MAX, Leaf::Answer(default));
    }
    ranges
}

/// Numbers without a verdict, from one up to and including another.
fn add_gap(ranges: &mut Vec<Range>, from: u32, to: u32, newest: Option<u32>, default: Action) {
    let newest = newest.unwrap_or(u32::MAX);
    if from <= newest {
        add(ranges, from, Leaf::Answer(default));
    }
    if to > newest {
        add(ranges, from.max(newest + 1), Leaf::Answer(Action::NO_SUCH_CALL));
    }
}

fn leaf(verdict: &Verdict, default: Action) -> Leaf {
    match verdict {
        Verdict::Always(action) => Leaf::Answer(*action),
        Verdict::First(alternatives) => Leaf::Test { alternatives: alternatives.clone(), default },
    }
}

fn add(ranges: &mut Vec<Range>, start: u32, leaf: Leaf) {
    if ranges.last().is_none_or(|range| range.leaf != leaf) {
        ranges.push(Range { start, leaf });
    }
}

/// Where to split: so that either side has as many numbers and about as many ranges. At attach the kernel runs the
/// program once for each number it has, so a wide range is to be found soon; each range counts too, so that no
/// path gets long.
fn middle(ranges: &[Range], end: u32) -> usize {
    const NUMBERS: u32 = 470;
    const RANGE: u32 = 4;
    let weight = |at: usize| {
        let next = ranges.get(at + 1).map_or(end, |next| next.start).min(NUMBERS);
        RANGE + next - ranges[at].start.min(next)
    };
    let total: u32 = (0..ranges.len()).map(weight).sum();
    let mut before = 0;
    let sums = (0..ranges.len() - 1).map(|at| {
        before += weight(at);
        (before.abs_diff(total - before), at + 1)
    });
    sums.min().map_or(1, |(_, at)| at)
}

/// An instruction, counted from the end of the program.
type Label = usize;

/// The program so far, last instruction first.
#[derive(Default)]
struct Backwards {
    code: Vec<Instruction>,
    returns: HashMap<Action, Label>,
}

impl Backwards {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.code.push(Instruction { code, jt, jf, k });
        self.code.len() - 1
    }

    /// The jump distance to `label` from an instruction written after `ahead` others.
    fn distance(&self, label: Label, ahead: usize) -> usize {
        self.code.len() + ahead - label - 1
    }

    fn ret(&mut self, action: Action) -> Label {
        match self.returns.get(&action) {
            Some(&label) if self.distance(label, 0) < 200 => label,
            _ => {
                let label = self.push(RETURN, 0, 0, action.0);
                self.returns.insert(action, label);
                label
            }
        }
    }

    /// `label`, or a place near that leads there, for a jump written after at most one more instruction.
    fn near(&mut self, label: Label) -> Label {
        if self.distance(label, 1) <= 255 {
            return label;
        }
        match self.code[label] {
            Instruction { code: RETURN, k, .. } => self.ret(Action(k)),
            _ => {
                let distance = u32::try_from(self.distance(label, 0)).expect("below the limit of 4096");
                self.push(JUMP, 0, 0, distance)
            }
        }
    }

    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.near(yes);
        let no = self.near(no);
        let distance = |label| u8::try_from(self.distance(label, 0)).expect("both labels are near");
        let (jt, jf) = (distance(yes), distance(no));
        self.push(code, jt, jf, k)
    }

    /// `load` and then `next`, which is moved behind it where it is elsewhere.
    fn load(&mut self, offset: u32, next: Label) -> Label {
        self.fall_through(next);
        self.push(LOAD, 0, 0, offset)
    }

    fn fall_through(&mut self, next: Label) {
        let distance = self.distance(next, 0);
        if distance > 0 {
            let k = u32::try_from(distance).expect("below the limit of 4096");
            self.push(JUMP, 0, 0, k);
        }
    }

    /// Takes the x32 bit off the number that is loaded, where it is set, and goes on with `next`.
    fn without_x32_bit(&mut self, next: Label) -> Label {
        let near = self.near(next);
        self.fall_through(near);
        let taken_off = self.push(AND, 0, 0, !X32_BIT);
        self.branch(JUMP_GREATER_OR_EQUAL, X32_BIT, taken_off, near)
    }

    /// The search in `ranges`, the last of which goes up to `end`.
    fn tree(&mut self, ranges: &[Range], end: u32) -> Label {
        if let [only] = ranges {
            return self.leaf(&only.leaf);
        }
        let (low, high) = ranges.split_at(middle(ranges, end));
        let yes = self.tree(high, end);
        let no = self.tree(low, high[0].start);
        self.branch(JUMP_GREATER_OR_EQUAL, high[0].start, yes, no)
    }

    fn leaf(&mut self, leaf: &Leaf) -> Label {
        match leaf {
            Leaf::Answer(action) => self.ret(*action),
            Leaf::Test { alternatives, default } => {
                let mut next = self.ret(*default);
                for (conditions, action) in alternatives.iter().rev() {
                    let no = next;
                    next = self.ret(*action);
                    for condition in conditions.iter().rev() {
                        next = self.condition(condition, next, no);
                    }
                }
                next
            }
        }
    }

    fn condition(&mut self, condition: &Condition, yes: Label, no: Label) -> Label {
        let word = Word::of(condition);
        match condition.operator {
            Operator::Equal => self.masked(word, u64::MAX, yes, no),
            Operator::NotEqual => self.masked(word, u64::MAX, no, yes),
            Operator::MaskedEqual(mask) => self.masked(word, mask, yes, no),
            Operator::Greater => self.above(word, JUMP_GREATER, yes, no),
            Operator::GreaterOrEqual => self.above(word, JUMP_GREATER_OR_EQUAL, yes, no),
            Operator::LessOrEqual => self.above(word, JUMP_GREATER, no, yes),
            Operator::Less => self.above(word, JUMP_GREATER_OR_EQUAL, no, yes),
        }
    }

    fn masked(&mut self, word: Word, mask: u64, yes: Label, no: Label) -> Label {
        let low = self.masked_half(word.offset, low(mask), low(word.value), yes, no);
        match word.wide {
            true => self.masked_half(word.offset + 4, high(mask), high(word.value), low, no),
            false => low,
        }
    }

    fn masked_half(&mut self, offset: u32, mask: u32, value: u32, yes: Label, no: Label) -> Label {
        if mask == 0 && value == 0 {
            return yes;
        }
        let test = match (mask, value) {
            (u32::MAX, _) => self.branch(JUMP_EQUAL, value, yes, no),
            (_, 0) => self.branch(JUMP_ANY_BIT, mask, no, yes),
            _ => {
                let test = self.branch(JUMP_EQUAL, value, yes, no);
                self.fall_through(test);
                self.push(AND, 0, 0, mask)
            }
        };
        self.load(offset, test)
    }

    /// Greater, or greater or equal: the halves compared from the high one on.
    fn above(&mut self, word: Word, code: u16, yes: Label, no: Label) -> Label {
        let test = self.branch(code, low(word.value), yes, no);
        let low = self.load(word.offset, test);
        if !word.wide {
            return low;
        }
        let equal = self.branch(JUMP_EQUAL, high(word.value), low, no);
        let test = self.branch(JUMP_GREATER, high(word.value), yes, equal);
        self.load(word.offset + 4, test)
    }
}

/// One argument and what it is compared with.
#[derive(Clone, Copy)]
struct Word {
    /// Of its low half; both processors are little-endian.
    offset: u32,
    value: u64,
    wide: bool,
}

impl Word {
    fn of(condition: &Condition) -> Word {
        let &Condition { argument, value, wide, .. } = condition;
        Word { offset: ARGUMENTS + 8 * u32::from(argument), value, wide }
    }
}

fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}
