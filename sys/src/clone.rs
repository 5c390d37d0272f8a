//! Starting a process with one clone3(2), sharing the caller's memory until it runs its own program.
//!
//! `CLONE_VM | CLONE_VFORK` copies no page tables, however large the caller is, and suspends the calling thread
//! until the child has called execve(2) or ended, so what the child wrote to the caller's memory tells how
//! far it came. The child runs on a stack of its own. Where sharing is a danger it gets a copy ([`Memory`]).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Namespaces and relations of the new process; see clone(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CloneFlags(u64);

impl CloneFlags {
    /// Child of the caller's parent.
    pub const PARENT: CloneFlags = CloneFlags(libc::CLONE_PARENT as u64);
    /// The descriptors are the caller's, not copies.
    pub const FILES: CloneFlags = CloneFlags(libc::CLONE_FILES as u64);
    /// New user namespace.
    pub const NEWUSER: CloneFlags = CloneFlags(libc::CLONE_NEWUSER as u64);
    /// New pid namespace.
    pub const NEWPID: CloneFlags = CloneFlags(libc::CLONE_NEWPID as u64);
    /// New mount namespace.
    pub const NEWNS: CloneFlags = CloneFlags(libc::CLONE_NEWNS as u64);
    /// New network namespace.
    pub const NEWNET: CloneFlags = CloneFlags(libc::CLONE_NEWNET as u64);
    /// New System V IPC and POSIX message queue namespace.
    pub const NEWIPC: CloneFlags = CloneFlags(libc::CLONE_NEWIPC as u64);
    /// New host name namespace.
    pub const NEWUTS: CloneFlags = CloneFlags(libc::CLONE_NEWUTS as u64);
    /// New cgroup namespace.
    pub const NEWCGROUP: CloneFlags = CloneFlags(libc::CLONE_NEWCGROUP as u64);

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: CloneFlags) -> CloneFlags {
        CloneFlags(self.0 | other.0)
    }

    /// The kernel's number for the set.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set of a number of the kernel's.
    pub const fn from_bits(bits: u64) -> CloneFlags {
        CloneFlags(bits)
    }
}

/// Memory for the child's stack, with an inaccessible page below it.
#[derive(Debug)]
pub struct Stack {
    base: *mut libc::c_void,
}

// SAFETY: the mapping belongs to this value alone and has no thread affinity.
unsafe impl Send for Stack {}

impl Stack {
    /// Usable bytes; the child walks prepared data and calls no deep code.
    const SIZE: usize = 128 * 1024;
    const GUARD: usize = 4096;

    /// Maps a stack.
    ///
    /// # Errors
    /// Those of mmap(2) and mprotect(2).
    pub fn new() -> io::Result<Stack> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        let size = Self::SIZE + Self::GUARD;
        // SAFETY: an anonymous mapping at an address the kernel chooses touches no existing memory.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Stack { base };
        // SAFETY: the first page of the mapping just made; nothing refers to it.
        match unsafe { libc::mprotect(base, Self::GUARD, libc::PROT_NONE) } {
            0 => Ok(stack),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; the child that used it has ended or replaced its memory.
        unsafe { libc::munmap(self.base, Self::SIZE + Self::GUARD) };
    }
}

/// What a new process sees of the caller's memory until it runs a program of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// All of it, and what it writes the caller finds.
    Shared,
    /// A copy, made page by page as it is written to. Whatever kills the process (the out-of-memory killer kills all who
    /// share the memory of the one that it chose) leaves the caller alone.
    Copied,
}

/// Numbers that stay shared with a process whose other memory is a copy; all are 0 at first.
#[derive(Debug)]
pub struct Numbers {
    page: *mut libc::c_void,
}

// SAFETY: the mapping belongs to this value alone, and all that is done with it is atomic.
unsafe impl Send for Numbers {}
// SAFETY: as above.
unsafe impl Sync for Numbers {}

impl Numbers {
    /// How many there are.
    pub const COUNT: usize = 2;
    const SIZE: usize = 4096;

