use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use proptest::prelude::*;
use sys::bpf::Instruction;

use super::*;

#[test]
fn rules_are_read() {
    let check =
        |text: &str, expected: Option<Rule>| assert_eq!(text.parse::<Rule>().ok(), expected, "{text}");
    let character = |major, minor, access| Some(Rule::allow(Kind::Character, major, minor, access));
    check("c 42:* rmw", character(Some(42), None, Access::ALL));
    check("c 1:3 r", character(Some(1), Some(3), Access::READ));
    check("a *:* rwm", Some(Rule::allow(Kind::Any, None, None, Access::ALL)));
    check("b 8:0 m", Some(Rule::allow(Kind::Block, Some(8), Some(0), Access::MKNOD)));
    for bad in
        ["", "c", "c 1:3", "c 1:3 ", "c 1:3 x", "d 1:3 r", "c 1 r", "c -1:3 r", "c 1:3 r w", "c 1:3:4 r"]
    {
        check(bad, None);
    }
    let error = "x".parse::<Rule>().unwrap_err().to_string();
    assert!(error.starts_with("invalid device cgroup rule \"x\": expected"), "{error}");
}

/// Just the instructions that `compile` writes.
fn run(program: &[Instruction], kind: u32, major: u32, minor: u32, asked: u32) -> i32 {
    let context = [asked << 16 | kind, major, minor];
    let mut registers = [0u32; 10];
    let mut at = 0;
    loop {
        let Instruction { code, registers: used, offset, constant } = program[at];
        let (to, from) = (usize::from(used & 15), usize::from(used >> 4));
        let constant = constant.cast_unsigned();
        at += 1;
        let mut jump = |holds: bool| at += if holds { usize::try_from(offset).unwrap() } else { 0 };
        match code {
            0x61 => registers[to] = context[usize::try_from(offset).unwrap() / 4],
            0xbc => registers[to] = registers[from],
            0x54 => registers[to] &= constant,
            0x74 => registers[to] >>= constant,
            0xb7 => registers[to] = constant,
            0x56 => jump(registers[to] != constant),
            0x46 => jump(registers[to] & constant != 0),
            0x05 => jump(true),
            0x95 => return registers[0].cast_signed(),
            _ => panic!("instruction {code:#x}"),
        }
    }
}

/// Each access by itself, by the last rule that speaks of it.
fn slow(rules: &[Rule], kind: u32, major: u32, minor: u32, asked: u32) -> bool {
    let matches = |rule: &Rule| {
        (rule.kind == Kind::Any || (rule.kind == Kind::Block) == (kind == 1))
            && rule.major.is_none_or(|n| n == major)
            && rule.minor.is_none_or(|n| n == minor)
    };
    [1, 2, 4].into_iter().filter(|bit| asked & bit != 0).all(|bit| {
        let last = rules.iter().rev().find(|rule| matches(rule) && rule.access.bits() & bit != 0);
        last.is_some_and(|rule| rule.allow)
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let kind = prop::sample::select(vec![Kind::Any, Kind::Block, Kind::Character]);
    let number = || prop::option::of(0..3u32);
    let rule = (any::<bool>(), kind, number(), number(), 1..8u32);
    rule.prop_map(|(allow, kind, major, minor, access)| Rule {
        allow,
        kind,
        major,
        minor,
        access: Access(access),
    })
}

proptest! {
    #[test]
    fn programs_agree_with_the_rules(rules in prop::collection::vec(any_rule(), 0..8)) {
        let program = program::compile(&rules);
        for kind in 1..3 {
            for (major, minor) in (0..3).flat_map(|major| (0..3).map(move |minor| (major, minor))) {
                for asked in 1..8 {
                    let expected = i32::from(slow(&rules, kind, major, minor, asked));
                    prop_assert_eq!(run(&program, kind, major, minor, asked), expected);
                }
            }
        }
    }
}

#[test]
fn the_default_lets_pass_what_docker_does() {
    let program = program::compile(&CONTAINER_DEFAULT);
    let character = |major, minor, access: Access| run(&program, 2, major, minor, access.bits()) == 1;
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 0), (136, 99)] {
        assert!(character(major, minor, Access::ALL), "{major}:{minor}");
    }
    for (major, minor) in [(1, 1), (1, 11), (10, 229), (10, 200), (4, 0)] {
        assert!(character(major, minor, Access::MKNOD), "{major}:{minor}");
        assert!(!character(major, minor, Access::READ), "{major}:{minor}");
        assert!(!character(major, minor, Access::READ.and(Access::MKNOD)), "{major}:{minor}");
    }
    assert_eq!(run(&program, 1, 8, 0, Access::MKNOD.bits()), 1);
    assert_eq!(run(&program, 1, 8, 0, Access::WRITE.bits()), 0);
}

