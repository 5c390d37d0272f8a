//! The ways a process may enter the kernel: one table of syscall numbers each.
//!
//! On x86-64 three tables are alive at once (native, i386, x32), on arm64 two; the kernel tells i386 by its audit
//! architecture and x32 by a bit in the number.

use std::str::FromStr;

/// `AUDIT_ARCH_*` of linux/audit.h.
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
const AUDIT_ARCH_ARM: u32 = 0x4000_0028;

/// `__X32_SYSCALL_BIT` of asm/unistd.h.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// First number of [`X32_OWN`]. The native table has nothing there or above.
pub(super) const X32_OWN_FIRST: u32 = 512;

/// What x32 numbers in its own way (arch/x86/entry/syscalls/syscall_64.tbl, rows of the abi `x32`), from 512 on.
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// What only the native table has (rows of the abi `64` without an x32 twin).
const X86_64_ONLY: [&str; 13] = [
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
    "uretprobe",
    "uprobe",
];

/// Private calls of 32-bit Arm (arch/arm/include/uapi/asm/unistd.h).
const ARM_PRIVATE: [(&str, u32); 6] = [
    ("breakpoint", 0xf_0001),
    ("cacheflush", 0xf_0002),
    ("usr26", 0xf_0003),
    ("usr32", 0xf_0004),
    ("set_tls", 0xf_0005),
    ("get_tls", 0xf_0006),
];

/// One table of syscall numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Abi {
    /// Native x86-64.
    X86_64,
    /// 32-bit x86.
    X86,
    /// x86-64 with 32-bit pointers.
    X32,
    /// Native arm64.
    Aarch64,
    /// 32-bit Arm, EABI.
    Arm,
}

impl Abi {
    /// The table of the processor this was built for.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Abi = Abi::X86_64;
    /// The table of the processor this was built for.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Abi = Abi::Aarch64;

    /// The table with a profile's name, for example `SCMP_ARCH_X86`; `None` in `Some` for one that no processor
    /// we run on has.
    pub(super) fn of_profile(name: &str) -> Option<Option<Abi>> {
        Some(match name {
            "SCMP_ARCH_X86_64" => Some(Abi::X86_64),
            "SCMP_ARCH_X86" => Some(Abi::X86),
            "SCMP_ARCH_X32" => Some(Abi::X32),
            "SCMP_ARCH_AARCH64" => Some(Abi::Aarch64),
            "SCMP_ARCH_ARM" => Some(Abi::Arm),
            "SCMP_ARCH_MIPS"
            | "SCMP_ARCH_MIPS64"
            | "SCMP_ARCH_MIPS64N32"
            | "SCMP_ARCH_MIPSEL"
            | "SCMP_ARCH_MIPSEL64"
            | "SCMP_ARCH_MIPSEL64N32"
            | "SCMP_ARCH_PPC"
            | "SCMP_ARCH_PPC64"
            | "SCMP_ARCH_PPC64LE"
            | "SCMP_ARCH_S390"
            | "SCMP_ARCH_S390X"
            | "SCMP_ARCH_PARISC"
            | "SCMP_ARCH_PARISC64"
            | "SCMP_ARCH_RISCV64"
            | "SCMP_ARCH_LOONGARCH64"
            | "SCMP_ARCH_M68K"
            | "SCMP_ARCH_SH"
            | "SCMP_ARCH_SHEB" => None,
            _ => return None,
        })
    }

    /// The name in a profile's `includes` and `excludes`.
    pub(super) fn go_name(self) -> &'static str {
        match self {
            Abi::X86_64 => "amd64",
            Abi::X86 => "386",
            Abi::X32 => "x32",
            Abi::Aarch64 => "arm64",
            Abi::Arm => "arm",
        }
    }

    /// Whether a process of the native table may also enter by this one.
    pub(super) fn runs_on(self, native: Abi) -> bool {
        match native {
            Abi::X86_64 => matches!(self, Abi::X86_64 | Abi::X86 | Abi::X32),
            Abi::Aarch64 => matches!(self, Abi::Aarch64 | Abi::Arm),
            other => self == other,
        }
    }

    /// `seccomp_data.arch` of calls by this table.
    pub(super) fn audit(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => AUDIT_ARCH_X86_64,
            Abi::X86 => AUDIT_ARCH_I386,
            Abi::Aarch64 => AUDIT_ARCH_AARCH64,
            Abi::Arm => AUDIT_ARCH_ARM,
        }
    }

    /// Whether the arguments of this call are compared with all their 64 bits.
    ///
    /// Not where registers have 32, and not where the kernel itself looks at the low half only: a rule that allows
    /// `socket` for families above 40 would let `socket(1 << 32 | 40)` pass, which is family 40 to the kernel.
    pub(super) fn wide(self, name: &str) -> bool {
        const INTEGERS: [&str; 3] = ["socket", "socketpair", "personality"];
        matches!(self, Abi::X86_64 | Abi::X32 | Abi::Aarch64) && !INTEGERS.contains(&name)
    }

    /// The number of a syscall; `None` where this table lacks it.
    #[must_use]
    pub fn number(self, name: &str) -> Option<u32> {
        match self {
            Abi::X86_64 => syscalls::x86_64::Sysno::from_str(name).ok().map(|number| number as u32),
            Abi::X86 => syscalls::x86::Sysno::from_str(name).ok().map(|number| number as u32),
            Abi::X32 => x32_number(name),
            Abi::Aarch64 => syscalls::aarch64::Sysno::from_str(name).ok().map(|number| number as u32),
            Abi::Arm => arm_number(name),
        }
    }

    /// The call that carries `name` as the value of its first argument, and that value: i386 once had one
    /// syscall for all of sockets and one for all of System V IPC (ipc/syscall.c, net/socket.c).
    pub(super) fn carrier(self, name: &str) -> Option<(&'static str, u64)> {
        if self != Abi::X86 {
            return None;
        }
        let find = |list: &[&str]| list.iter().position(|known| *known == name).map(|at| at as u64 + 1);
        let socket = find(&SOCKETCALL).map(|value| ("socketcall", value));
        socket.or_else(|| IPC.iter().find(|(known, _)| *known == name).map(|(_, value)| ("ipc", *value)))
    }
}

/// By value of the first argument, from 1 (linux/net.h).
const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// Value of the first argument (linux/ipc.h).
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

fn x32_number(name: &str) -> Option<u32> {
    if let Some(own) = X32_OWN.iter().position(|known| *known == name) {
        return u32::try_from(own).ok().map(|own| (X32_OWN_FIRST + own) | X32_BIT);
    }
    if X86_64_ONLY.contains(&name) {
        return None;
    }
    Abi::X86_64.number(name).map(|number| number | X32_BIT)
}

fn arm_number(name: &str) -> Option<u32> {
    let private = ARM_PRIVATE.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    // The kernel's table has one call under libseccomp's two names.
    let name = if name == "sync_file_range2" { "arm_sync_file_range" } else { name };
    private.or_else(|| syscalls::arm::Sysno::from_str(name).ok().map(|number| number as u32))
}