    /// Maps a page.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new() -> io::Result<Numbers> {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: an anonymous mapping at an address the kernel chooses touches no existing memory.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), Self::SIZE, access, flags, -1, 0) };
        if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Numbers { page }) }
    }

    /// One of them.
    ///
    /// # Panics
    /// There are no more than [`Numbers::COUNT`].
    pub fn at(&self, index: usize) -> &AtomicU64 {
        assert!(index < Self::COUNT);
        // SAFETY: within the page, aligned, and accessed as an atomic by everyone.
        unsafe { &*self.page.cast::<AtomicU64>().add(index) }
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, which nobody refers to any more; another process has its own.
        unsafe { libc::munmap(self.page, Self::SIZE) };
    }
}

/// The process that [`clone_vfork`] made.
#[derive(Debug)]
pub struct Child {
    /// Process id in the caller's pid namespace.
    pub pid: u32,
    /// See pidfd_open(2).
    pub pidfd: OwnedFd,
}

#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Starts a process in `cgroup` (where given) that runs `child` and ends with its return value, unless
/// `child` replaces the program. Returns when the child has called execve(2) or has ended.
///
/// The child has its own descriptor table (unless [`CloneFlags::FILES`] says otherwise), default signal handlers and all
/// signals blocked. `child` must not allocate, lock or panic, whether or not it has a copy of the memory: another thread
/// may hold the allocator's lock. It may call this function with another stack. While the caller waits, the child's process
/// id stands in `pid`, so that another thread can end it.
///
/// # Errors
/// Those of clone3(2).
pub fn clone_vfork(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    memory: Memory,
    stack: &mut Stack,
    pid: Option<&AtomicU32>,
    child: &mut dyn FnMut() -> i32,
) -> io::Result<Child> {
    let shared = if memory == Memory::Shared { libc::CLONE_VM } else { 0 };
    let vfork = CloneFlags((shared | libc::CLONE_VFORK) as u64);
    clone(flags.and(vfork), cgroup, stack, pid, child)
}

/// Starts a process in `cgroup` with a copy of the caller's memory and descriptors and all signals blocked. It runs `child`
/// and ends with its return value. Does not wait.
///
/// For programs with a single thread: only there may `child` allocate and take locks, as nobody can have held one of them
/// when the memory was copied.
///
/// # Errors
/// Those of clone3(2).
pub fn clone_copy(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    stack: &mut Stack,
    child: &mut dyn FnMut() -> i32,
) -> io::Result<Child> {
    clone(flags, cgroup, stack, None, child)
}

