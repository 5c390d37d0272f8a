//! Launches real processes: root only, in a cgroup of its own.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what it needs, and fails by panic")]

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use contract::keeper::{Key, ToKeeper};
use pinnace_runtime::capabilities::{CONTAINER_DEFAULT, Capability};
use pinnace_runtime::cgroup::{self, Cgroup};
use pinnace_runtime::ids::IdMap;
use pinnace_runtime::launch::{
    self, CapabilitySets, Forerunner, JoinPid, Joined, LaunchError, Launched, Namespaces, Process,
    Registration, Shm, Spec, UserIds, UserNamespace,
};
use pinnace_runtime::rootfs::{Root, overlay};
use pinnace_runtime::stdio::{Ends, Stdio};
use pinnace_runtime::view::View;

/// Not a test: what the launcher starts as its zygote, which is this very executable.
#[test]
fn zygote() {
    if std::env::args().any(|argument| argument == launch::ZYGOTE) {
        let _ = launch::zygote_main();
    }
}

/// A root with one static busybox, a cgroup and a stand-in for PID 1's socket.
struct Bench {
    dir: tempfile::TempDir,
    cgroup: Cgroup,
    cgroup_path: PathBuf,
    ours: OwnedFd,
    theirs: OwnedFd,
    _turn: Turn,
}

/// All tests of this program have one zygote: who kills it has to be alone.
static ZYGOTE: RwLock<()> = RwLock::new(());

