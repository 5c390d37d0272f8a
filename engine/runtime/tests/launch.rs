//! Launches real processes: root only, in a cgroup of its own.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what it needs, and fails by panic")]

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use contract::keeper::{Key, ToKeeper};
use pinnace_runtime::capabilities::CONTAINER_DEFAULT;
use pinnace_runtime::cgroup::{self, Cgroup};
use pinnace_runtime::ids::IdMap;
use pinnace_runtime::launch::{
    self, CapabilitySets, Joined, LaunchError, Namespaces, Process, Registration, Shm, Spec, UserIds,
    UserNamespace,
};
use pinnace_runtime::rootfs::{Root, overlay};
use pinnace_runtime::stdio::{Ends, Stdio};

/// A root with one static busybox, a cgroup and a stand-in for PID 1's socket.
struct Bench {
    dir: tempfile::TempDir,
    cgroup: Cgroup,
    cgroup_path: PathBuf,
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl Bench {
    fn new(name: &str) -> Option<Bench> {
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
        for applet in ["sh", "cat", "grep", "mount", "ls", "id", "hostname", "tr"] {
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
        Some(Bench { dir, cgroup, cgroup_path, ours, theirs })
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
            alone: true,
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
        }
    }

    fn root(&self, upper: &str, work: &str) -> OwnedFd {
        let path = |name: &str| self.dir.path().join(name);
        let layers = vec![path("base"), path("layer")];
        overlay(&Root { layers, upper: path(upper), work: path(work) }).unwrap()
    }

    fn registration(&self) -> Registration<'_> {
        Registration { socket: self.ours.as_fd(), key: Key([3; 32]), note: b"note".to_vec() }
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
    let spec = |alone: bool| Spec { alone, ..bench.spec(&["ls"]) };
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
    assert!(error.to_string().starts_with("write /proc/sys/no/such/thing: "), "{error}");
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
    let pipes = Stdio::pipes(0, false).unwrap();
    launch::enter(
        &process,
        &Joined { pidfd: first.pidfd.as_fd(), ids: IdMap::default(), alone: true },
        &pipes,
        bench.registration(),
        bench.cgroup.fd(),
    )
    .unwrap();
    let _packet = sys::packet::receive(bench.theirs.as_fd(), 1024, true).unwrap().unwrap();
    let Ends::Pipes { stdout, stderr, .. } = pipes.into_ends() else { panic!("pipes were asked for") };
    drop(_packet);
    let out = drain(stdout);
    assert!(out.starts_with("boxed\n"), "{out} {}", drain(stderr));
    assert!(out.contains("/dev/pts/0") && out.contains("/dev/console") && out.ends_with("0::/\n"), "{out}");
}

#[test]
fn launches_run_beside_each_other() {
    let Some(bench) = Bench::new("many") else { return };
    let bench = Arc::new(bench);
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