fn clone(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    stack: &mut Stack,
    pid: Option<&AtomicU32>,
    child: &mut dyn FnMut() -> i32,
) -> io::Result<Child> {
    let mut pidfd: RawFd = -1;
    // CLONE_CLEAR_SIGHAND resets handlers, which belong to the caller's program.
    const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    // A child of the caller's parent inherits its exit signal; clone3 refuses one of its own.
    let exit_signal = if flags.0 & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 };
    let tell_pid = if pid.is_some() { libc::CLONE_PARENT_SETTID as u64 } else { 0 };
    let into_cgroup = if cgroup.is_some() { INTO_CGROUP } else { 0 };
    let mut args = CloneArgs {
        flags: flags.0 | libc::CLONE_PIDFD as u64 | CLEAR_SIGHAND | tell_pid | into_cgroup,
        pidfd: &raw mut pidfd as u64,
        parent_tid: pid.map_or(0, |pid| pid.as_ptr() as u64),
        exit_signal,
        stack: stack.base as u64 + Stack::GUARD as u64,
        stack_size: Stack::SIZE as u64,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        ..CloneArgs::default()
    };
    let blocked = BlockedSignals::all();
    let mut entry: &mut dyn FnMut() -> i32 = child;
    // SAFETY: `args` and `entry` outlive the call, the stack is large and exclusively borrowed, and the caller
    // is suspended while the child uses this frame's memory (CLONE_VFORK), or the child has a copy of all that.
    let pid = unsafe { raw_clone3(&mut args, run_child, (&raw mut entry).cast()) };
    drop(blocked);
    if pid < 0 {
        return Err(io::Error::from_raw_os_error(-pid as i32));
    }
    // SAFETY: CLONE_PIDFD stored a new descriptor that nothing else owns.
    Ok(Child { pid: pid as u32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// The flags of [`clone_sibling`]'s clone(2), for who has to know whether a seccomp filter lets it pass.
pub const SIBLING_FLAGS: u64 = libc::CLONE_PARENT as u64;

/// Copies the calling process as fork(2) does, except that the new one is a child of the caller's parent: true in the new
/// process, false in the old one. It is the old clone(2) because the default profiles of container engines answer ENOSYS to
/// clone3(2), whose flags a filter cannot see.
///
/// # Errors
/// Those of clone(2).
pub fn clone_sibling() -> io::Result<bool> {
    // SAFETY: without CLONE_VM the new process has a copy of this memory, as after fork(2), and goes on in the same frame of
    // its own copy of the stack.
    match unsafe { libc::syscall(libc::SYS_clone, SIBLING_FLAGS, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid == 0),
    }
}

/// Starts two processes, one after the other: the first runs `between` and, where that is true, starts the second as
/// [`clone_vfork`] does, with `flags` and `pid`, and ends. Descriptors of the first are the caller's. `None` where there is no
/// second one, or nobody knows whether there is, since something killed the first.
///
/// # Errors
/// Those of clone3(2).
pub fn clone_twice(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    memory: Memory,
    stacks: [&mut Stack; 2],
    pid: Option<&AtomicU32>,
    between: &mut dyn FnMut() -> bool,
    child: &mut dyn FnMut() -> i32,
) -> io::Result<Option<Child>> {
    let [first_stack, second_stack] = stacks;
    let told = Numbers::new()?;
    let mut first = || {
        if between() {
            // What the two share is the copy, if there is one.
            match clone_vfork(flags, None, Memory::Shared, second_stack, pid, child) {
                // The descriptor is the caller's from here on.
                Ok(Child { pid, pidfd }) => {
                    let pidfd = pidfd.into_raw_fd() as u64;
                    told.at(0).store(u64::from(pid) << 32 | pidfd, Ordering::Relaxed);
                }
                Err(error) => {
                    told.at(1).store(error.raw_os_error().unwrap_or(libc::EIO) as u64, Ordering::Relaxed);
                }
            }
        }
        0
    };
    let shared = CloneFlags::PARENT.and(CloneFlags::FILES);
    clone_vfork(shared, cgroup, memory, first_stack, None, &mut first)?;
    match (told.at(0).load(Ordering::Relaxed), told.at(1).load(Ordering::Relaxed)) {
        (0, 0) => Ok(None),
        (0, error) => Err(io::Error::from_raw_os_error(error as i32)),
        (made, _) => {
            // SAFETY: the first process, whose descriptor table is this one, left it open for nobody else.
            let pidfd = unsafe { OwnedFd::from_raw_fd(made as u32 as RawFd) };
            Ok(Some(Child { pid: (made >> 32) as u32, pidfd }))
        }
    }
}

/// First function of the child, on its own stack.
unsafe extern "C" fn run_child(entry: *mut libc::c_void) -> ! {
    // SAFETY: `clone_vfork` passed a pointer to its live trait object.
    let child = unsafe { &mut *entry.cast::<&mut dyn FnMut() -> i32>() };
    let code = child();
    // SAFETY: _exit(2) runs no handlers of the caller whose memory this is.
    unsafe { libc::_exit(code) }
}

#[cfg(target_arch = "x86_64")]
unsafe fn raw_clone3(
    args: &mut CloneArgs,
    entry: unsafe extern "C" fn(*mut libc::c_void) -> !,
    argument: *mut libc::c_void,
) -> i64 {
    let result: i64;
    // SAFETY: the child leaves the syscall with rsp at the new stack's 16-byte aligned top and never returns
    // to this frame; the parent sees an ordinary syscall (rcx and r11 clobbered).
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") std::ptr::from_mut(args),
            in("rsi") size_of::<CloneArgs>(),
            in("r12") entry,
            in("r13") argument,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn raw_clone3(
    args: &mut CloneArgs,
    entry: unsafe extern "C" fn(*mut libc::c_void) -> !,
    argument: *mut libc::c_void,
) -> i64 {
    let result: i64;
    // SAFETY: the child leaves the syscall with sp at the new stack's top and never returns to this frame.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x10",
            "blr x9",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") std::ptr::from_mut(args) as i64 => result,
            in("x1") size_of::<CloneArgs>(),
            in("x9") entry,
            in("x10") argument,
        );
    }
    result
}

/// All signals blocked for this thread until dropped: a handler must not run on the child's shared memory.
struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    fn all() -> BlockedSignals {
        // SAFETY: both sets are plain memory that the calls fill; pthread_sigmask cannot fail with SIG_SETMASK.
        unsafe {
            let mut all = std::mem::zeroed();
            let mut before = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            BlockedSignals(before)
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: restores the mask that `all` saved.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// Null-terminated arguments or environment for [`execve`], made before the clone.
#[derive(Debug)]
pub struct StringArray {
    pointers: Vec<*const libc::c_char>,
    strings: Vec<std::ffi::CString>,
}

// SAFETY: the pointers refer to the strings' heap memory, which moves with the value and is never changed.
unsafe impl Send for StringArray {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for StringArray {}

impl StringArray {
    /// Takes the strings over.
    pub fn new(strings: Vec<std::ffi::CString>) -> StringArray {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        StringArray { pointers, strings }
    }

    /// The strings.
    pub fn strings(&self) -> &[std::ffi::CString] {
        &self.strings
    }
}

/// Replaces the program of the calling process; returns only the error. See execve(2).
pub fn execve(path: &std::ffi::CStr, arguments: &StringArray, environment: &StringArray) -> io::Error {
    // SAFETY: all three are null-terminated and live; on success this program's memory is gone.
    unsafe { libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// New namespaces for the calling thread; see unshare(2).
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN in its user namespace.
pub fn unshare_namespaces(flags: CloneFlags) -> io::Result<()> {
    const NAMESPACES: i32 = libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWPID;
    // SAFETY: of what unshare(2) can do only namespaces are asked for; memory and descriptors stay as they are.
    match unsafe { libc::unshare(flags.0 as i32 & NAMESPACES) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Unblocks every signal of the calling thread, as a new program expects.
pub fn unblock_signals() {
    // SAFETY: an empty set on this stack.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Which signals this process ignores, bit 0 for signal 1: SIGPIPE, which every Rust program ignores, and what its
/// parents ignored. Handlers end with execve(2), but what is ignored stays so in the new program. The kernel is asked
/// once: a program does not come to ignore more later.
pub fn ignored_signals() -> u64 {
    static IGNORED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let ignored = |signal: &libc::c_int| action(*signal, None)[0] == SIG_IGN;
    *IGNORED.get_or_init(|| (1..=SIGNALS).filter(ignored).map(|signal| 1 << (signal - 1)).sum())
}

/// Gives the signals of a set like [`ignored_signals`] their default effect.
pub fn default_signals(set: u64) {
    for signal in (1..=SIGNALS).filter(|signal| set & (1 << (signal - 1)) != 0) {
        action(signal, Some([0; 4]));
    }
}

/// The kernel's own structure, see rt_sigaction(2): its first word is the handler, and zero is SIG_DFL. libc's call refuses
/// the signals that it uses itself.
type Action = [u64; 4];
const SIG_IGN: u64 = 1;

/// What a signal does now; then it does `new`.
fn action(signal: libc::c_int, new: Option<Action>) -> Action {
    let mut old = [0; 4];
    let new = new.as_ref().map_or(std::ptr::null(), |action| action.as_ptr());
    // SAFETY: reads and writes four words. SIGKILL and SIGSTOP are refused, and have no other effect anyway.
    unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, new, old.as_mut_ptr(), size_of::<u64>());
    }
    old
}

/// Signals of the kernel, see signal(7).
const SIGNALS: libc::c_int = 64;

/// Closes every descriptor from `first` on, see close_range(2). Only for a process of [`clone_vfork`] with a descriptor table
/// of its own, right before its execve(2): what is only marked to be closed by that can still be reached through
/// /proc/self/fd by the path of the program (CVE-2024-21626).
pub fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: no code that owns one of these descriptors runs in this process any more.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI32, Ordering};

    fn wait(child: &Child) -> i32 {
        let mut status = 0;
        // SAFETY: waits for this test's own child.
        let pid = unsafe { libc::waitpid(child.pid as i32, &mut status, 0) };
        assert_eq!(pid, child.pid as i32);
        libc::WEXITSTATUS(status)
    }

    #[test]
    fn the_child_shares_memory_and_its_code_is_told() {
        let seen = AtomicI32::new(0);
        let mut stack = Stack::new().unwrap();
        let child = clone_vfork(CloneFlags::default(), None, Memory::Shared, &mut stack, None, &mut || {
            seen.store(7, Ordering::Relaxed);
            3
        })
        .unwrap();
        assert_eq!(seen.load(Ordering::Relaxed), 7);
        assert_eq!(wait(&child), 3);
    }

    #[test]
    fn a_child_with_a_copy_changes_only_what_stays_shared() {
        let (seen, numbers) = (AtomicI32::new(0), Numbers::new().unwrap());
        let mut stack = Stack::new().unwrap();
        let child = clone_vfork(CloneFlags::default(), None, Memory::Copied, &mut stack, None, &mut || {
            seen.store(7, Ordering::Relaxed);
            numbers.at(1).store(8, Ordering::Relaxed);
            4
        })
        .unwrap();
        assert_eq!((seen.load(Ordering::Relaxed), numbers.at(1).load(Ordering::Relaxed)), (0, 8));
        assert_eq!(wait(&child), 4);
    }

    #[test]
    fn of_two_the_second_is_told_whatever_they_share() {
        for memory in [Memory::Shared, Memory::Copied] {
            let numbers = Numbers::new().unwrap();
            let mut stacks = [Stack::new().unwrap(), Stack::new().unwrap()];
            let mut twice = |goes_on: bool| {
                let [first, second] = &mut stacks;
                let mut child = || {
                    numbers.at(0).store(9, Ordering::Relaxed);
                    0
                };
                let none = CloneFlags::default();
                clone_twice(none, None, memory, [first, second], None, &mut || goes_on, &mut child).unwrap()
            };
            assert!(twice(false).is_none());
            let child = twice(true).unwrap();
            assert_eq!(numbers.at(0).load(Ordering::Relaxed), 9);
            // It was a child of a child, and its end is somebody else's to see.
            assert!(child.pid > 0 && child.pidfd.as_raw_fd() > 2);
        }
    }

    #[test]
    fn the_pid_is_known_while_the_caller_waits() {
        let (pid, seen) = (AtomicU32::new(0), AtomicI32::new(0));
        let mut stack = Stack::new().unwrap();
        let child =
            clone_vfork(CloneFlags::default(), None, Memory::Shared, &mut stack, Some(&pid), &mut || {
                seen.store(pid.load(Ordering::Relaxed) as i32, Ordering::Relaxed);
                0
            })
            .unwrap();
        assert_eq!((pid.into_inner(), seen.into_inner()), (child.pid, child.pid as i32));
        wait(&child);
    }

    #[test]
    fn a_copy_runs_beside_the_caller_and_may_have_a_sibling() {
        let numbers = Numbers::new().unwrap();
        let mut stack = Stack::new().unwrap();
        let child = clone_copy(CloneFlags::default(), None, &mut stack, &mut || {
            if clone_sibling().unwrap() {
                numbers.at(0).store(u64::from(std::process::id()), Ordering::Relaxed);
                return 6;
            }
            5
        })
        .unwrap();
        assert_eq!(wait(&child), 5);
        let sibling = loop {
            match numbers.at(0).load(Ordering::Relaxed) {
                0 => std::thread::yield_now(),
                pid => break pid as u32,
            }
        };
        // The sibling is this process's own child, too.
        assert_eq!(wait(&Child { pid: sibling, pidfd: child.pidfd }), 6);
    }

    #[test]
    fn the_child_becomes_another_program() {
        let mut stack = Stack::new().unwrap();
        let arguments = StringArray::new(vec![c"sh".into(), c"-c".into(), c"exit 42".into()]);
        let environment = StringArray::new(vec![]);
        let child = clone_vfork(CloneFlags::default(), None, Memory::Shared, &mut stack, None, &mut || {
            unblock_signals();
            execve(c"/bin/sh", &arguments, &environment).raw_os_error().unwrap_or(1)
        })
        .unwrap();
        assert_eq!(wait(&child), 42);
    }
}
