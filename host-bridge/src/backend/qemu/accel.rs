//! Which accelerator works here.

use std::fs::OpenOptions;

/// How QEMU runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The processor does.
    Kvm,
    /// QEMU translates them.
    Tcg,
}

impl Accel {
    /// KVM where the processor has it *and* the device can be used: a /dev/kvm without the processor's flag (a
    /// nested machine) opens, makes machines, and hangs their guests.
    pub fn detect() -> Accel {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let usable = || OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        if has_virtualization(&cpuinfo) && usable() { Accel::Kvm } else { Accel::Tcg }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
        }
    }
}

fn has_virtualization(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_ascii_whitespace().any(|flag| flag == "vmx" || flag == "svm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_processors_own_flag_counts() {
        assert!(has_virtualization("flags\t\t: fpu vme svm sse"));
        assert!(has_virtualization("model : x\nflags : vmx"));
        assert!(!has_virtualization("flags : fpu svm_lock\nbugs : vmx"));
        assert!(!has_virtualization(""));
    }
}
