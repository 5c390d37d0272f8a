//! What a filter answers to a call: an interpreter of classic BPF as seccomp(2) uses it.

use sys::seccomp::Instruction;

use super::Filter;

/// `struct seccomp_data` without the instruction pointer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) audit: u32,
    pub(super) arguments: [u64; 6],
}

impl Call {
    /// The word that a load at `offset` reads; `None` outside of what programs of ours look at.
    fn word(&self, offset: u32) -> Option<u32> {
        match offset {
            0 => Some(self.number),
            4 => Some(self.audit),
            16..64 => {
                let argument = self.arguments[((offset - 16) / 8) as usize];
                let low = offset.is_multiple_of(8);
                Some(if low { argument as u32 } else { (argument >> 32) as u32 })
            }
            _ => None,
        }
    }
}

/// The answer and how many instructions it took; `None` where the program is not one of ours.
pub(super) fn run(program: &[Instruction], call: &Call) -> Option<(u32, usize)> {
    let (mut at, mut accumulator, mut steps) = (0, 0, 0);
    while let Some(Instruction { code, jt, jf, k }) = program.get(at).copied() {
        at += 1;
        steps += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = call.word(k)?,
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => jump(accumulator == k),
            0x25 => jump(accumulator > k),
            0x35 => jump(accumulator >= k),
            0x45 => jump(accumulator & k != 0),
            0x06 => return Some((k, steps)),
            _ => return None,
        }
    }
    None
}

/// `SECCOMP_RET_ALLOW` and `SECCOMP_RET_LOG`, which lets a call pass, too.
const PASSES: [u32; 2] = [0x7fff_0000, 0x7ffc_0000];

impl Filter {
    /// Whether the native system call `name`, whose first argument is `first` and whose others are 0, passes.
    pub(crate) fn lets_pass(&self, name: &str, first: u64) -> bool {
        let native = super::Abi::NATIVE;
        let Some(number) = native.number(name) else { return false };
        let call = Call { number, audit: native.audit(), arguments: [first, 0, 0, 0, 0, 0] };
        run(&self.instructions, &call).is_some_and(|(answer, _)| PASSES.contains(&(answer & 0xffff_0000)))
    }
}
