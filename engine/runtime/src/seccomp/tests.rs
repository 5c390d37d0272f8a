use proptest::prelude::*;

use super::evaluate::Call;
use super::profile::{Action, ProfileError};
use super::reference::{Reading, doors, unassigned};
use super::*;
use crate::capabilities::Capability;

const ERRNO: u32 = 0x0005_0000;
const ALLOW: u32 = 0x7fff_0000;
const PERMISSION: u32 = ERRNO | 1;
const NO_CALL: u32 = ERRNO | 38;

const VALUES: [u64; 16] = [
    0,
    1,
    8,
    37,
    38,
    39,
    40,
    41,
    0x20000,
    0x20008,
    0x7e02_0000,
    0x0200_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0008,
    u64::MAX,
];

fn host(native: Abi, bounding: Capabilities) -> Host {
    Host { native, kernel: KernelVersion(6, 12), bounding }
}

fn x86_64(bounding: Capabilities) -> Vec<Instruction> {
    builtin_profile().filter(&host(Abi::X86_64, bounding)).unwrap().instructions
}

fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    super::evaluate::run(program, call).expect("the program is one of ours")
}

fn ask(program: &[Instruction], abi: Abi, name: &str, first: u64) -> u32 {
    let number = abi.number(name).unwrap();
    run(program, &Call { number, audit: abi.audit(), arguments: [first, 0, 0, 0, 0, 0] }).0
}

/// Program and slow reading agree on every door, number and argument value.
fn agree(profile: &Profile, host: &Host, listed: &[Abi], values: &[u64]) {
    let program = profile.filter(host).unwrap().instructions;
    assert!(program.iter().rev().take(1).all(|last| last.code == 6), "ends by a return");
    for (abi, numbers) in doors(host.native) {
        let reading = Reading::new(profile, host, abi);
        let both = listed.contains(&Abi::X32);
        for number in numbers.into_iter().filter(|number| !both || !unassigned(abi, *number)) {
            for (at, value) in values.iter().enumerate() {
                let mut arguments = [*value; 6];
                arguments[at % 6] = value.rotate_left(7);
                let call = Call { number, audit: abi.audit(), arguments };
                let expected = match listed.contains(&abi) {
                    true => reading.answer(&call),
                    false if number == u32::MAX && abi == Abi::X32 => profile.default,
                    false => Action::KILL_THREAD,
                };
                let got = run(&program, &call).0;
                assert_eq!(got, expected.0, "{abi:?} {call:x?} {host:?}");
            }
        }
    }
    let foreign = Call { number: 0, audit: 0x8000_0016, arguments: [0; 6] };
    assert_eq!(run(&program, &foreign).0, 0);
}

#[test]
fn the_builtin_profile_says_what_docker_says() {
    let program = x86_64(CONTAINER_DEFAULT);
    for (name, first, expected) in [
        ("read", 0, ALLOW),
        ("keyctl", 0, PERMISSION),
        ("io_uring_setup", 0, PERMISSION),
        ("mount", 0, PERMISSION),
        ("reboot", 0, PERMISSION),
        ("clone3", 0, NO_CALL),
        ("file_setattr", 0, NO_CALL),
        ("ptrace", 0, ALLOW),
        ("chroot", 0, ALLOW),
        ("clone", 17, ALLOW),
        ("clone", 0x1000_0000, PERMISSION),
        ("clone", 0x0002_0000, PERMISSION),
        ("socket", 2, ALLOW),
        ("socket", 38, PERMISSION),
        ("socket", 39, ALLOW),
        ("socket", 40, PERMISSION),
        ("socket", 41, ALLOW),
        ("socket", 0x1_0000_0028, PERMISSION),
        ("socket", 0x1_0000_0002, ALLOW),
        ("personality", 0xffff_ffff, ALLOW),
        ("personality", 0x0040_0000, PERMISSION),
    ] {
        assert_eq!(ask(&program, Abi::X86_64, name, first), expected, "{name} {first:#x}");
    }
    let filter = builtin(CONTAINER_DEFAULT);
    assert!(filter.lets_pass("read", 0) && filter.lets_pass("clone", sys::clone::SIBLING_FLAGS));
    assert!(!filter.lets_pass("clone3", 0) && !filter.lets_pass("no_such_call", 0));
    assert_eq!(ask(&program, Abi::X86, "read", 0), ALLOW);
    assert_eq!(ask(&program, Abi::X86, "keyctl", 0), PERMISSION);
    assert_eq!(ask(&program, Abi::X32, "ioctl", 0), ALLOW);
    let program = x86_64(CONTAINER_DEFAULT.with(Capability::SYS_ADMIN));
    for name in ["clone3", "mount", "setns", "bpf"] {
        assert_eq!(ask(&program, Abi::X86_64, name, u64::MAX), ALLOW, "{name}");
    }
}

