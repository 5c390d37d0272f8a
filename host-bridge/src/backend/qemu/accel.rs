//! Which accelerator works here.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;

/// How QEMU runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The processor does.
    Kvm,
    /// QEMU translates them.
    Tcg(Translation),
}

/// Who translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Translation {
    /// A thread for each of the guest's processors.
    Parallel,
    /// One thread, all processors in turn.
    InTurn,
}

/// The first QEMU that keeps a page of code unchanged while it translates it. In those before, one processor can
/// translate the breakpoint that the guest's kernel holds for a moment where another one patches it, and run into it
/// when nobody expects it any more: one boot in fifty ends in "Oops: int3" (QEMU's commit deba78709ae8).
const TRANSLATES_WHAT_STANDS_STILL: (u32, u32) = (8, 1);

impl Accel {
    /// KVM where the processor has it *and* the device can be used: a /dev/kvm without the processor's flag (a
    /// nested machine) opens, makes machines, and hangs their guests.
    pub fn detect(program: &Path) -> Accel {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let usable = || OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        if has_virtualization(&cpuinfo) && usable() {
            return Accel::Kvm;
        }
        let said = Command::new(program).arg("--version").output().map(|output| output.stdout);
        Accel::Tcg(Translation::by_version(&String::from_utf8_lossy(&said.unwrap_or_default())))
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Accel::Kvm => "kvm",
            Accel::Tcg(_) => "tcg",
        }
    }
}

impl Translation {
    /// A QEMU that does not tell its version is taken for an old one.
    fn by_version(said: &str) -> Translation {
        match version(said).is_some_and(|version| version >= TRANSLATES_WHAT_STANDS_STILL) {
            true => Translation::Parallel,
            false => Translation::InTurn,
        }
    }
}

/// From `QEMU emulator version 7.2.22 (Debian …)`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.lines().next()?.split_once(" version ")?.1.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn has_virtualization(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_ascii_whitespace().any(|flag| flag == "vmx" || flag == "svm")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_translation(said: &str, want: Translation) {
        assert_eq!(Translation::by_version(said), want, "{said:?}");
    }

    #[test]
    fn old_translators_have_one_thread() {
        check_translation(
            "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright",
            Translation::InTurn,
        );
        check_translation("QEMU emulator version 8.0.50\n", Translation::InTurn);
        check_translation("QEMU emulator version 8.1.0", Translation::Parallel);
        check_translation("QEMU emulator version 10.0.2 (x)", Translation::Parallel);
        check_translation("", Translation::InTurn);
    }

    #[test]
    fn only_the_processors_own_flag_counts() {
        assert!(has_virtualization("flags\t\t: fpu vme svm sse"));
        assert!(has_virtualization("model : x\nflags : vmx"));
        assert!(!has_virtualization("flags : fpu svm_lock\nbugs : vmx"));
        assert!(!has_virtualization(""));
    }
}