/// A cgroup of the test's own, removed with it.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Option<Cgroup> {
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let root = roots.map(Path::new).into_iter().find(|root| root.join("cgroup.procs").exists())?;
        let path = root.join(format!("pinnace-test-{name}-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        Some(Cgroup(path))
    }

    /// Runs a shell command inside.
    fn run(&self, script: &str) -> String {
        let procs = self.0.join("cgroup.procs");
        let script = format!("echo $$ > {}; {script}", procs.display());
        let out = Command::new("/bin/sh").arg0("sh").args(["-c", &script]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[test]
fn the_kernel_obeys() {
    let Some(cgroup) = Cgroup::new("devices").filter(|_| rustix::process::geteuid().is_root()) else {
        skip::skip!("needs root and a cgroup v2 hierarchy");
    };
    let directory = fs::File::open(&cgroup.0).unwrap();
    let gate = match Gate::container_default() {
        Ok(gate) => gate,
        Err(GateError::Unsupported { source }) => skip::skip!("{source}"),
        Err(error) => panic!("{error}"),
    };
    let begun = Instant::now();
    gate.attach(directory.as_fd()).unwrap();
    println!("attach: {:?}", begun.elapsed());
    let elsewhere = fs::File::open("/tmp").unwrap();
    assert!(matches!(gate.attach(elsewhere.as_fd()), Err(GateError::Unsupported { .. })));
    let folder = tempfile_folder();
    let node = folder.join("kmsg");
    let script = format!(
        "echo x > /dev/null && echo null; head -c1 /dev/zero >/dev/null && echo zero; \
         mknod {0} c 1 11 && echo made; head -c1 {0} >/dev/null || echo denied",
        node.display()
    );
    let said = cgroup.run(&script);
    fs::remove_dir_all(&folder).unwrap();
    let said: Vec<&str> = said.lines().filter(|line| !line.contains("head:")).collect();
    assert_eq!(said, ["null", "zero", "made", "denied"], "{said:?}");
    assert!(Arc::ptr_eq(&gate, &Gate::container_default().unwrap()));
}

fn tempfile_folder() -> PathBuf {
    let path = std::env::temp_dir().join(format!("pinnace-devices-{}", std::process::id()));
    fs::create_dir(&path).unwrap();
    path
}

#[test]
fn any_rules_please_the_verifier() {
    if !rustix::process::geteuid().is_root() {
        skip::skip!("needs root");
    }
    let deny = Rule { allow: false, kind: Kind::Any, major: None, minor: None, access: Access::ALL };
    let one = Rule::allow(Kind::Block, Some(8), None, Access::READ);
    let no_write = Rule { allow: false, access: Access::WRITE, ..one };
    for rules in [vec![], vec![deny], vec![one], vec![deny, one, no_write], vec![one, deny], vec![deny; 200]]
    {
        match Gate::load(&rules) {
            Ok(_) => {}
            Err(error) => panic!("{rules:?}: {error}"),
        }
    }
    let begun = Instant::now();
    Gate::load(&CONTAINER_DEFAULT).unwrap();
    println!("load: {:?}", begun.elapsed());
}