#[test]
fn the_builtin_profile_agrees_with_its_slow_reading() {
    let sets = [CONTAINER_DEFAULT, Capabilities::NONE, Capabilities::KNOWN];
    for bounding in sets {
        agree(
            builtin_profile(),
            &host(Abi::X86_64, bounding),
            &[Abi::X86_64, Abi::X86, Abi::X32],
            &VALUES[2..14],
        );
        agree(builtin_profile(), &host(Abi::Aarch64, bounding), &[Abi::Aarch64, Abi::Arm], &VALUES[2..10]);
    }
    let old = Host { kernel: KernelVersion(4, 7), ..host(Abi::X86_64, CONTAINER_DEFAULT) };
    agree(builtin_profile(), &old, &[Abi::X86_64, Abi::X86, Abi::X32], &[0]);
}

#[test]
fn most_names_of_the_builtin_profile_are_known() {
    let tables = [Abi::X86_64, Abi::X86, Abi::Aarch64, Abi::Arm];
    let mut unknown: Vec<&str> =
        builtin_profile().rules.iter().flat_map(|rule| &rule.names).map(String::as_str).collect();
    unknown.retain(|name| tables.iter().all(|table| table.number(name).is_none()));
    unknown.sort_unstable();
    unknown.dedup();
    let other_processors = [
        "riscv_flush_icache",
        "riscv_hwprobe",
        "s390_pci_mmio_read",
        "s390_pci_mmio_write",
        "s390_runtime_instr",
        "swapcontext",
    ];
    assert_eq!(unknown, other_processors);
}

#[test]
fn programs_are_short() {
    for (bounding, most) in [(CONTAINER_DEFAULT, 260), (Capabilities::KNOWN, 190)] {
        let program = x86_64(bounding);
        let mut longest = 0;
        for (abi, numbers) in doors(Abi::X86_64) {
            for number in numbers {
                let call = Call { number, audit: abi.audit(), arguments: [u64::MAX; 6] };
                longest = longest.max(run(&program, &call).1);
            }
        }
        println!("{} instructions, longest path {longest}", program.len());
        assert!(program.len() <= most, "{} instructions", program.len());
        assert!(longest <= 32, "{longest} steps");
    }
}

#[test]
fn the_builtin_filter_is_made_once() {
    assert!(Arc::ptr_eq(&builtin(CONTAINER_DEFAULT), &builtin(CONTAINER_DEFAULT)));
    let more = CONTAINER_DEFAULT.with(Capability::SYS_ADMIN);
    assert!(Arc::ptr_eq(&builtin(more), &builtin(more)));
    assert_eq!(builtin(more).flags, 4);
}

fn refused(text: &str, expected: &str) {
    let error = Profile::parse(text).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(expected), "{text}: {error}");
    assert!(!error.contains('\n'));
}