/// Held for the length of a test.
enum Turn {
    Beside { _others: RwLockReadGuard<'static, ()> },
    Alone { _all: RwLockWriteGuard<'static, ()> },
}

impl Turn {
    fn beside() -> Turn {
        Turn::Beside { _others: ZYGOTE.read().unwrap_or_else(PoisonError::into_inner) }
    }

    fn alone() -> Turn {
        Turn::Alone { _all: ZYGOTE.write().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Bench {
    fn new(name: &str) -> Option<Bench> {
        Bench::at(name, Turn::beside())
    }

    fn at(name: &str, turn: Turn) -> Option<Bench> {
        let busybox = Path::new("/bin/busybox");
        if !rustix::process::geteuid().is_root() || !busybox.exists() {
            skip::note!("needs root and busybox-static");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        for folder in ["layer/bin", "upper", "work", "base"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        pinnace_runtime::rootfs::base_layer(&dir.path().join("base"), IdMap::default()).unwrap();
        std::fs::copy(busybox, dir.path().join("layer/bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "grep", "mount", "ls", "id", "hostname", "tr", "true", "sleep", "head", "tail",
            "readlink",
        ] {
            std::os::unix::fs::symlink("busybox", dir.path().join("layer/bin").join(applet)).unwrap();
        }
        let plain = dir.path().join("layer/bin/plain");
        std::fs::write(&plain, "not a program").unwrap();
        std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let hierarchy = mounts.lines().find(|l| l.contains(" cgroup2 ")).and_then(|l| l.split(' ').nth(1))?;
        let cgroup_path = Path::new(hierarchy).join(format!("launch-{name}-{}", std::process::id()));
        let cgroup = Cgroup::create(&cgroup_path).unwrap();
        let (ours, theirs) = sys::packet::pair().unwrap();
        sys::packet::pass_credentials(theirs.as_fd()).unwrap();
        Some(Bench { dir, cgroup, cgroup_path, ours, theirs, _turn: turn })
    }

    fn spec(&self, args: &[&str]) -> Spec {
        let all = CONTAINER_DEFAULT.bits();
        Spec {
            process: Process {
                args: args.iter().map(|a| (*a).to_owned()).collect(),
                env: vec!["PATH=/bin".into(), "A=b".into()],
                cwd: "/work dir".into(),
                user: UserIds { uid: 0, gid: 0, groups: vec![0, 7] },
                capabilities: CapabilitySets {
                    bounding: all,
                    permitted: all,
                    effective: all,
                    inheritable: 0,
                },
                no_new_privileges: true,
                seccomp: Some(pinnace_runtime::seccomp::builtin(CONTAINER_DEFAULT)),
                rlimits: vec![],
                oom_score_adj: 0,
                signals_held: false,
                terminal: false,
            },
            may_share_memory: true,
            readonly_root: false,
            hostname: "boxed".into(),
            domainname: String::new(),
            namespaces: Namespaces::default(),
            mounts: vec![],
            shm: Shm::New { bytes: 1 << 20 },
            devices: vec![],
            masked_paths: vec!["/proc/kcore".into(), "/proc/acpi".into(), "/sys/firmware".into()],
            readonly_paths: vec!["/proc/sys".into()],
            sysctls: vec![],
            writable_sys: false,
            writable_cgroups: false,
        }
    }

    /// What tells the processes of this one from those of others.
    fn cgroup_name(&self) -> String {
        self.cgroup_path.file_name().unwrap().to_str().unwrap().to_owned()
    }

    fn root(&self, upper: &str, work: &str) -> OwnedFd {
        let path = |name: &str| self.dir.path().join(name);
        let layers = vec![path("base"), path("layer")];
        overlay(&Root { layers, upper: path(upper), work: path(work) }).unwrap()
    }

    fn registration(&self) -> Registration<'_> {
        Registration { socket: self.ours.as_fd(), key: Key([3; 32]), note: b"note".to_vec() }
    }

    /// Starts the first process with nobody at its streams but this.
    fn start(&self, spec: &Spec) -> (Launched, Stdio) {
        let stdio = Stdio::pipes(0, true).unwrap();
        let root = self.root("upper", "work");
        let launched =
            launch::start(spec, root.as_fd(), &stdio, self.registration(), self.cgroup.fd()).unwrap();
        let _ = sys::packet::receive(self.theirs.as_fd(), 1024, true).unwrap().unwrap();
        (launched, stdio)
    }

    /// A further process beside `first`; what it prints.
    fn enter(&self, process: &Process, first: &Launched) -> Result<String, LaunchError> {
        let pipes = Stdio::pipes(0, false).unwrap();
        let joined = Joined { pidfd: first.pidfd.as_fd(), ids: IdMap::default() };
        let forerunner = Forerunner::call(self.cgroup.fd())?;
        let launched = launch::enter(process, &joined, &pipes, self.registration(), forerunner)?;
        let packet = sys::packet::receive(self.theirs.as_fd(), 1024, true).unwrap().unwrap();
        assert_eq!(packet.pid, Some(launched.pid));
        assert_eq!(packet.fds.len(), 2);
        drop(packet);
        let Ends::Pipes { stdout, .. } = pipes.into_ends() else { panic!("pipes were asked for") };
        Ok(drain(stdout))
    }

    fn run(&self, spec: &Spec) -> Result<(String, String), LaunchError> {
        let stdio = Stdio::pipes(0, false).unwrap();
        let root = self.root("upper", "work");
        let launched = launch::start(spec, root.as_fd(), &stdio, self.registration(), self.cgroup.fd())?;
        let packet = sys::packet::receive(self.theirs.as_fd(), 1024, true).unwrap().unwrap();
        assert_eq!(packet.pid, Some(launched.pid));
        assert_eq!(packet.fds.len(), 2);
        let told = ToKeeper::decode(&packet.bytes).unwrap();
        assert_eq!(told, ToKeeper::Launched { key: Key([3; 32]), note: b"note".to_vec() });
        let Ends::Pipes { stdout, stderr, .. } = stdio.into_ends() else { panic!("pipes were asked for") };
        drop(packet);
        Ok((drain(stdout), drain(stderr)))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.cgroup.kill();
        for _ in 0..100 {
            if cgroup::remove(&self.cgroup_path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

fn drain(end: OwnedFd) -> String {
    rustix::io::ioctl_fionbio(end.as_fd(), false).unwrap();
    let mut text = String::new();
    std::fs::File::from(end).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_process_sees_a_world_of_its_own() {
    let Some(bench) = Bench::new("world") else { return };
    let script = "hostname; pwd; echo $$ $A; cat /proc/self/cgroup; ls /dev; id -G; echo err >&2; \
                  grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; \
                  echo x > /proc/sys/kernel/hostname || echo read-only; grep -c . /proc/mounts; ls /proc/kcore -l";
    let (out, err) = bench.run(&bench.spec(&["sh", "-c", script])).unwrap();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(&lines[..3], ["boxed", "/work dir", "1 b"], "{out}\n{err}");
    for expected in
        ["0::/", "CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "NoNewPrivs:\t1", "Seccomp:\t2"]
    {
        assert!(lines.contains(&expected), "{expected}: {out}");
    }
    assert!(lines.contains(&"read-only") && lines.contains(&"0 7"), "{out}");
    assert!(err.starts_with("err\n"), "{err}");
}

#[test]
fn a_container_with_mapped_ids_owns_its_namespaces() {
    let Some(bench) = Bench::new("mapped") else { return };
    let ids = IdMap::from(Some(300_000));
    let user = || UserNamespace { file: pinnace_runtime::userns::create(ids).unwrap(), ids };
    let script = "tr -s ' ' < /proc/self/uid_map; id -u; id -G; hostname; grep ^CapEff /proc/self/status; \
                  grep -c -E ' (/proc|/sys|/dev/mqueue|/dev/shm|/dev/pts) ' /proc/mounts; \
                  echo x > /dev/null && echo y > /dev/shm/y && cat /dev/shm/y";
    let mut spec = bench.spec(&["sh", "-c", script]);
    spec.namespaces.user = Some(user());
    let (out, err) = bench.run(&spec).unwrap();
    let expected = " 0 300000 65536\n0\n0 7\nboxed\nCapEff:\t00000000a80425fb\n5\ny\n";
    assert_eq!(out, expected, "{err}");
    // What fails on either side of the entrance is told.
    let mut outside = bench.spec(&["sh"]);
    outside.namespaces.user = Some(user());
    outside.process.oom_score_adj = 5000;
    let error = bench.run(&outside).unwrap_err();
    assert!(error.to_string().starts_with("write /proc/self/oom_score_adj: "), "{error}");
    let mut inside = bench.spec(&["missing"]);
    inside.namespaces.user = Some(user());
    let error = bench.run(&inside).unwrap_err();
    assert_eq!(error.to_string(), "exec: \"missing\": executable file not found in $PATH");
}

#[test]
fn a_process_that_is_killed_on_its_way_is_told_from_one_that_ran() {
    let Some(bench) = Bench::new("killed") else { return };
    let over = AtomicBool::new(false);
    let spec = |may_share_memory: bool| Spec { may_share_memory, ..bench.spec(&["ls"]) };
    let killed = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                bench.cgroup.kill().unwrap();
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
        });
        let mut killed = 0;
        for spec in [spec(true), spec(false)].iter().cycle().take(3000) {
            let (stdio, root) = (Stdio::pipes(0, false).unwrap(), bench.root("upper", "work"));
            let started = launch::start(spec, root.as_fd(), &stdio, bench.registration(), bench.cgroup.fd());
            // Of what ran PID 1 was told.
            let told = sys::packet::receive(bench.theirs.as_fd(), 1024, false);
            match started {
                Ok(launched) => assert_eq!(told.unwrap().unwrap().pid, Some(launched.pid)),
                Err(LaunchError::Killed) => killed += 1,
                Err(error) => panic!("{error}"),
            }
            if killed == 20 {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        killed
    });
    assert_eq!(killed, 20);
}

#[test]
fn a_failed_start_tells_the_step() {
    let Some(bench) = Bench::new("fails") else { return };
    let check = |args: &[&str], expected: &str| {
        let error = bench.run(&bench.spec(args)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(&["missing"], "exec: \"missing\": executable file not found in $PATH");
    check(&["/bin/missing"], "exec: \"/bin/missing\": stat /bin/missing: no such file or directory");
    check(&["/bin/plain"], "exec: \"/bin/plain\": permission denied");
    let mut spec = bench.spec(&["sh"]);
    spec.sysctls = vec![("no.such.thing".into(), "1".into())];
    let error = bench.run(&spec).unwrap_err();
    assert!(error.to_string().starts_with("open /proc/sys/no/such/thing: "), "{error}");
}

#[test]
fn a_further_process_joins_and_a_terminal_is_one() {
    let Some(bench) = Bench::new("joins") else { return };
    let stdio = Stdio::terminal(0, Some((24, 80)), IdMap::default()).unwrap();
    let mut spec = bench.spec(&["cat"]);
    spec.process.terminal = true;
    let root = bench.root("upper", "work");
    let first = launch::start(&spec, root.as_fd(), &stdio, bench.registration(), bench.cgroup.fd()).unwrap();
    let packet = sys::packet::receive(bench.theirs.as_fd(), 1024, true).unwrap().unwrap();
    assert_eq!(packet.fds.len(), 3);
    let mut process = spec.process.clone();
    process.terminal = false;
    process.args = ["sh", "-c", "hostname; ls -l /proc/1/fd/0; ls /dev/console; cat /proc/self/cgroup"]
        .map(str::to_owned)
        .to_vec();
    let out = bench.enter(&process, &first).unwrap();
    assert!(out.starts_with("boxed\n"), "{out}");
    assert!(out.contains("/dev/pts/0") && out.contains("/dev/console") && out.ends_with("0::/\n"), "{out}");
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// See the program's first lines.
#[test]
fn who_may_trace_finds_nothing_of_the_engine() {
    let Some(bench) = Bench::new("traced") else { return };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/programs/ptrace_attack.c");
    let program = bench.dir.path().join("layer/bin/attack");
    let compiled =
        std::process::Command::new("cc").args(["-O2", "-static", "-o"]).arg(&program).arg(&source).status();
    if !compiled.is_ok_and(|status| status.success()) {
        skip::skip!("needs a C compiler");
    }
    // In this process's memory, as all containers' secrets are in the engine's.
    let marker = format!("secret-of-another-container-{}", std::process::id());
    let reversed: String = marker.chars().rev().collect();
    let mut spec = bench.spec(&["attack", "4", &reversed]);
    let may_trace = CONTAINER_DEFAULT.with(Capability::named("SYS_PTRACE").unwrap()).bits();
    spec.process.capabilities =
        CapabilitySets { bounding: may_trace, permitted: may_trace, effective: may_trace, inheritable: 0 };
    let (first, stdio) = bench.start(&spec);
    let Ends::Pipes { stdout, .. } = stdio.into_ends() else { panic!("pipes were asked for") };
    let over = AtomicBool::new(false);
    let caught = std::thread::scope(|scope| {
        let attack = scope.spawn(|| {
            let text = drain(stdout);
            over.store(true, Ordering::Relaxed);
            text
        });
        let process = Process { args: words(&["true"]), ..bench.spec(&["true"]).process };
        while !over.load(Ordering::Relaxed) {
            // The attacker may have killed it, too.
            let _ = bench.enter(&process, &first);
        }
        attack.join().unwrap()
    });
    let caught: Vec<&str> = caught.lines().filter(|line| line.starts_with("caught ")).collect();
    assert!(!caught.is_empty(), "the attack catches nobody, so it shows nothing");
    let default = CONTAINER_DEFAULT.bits();
    // One descriptor, which execve(2) closes, to be told to go on.
    let nothing = [0, 1].map(|count| format!("caught capabilities={default:x} descriptors={count} found=0"));
    assert!(caught.iter().all(|line| nothing.iter().any(|nothing| nothing == line)), "{caught:?}");
    assert_eq!(marker, format!("secret-of-another-container-{}", std::process::id()));
}

#[test]
fn a_container_may_share_the_processes_of_another() {
    let Some(bench) = Bench::new("shares") else { return };
    let (first, _stdio) = bench.start(&bench.spec(&["cat"]));
    for mapped in [None, Some(300_000)] {
        let mut spec =
            bench.spec(&["sh", "-c", "readlink /proc/self; echo $$; cat /proc/1/cmdline; echo; hostname"]);
        let namespace = || File::open(format!("/proc/{}/ns/pid", first.pid)).unwrap().into();
        let view = View::of_process(first.pid, &bench.cgroup_name());
        let proc = view.unwrap().proc(OwnedFd::as_fd(&namespace())).unwrap();
        if let Some(base) = mapped {
            // Its root has no say in a pid namespace that is the machine's, so it cannot enter that.
            let ids = IdMap::from(Some(base));
            spec.namespaces.user =
                Some(UserNamespace { file: pinnace_runtime::userns::create(ids).unwrap(), ids });
        }
        spec.namespaces.pid = Some(JoinPid::Container { namespace: namespace(), proc });
        let ran = bench.run(&spec);
        if mapped.is_some() {
            assert!(ran.unwrap_err().to_string().starts_with("join Pid namespace: "));
            continue;
        }
        let (out, err) = ran.unwrap();
        let lines: Vec<&str> = out.lines().collect();
        let [itself, pid, others, name] = &lines[..] else { panic!("{out} {err}") };
        assert!(itself.parse::<u32>().unwrap() > 1 && pid.parse::<u32>().unwrap() > 1, "{out}");
        assert_eq!((*others, *name), ("cat\0", "boxed"));
    }
}

#[test]
fn a_further_process_with_a_terminal_leads_its_session() {
    let Some(bench) = Bench::new("leads") else { return };
    let stdio = Stdio::terminal(0, Some((24, 80)), IdMap::default()).unwrap();
    let mut spec = bench.spec(&["sh", "-c", "while :; do sleep 1000; done"]);
    spec.process.terminal = true;
    let root = bench.root("upper", "work");
    let first = launch::start(&spec, root.as_fd(), &stdio, bench.registration(), bench.cgroup.fd()).unwrap();
    let _ = sys::packet::receive(bench.theirs.as_fd(), 1024, true).unwrap().unwrap();
    let inside = rustix::fs::open(
        format!("/proc/{}/root", first.pid),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let terminal = Stdio::terminal_in(inside.as_fd(), 0, None, IdMap::default()).unwrap();
    let mut process = spec.process.clone();
    process.args = words(&[
        "sh",
        "-c",
        "echo tty > /dev/tty; cat /proc/$$/stat | tr ' ' '\n' | head -n 8 | tail -n 3 | tr '\n' ' '; sleep 1000",
    ]);
    let joined = Joined { pidfd: first.pidfd.as_fd(), ids: IdMap::default() };
    let forerunner = Forerunner::call(bench.cgroup.fd()).unwrap();
    let second = launch::enter(&process, &joined, &terminal, bench.registration(), forerunner).unwrap();
    let Ends::Terminal { master, .. } = terminal.into_ends() else { panic!("a terminal was asked for") };
    rustix::io::ioctl_fionbio(master.as_fd(), false).unwrap();
    let mut text = String::new();
    let mut buffer = [0; 100];
    while text.lines().count() < 2 || !text.ends_with(' ') {
        let count = rustix::io::read(&master, &mut buffer).unwrap();
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    let (tty, ids) = text.split_once("\r\n").unwrap();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    assert_eq!(tty, "tty");
    // Session, terminal and the terminal's foreground group: the session's leader is in the foreground.
    assert!(ids[0] == ids[2] && ids[0] != "0" && ids[1] != "0", "{text} {second:?}");
}

#[test]
fn a_frozen_or_stopped_launch_is_given_up() {
    let Some(bench) = Bench::new("frozen") else { return };
    let (first, _stdio) = bench.start(&bench.spec(&["cat"]));
    bench.cgroup.freeze(true).unwrap();
    let process = Process { args: words(&["true"]), ..bench.spec(&["true"]).process };
    std::thread::scope(|scope| {
        let entered = scope.spawn(|| bench.enter(&process, &first).unwrap_err());
        let ran = bench.run(&bench.spec(&["ls"])).unwrap_err();
        for error in [ran, entered.join().unwrap()] {
            assert!(matches!(error, LaunchError::TimedOut(_)), "{error}");
        }
    });
    bench.cgroup.freeze(false).unwrap();
    assert_eq!(bench.enter(&process, &first).unwrap(), "");
}

#[test]
fn the_maker_of_further_processes_is_replaced_when_it_is_killed() {
    let Some(bench) = Bench::at("lost", Turn::alone()) else { return };
    let (first, _stdio) = bench.start(&bench.spec(&["cat"]));
    let mut process = bench.spec(&["true"]).process;
    process.args = words(&["sh", "-c", "echo here"]);
    // More than fits in one packet.
    process.env.push(format!("LONG={}", "x".repeat(100_000)));
    for _ in 0..3 {
        assert_eq!(bench.enter(&process, &first).unwrap(), "here\n");
        for pid in zygotes() {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            // Until it has closed its socket it may still take an order.
            while !has_ended(pid) {
                std::thread::yield_now();
            }
        }
    }
}

/// Whether it is gone, or waits for its parent with everything closed.
fn has_ended(pid: rustix::process::Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .map_or(true, |status| status.contains("\nState:\tZ") || status.contains("\nState:\tX"))
}

/// Zygotes of this program.
fn zygotes() -> Vec<rustix::process::Pid> {
    let own = std::fs::read_link("/proc/self/exe").unwrap();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let ours = pids.filter(|pid| {
        std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == own)
            && std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains("\0zygote"))
    });
    ours.filter_map(rustix::process::Pid::from_raw).collect()
}

#[test]
fn an_upper_folder_is_whole_by_itself() {
    let Some(bench) = Bench::new("whole") else { return };
    // What some distributions' kernels do by themselves.
    let _on = ["redirect_dir", "metacopy"].map(Parameter::on);
    std::fs::create_dir(bench.dir.path().join("layer/old")).unwrap();
    std::fs::write(bench.dir.path().join("layer/old/file"), "text").unwrap();
    let (out, err) = bench
        .run(&bench.spec(&["sh", "-c", "mv /old /new && chmod 600 /new/file && cat /new/file"]))
        .unwrap();
    assert_eq!(out, "text", "{err}");
    let upper = bench.dir.path().join("upper/new");
    assert_eq!(std::fs::read_to_string(upper.join("file")).unwrap(), "text");
    let mut names = [0; 1000];
    for path in [upper.clone(), upper.join("file")] {
        let length = rustix::fs::listxattr(&path, &mut names).unwrap();
        let names = String::from_utf8_lossy(&names[..length]).into_owned();
        assert!(!names.contains("redirect") && !names.contains("metacopy"), "{names:?}");
    }
}

/// A parameter of the kernel's overlay that is on until this is dropped.
struct Parameter {
    path: PathBuf,
    before: String,
}

impl Parameter {
    fn on(name: &str) -> Parameter {
        let path = Path::new("/sys/module/overlay/parameters").join(name);
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, "Y").unwrap();
        Parameter { path, before }
    }
}

impl Drop for Parameter {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.path, &self.before);
    }
}

#[test]
fn a_left_cgroup_is_not_used_again() {
    let Some(bench) = Bench::new("left") else { return };
    let (first, _stdio) = bench.start(&bench.spec(&["cat"]));
    std::fs::create_dir(bench.cgroup_path.join("below")).unwrap();
    let anew = Cgroup::create_anew(&bench.cgroup_path).unwrap();
    assert!(anew.all_pids().unwrap().is_empty() && !bench.cgroup_path.join("below").exists());
    assert!(!Path::new(&format!("/proc/{}/root/bin", first.pid)).exists());
}

#[test]
fn a_base_layer_that_is_there_is_not_written_again() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let changed = || {
        let file = std::fs::metadata(dir.path().join("etc/hosts")).unwrap();
        (file.ctime(), file.ctime_nsec(), file.ino())
    };
    pinnace_runtime::rootfs::base_layer(dir.path(), IdMap::default()).unwrap();
    let first = changed();
    std::thread::sleep(std::time::Duration::from_millis(20));
    pinnace_runtime::rootfs::base_layer(dir.path(), IdMap::default()).unwrap();
    assert_eq!(changed(), first);
    std::fs::remove_file(dir.path().join("etc/mtab")).unwrap();
    pinnace_runtime::rootfs::base_layer(dir.path(), IdMap::default()).unwrap();
    assert!(dir.path().join("etc/mtab").is_symlink());
}

#[test]
fn launches_run_beside_each_other() {
    let Some(bench) = Bench::new("many") else { return };
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let bench = &bench;
            scope.spawn(move || {
                for round in 0..10 {
                    let (upper, work) = (format!("upper-{worker}-{round}"), format!("work-{worker}-{round}"));
                    std::fs::create_dir(bench.dir.path().join(&upper)).unwrap();
                    std::fs::create_dir(bench.dir.path().join(&work)).unwrap();
                    let root = bench.root(&upper, &work);
                    let spec = bench.spec(&["sh", "-c", &format!("echo {worker} {round}")]);
                    let stdio = Stdio::pipes(0, false).unwrap();
                    launch::start(&spec, root.as_fd(), &stdio, bench.registration(), bench.cgroup.fd())
                        .unwrap();
                    let Ends::Pipes { stdout, .. } = stdio.into_ends() else {
                        panic!("pipes were asked for")
                    };
                    let _ = sys::packet::receive(bench.theirs.as_fd(), 1024, true).unwrap().unwrap();
                    assert_eq!(drain(stdout), format!("{worker} {round}\n"));
                }
            });
        }
    });
}