#[test]
fn wrong_profiles_are_refused_with_the_reason() {
    refused("no", "decoding seccomp profile failed: expected");
    refused("[]", "decoding seccomp profile failed");
    refused("{}", "no defaultAction");
    refused(r#"{"defaultAction":"SCMP_ACT_X"}"#, r#"unknown action "SCMP_ACT_X""#);
    let with = |rest: &str| format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW",{rest}}}"#);
    refused(&with(r#""architectures":["SCMP_ARCH_Z80"]"#), r#"unknown architecture "SCMP_ARCH_Z80""#);
    refused(
        &with(r#""architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]"#),
        "both 'architectures' and 'archMap'",
    );
    let rule = |rest: &str| with(&format!(r#""syscalls":[{{"action":"SCMP_ACT_ALLOW",{rest}}}]"#));
    refused(&rule(r#""names":[]"#), "entry 1 of 'syscalls' has no name");
    refused(&rule(r#""name":"a","names":["b"]"#), "both 'name' and 'names'");
    refused(&rule(r#""names":["a"],"args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]"#), "argument index 6");
    refused(&rule(r#""names":["a"],"args":[{"index":0,"value":0,"op":"EQ"}]"#), r#"unknown operator "EQ""#);
    refused(&rule(r#""names":["a"],"includes":{"minKernel":"six"}"#), r#"invalid minKernel "six""#);
    refused(&with(r#""flags":["X"]"#), r#"unknown flag "X""#);
    refused(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY");
    refused(&with(r#""listenerPath":"/x""#), "SCMP_ACT_NOTIFY");
}

#[test]
fn only_the_native_table_is_let_in_by_default() {
    let profile = Profile::parse(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap();
    let program = profile.filter(&host(Abi::X86_64, Capabilities::NONE)).unwrap().instructions;
    assert_eq!(ask(&program, Abi::X86_64, "read", 0), ALLOW);
    assert_eq!(ask(&program, Abi::X86, "read", 0), 0);
    assert_eq!(ask(&program, Abi::X32, "read", 0), 0);
}

fn operators() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "SCMP_CMP_EQ",
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_GT",
        "SCMP_CMP_GE",
        "SCMP_CMP_MASKED_EQ",
    ])
}

fn arguments() -> impl Strategy<Value = serde_json::Value> {
    let value = prop::sample::select(VALUES.to_vec());
    let argument = (0..6u32, value.clone(), value, operators()).prop_map(|(index, value, two, op)| {
        serde_json::json!({"index": index, "value": value, "valueTwo": two, "op": op})
    });
    prop::collection::vec(argument, 0..3).prop_map(serde_json::Value::from)
}

fn rules() -> impl Strategy<Value = serde_json::Value> {
    let names =
        ["read", "write", "socket", "clone", "personality", "bind", "msgget", "openat2", "x", "ioctl"];
    let names = prop::collection::vec(prop::sample::select(names.to_vec()), 1..4);
    let actions = ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_LOG", "SCMP_ACT_KILL_PROCESS"];
    let action = prop::sample::select(actions.to_vec());
    let caps = prop::sample::select(vec![vec![], vec!["CAP_KILL"], vec!["CAP_SYS_ADMIN"]]);
    (names, action, 1..40u32, arguments(), caps).prop_map(|(names, action, errno, args, caps)| {
        serde_json::json!({"names": names, "action": action, "errnoRet": errno, "args": args,
                           "includes": {"caps": caps}})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_profile_agrees_with_its_slow_reading(
        default in prop::sample::select(vec!["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_TRAP"]),
        architectures in prop::sample::subsequence(vec!["SCMP_ARCH_X86", "SCMP_ARCH_X32"], 0..3),
        rules in prop::collection::vec(rules(), 0..12),
        bits in any::<u64>(),
        values in prop::sample::subsequence(VALUES.to_vec(), 3),
    ) {
        let text = serde_json::json!({
            "defaultAction": default, "architectures": architectures, "syscalls": rules
        });
        let profile = Profile::parse(&text.to_string()).unwrap();
        let mut listed = vec![Abi::X86_64];
        listed.extend(architectures.iter().map(|name| if *name == "SCMP_ARCH_X86" { Abi::X86 } else { Abi::X32 }));
        agree(&profile, &host(Abi::X86_64, Capabilities::from_bits(bits)), &listed, &values);
    }
}

#[test]
fn errors_name_the_limit() {
    let error = ProfileError::TooLong { instructions: 5000 }.to_string();
    assert!(error.contains("5000") && error.contains("4096"));
}

/// One comparison after the other, as a simple compiler would write it.
fn chain(profile: &Profile) -> Vec<Instruction> {
    let instruction = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let mut code = vec![instruction(0x20, 0, 0, 0)];
    let rules = profile.rules.iter().filter(|rule| rule.arguments.is_empty());
    for number in rules.flat_map(|rule| &rule.names).filter_map(|name| Abi::NATIVE.number(name)) {
        code.extend([instruction(0x15, 0, 1, number), instruction(0x06, 0, 0, ALLOW)]);
    }
    code.push(instruction(0x06, 0, 0, PERMISSION));
    code
}

/// Microseconds to attach `program`, the median of some threads that each attach it once.
fn attach_micros(program: &[Instruction]) -> u128 {
    let attach = || {
        let begun = std::time::Instant::now();
        sys::seccomp::install(program, 4).unwrap();
        begun.elapsed().as_micros()
    };
    let mut times: Vec<u128> =
        (0..41).map(|_| std::thread::scope(|scope| scope.spawn(attach).join().unwrap())).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn attaching_is_quick() {
    if !rustix::process::geteuid().is_root() {
        skip::skip!("needs root");
    }
    let program = &builtin(CONTAINER_DEFAULT).instructions;
    let chain = chain(builtin_profile());
    println!("attach: {} instructions as a tree {} us", program.len(), attach_micros(program));
    println!("attach: {} instructions as a chain {} us", chain.len(), attach_micros(&chain));
}

#[test]
fn the_kernel_obeys() {
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketType, socket};
    if !rustix::process::geteuid().is_root() {
        skip::skip!("needs root");
    }
    // A filter holds for the thread that installs it, so a thread is enough of a child.
    let tried = std::thread::spawn(|| {
        let filter = builtin(CONTAINER_DEFAULT);
        sys::seccomp::install(&filter.instructions, filter.flags).unwrap();
        let hostname = rustix::system::sethostname(b"never").unwrap_err();
        let packet = |family| socket(AddressFamily::from_raw(family), SocketType::DGRAM, None).map(drop);
        let mount = rustix::mount::unmount("/nowhere", rustix::mount::UnmountFlags::empty()).unwrap_err();
        let mut stack = sys::clone::Stack::new().unwrap();
        let clone3 = sys::clone::clone_vfork(
            sys::clone::CloneFlags::default(),
            None,
            sys::clone::Memory::Shared,
            &mut stack,
            None,
            &mut || 0,
        );
        let clone3 = clone3.unwrap_err().raw_os_error();
        (hostname, packet(40).unwrap_err(), packet(2), mount, clone3)
    });
    let no_call = Some(Errno::NOSYS.raw_os_error());
    assert_eq!(tried.join().unwrap(), (Errno::PERM, Errno::PERM, Ok(()), Errno::PERM, no_call));
}
