//! Containers that mean harm: the engine serves on, and they can be removed.

use crate::{appliance, is_reference};
use pinnace_tests::api::Body;
use pinnace_tests::{Appliance, eventually, skip};
use std::time::Duration;

/// The engine and other containers do their work meanwhile.
fn serves_on(app: &Appliance) {
    app.docker(["run", "--rm", &app.busybox(), "echo", "undisturbed"]).prints("undisturbed\n").succeeds();
    app.docker(["ps", "--all"]).succeeds();
}

#[test]
fn a_fork_bomb_stays_within_its_limit_and_is_removed() {
    let app = appliance();
    if app.api().get("/info").is(200).json()["PidsLimit"] != true {
        skip!("this machine's control groups have no pids limit");
    }
    let name = app.name("bomb");
    let bomb = ["run", "--detach", "--name", &name, "--pids-limit", "200", &app.busybox(), "sh", "-c"];
    // A shell that cannot fork ends, and makes room for another's. The first process forks no more: the container stays.
    let script = "b() { while :; do b & done; }; b 2> /dev/null & exec sleep 600";
    app.docker(bomb.into_iter().chain([script])).succeeds();
    std::thread::sleep(Duration::from_secs(1));
    serves_on(app);
    let stats = format!("/containers/{}/stats?stream=0&one-shot=1", &*name);
    let pids = app.api().get(&stats).is(200).json()["pids_stats"]["current"].as_u64().expect("a number");
    assert!((2..=200).contains(&pids), "{pids} processes");
    app.docker(["rm", "--force", &name]).succeeds();
    app.api().get(&format!("/containers/{}/json", &*name)).is(404);
}

/// The engine's process id as the machine sees it.
fn engine(app: &Appliance) -> String {
    let script =
        "for p in /proc/[0-9]*; do test \"$(cat $p/comm 2> /dev/null)\" = engined && echo ${p#/proc/}; done";
    app.docker(["run", "--rm", "--privileged", "--pid=host", &app.busybox(), "sh", "-c", script]).word()
}

/// What a container with CAP_SYS_PTRACE catches of the processes that are executed in it: see the program's first lines.
#[test]
fn who_may_trace_catches_nothing_of_the_engine() {
    let app = appliance();
    if is_reference(app) {
        skip!("runc's processes have all rights for a moment");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("attack");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/ptrace_attack.c");
    let compiled =
        std::process::Command::new("cc").args(["-O2", "-static", "-o"]).arg(&program).arg(source).status();
    if !compiled.is_ok_and(|status| status.success()) {
        skip!("there is no C compiler");
    }
    let (victim, name) = (app.name("victim"), app.name("tracer"));
    let marker = format!("secret-of-{}", &*victim);
    let reversed: String = marker.chars().rev().collect();
    let secret = format!("SECRET={marker}");
    app.docker(["create", "--name", &victim, "--env", &secret, &app.busybox(), "true"]).succeeds();
    let create =
        ["create", "--name", &name, "--cap-add", "SYS_PTRACE", &app.busybox(), "/attack", "6", &reversed];
    app.docker(create).succeeds();
    let place = format!("{}:/attack", &*name);
    app.docker(["cp", &program.to_string_lossy(), &place]).succeeds();
    app.docker(["start", &name]).succeeds();
    let caught = eventually("the attack is over", app.patience(), || {
        // What is caught may come to any end.
        let _ = app.docker(["exec", &name, "true"]);
        Some(app.docker(["logs", &name]).text()).filter(|text| text.ends_with("over\n"))
    });
    let caught: Vec<&str> = caught.lines().filter(|line| line.starts_with("caught ")).collect();
    assert!(!caught.is_empty(), "the attack catches nobody, so it shows nothing");
    // One descriptor, which execve(2) closes, to be told to go on.
    let nothing = [0, 1].map(|count| format!("caught capabilities=a80c25fb descriptors={count} found=0"));
    assert!(caught.iter().all(|line| nothing.iter().any(|nothing| nothing == line)), "{caught:#?}");
}

/// A process on its way into the container must not share the engine's memory: the kernel kills all who share that of
/// the one it chooses.
#[test]
fn a_container_at_its_memory_limit_does_not_take_the_engine_along() {
    let app = appliance();
    if app.api().get("/info").is(200).json()["MemoryLimit"] != true {
        skip!("this machine's control groups have no memory limit");
    }
    let name = app.name("hog");
    let engine = engine(app);
    let limits = ["--memory", "12m", "--memory-swap", "12m"];
    // The shells are the last to be killed, and there is always somebody who wants more.
    let script = "d() { echo 100 > /proc/self/oom_score_adj; dd if=/dev/zero bs=1M count=1000 2> /dev/null | sleep 600; }; \
                  while :; do d & n=$((n + 1)); test $((n % 5)) = 0 && sleep 0.2; done";
    let run = ["run", "--detach", "--name", &name].into_iter().chain(limits);
    app.docker(run.chain([&app.busybox(), "sh", "-c", script])).succeeds();
    let path = format!("/containers/{}/json", &*name);
    eventually("it is at its limit", app.patience(), || {
        let events = app.docker(["exec", &name, "cat", "/sys/fs/cgroup/memory.events"]);
        events.text().lines().any(|line| line.starts_with("oom_kill ") && line != "oom_kill 0").then_some(())
    });
    for _ in 0..20 {
        // It may be killed itself.
        app.docker(["exec", &name, "true"]);
        app.api().get(&path).is(200);
    }
    assert_eq!(self::engine(app), engine);
    app.docker(["rm", "--force", &name]).succeeds();
}

/// Deeper than any path, and than a thread of the engine can follow by recursion.
#[test]
fn a_folder_as_deep_as_can_be_is_measured_and_removed() {
    let app = appliance();
    let name = app.name("deep");
    let hundred = vec!["d"; 100].join("/");
    let script = format!(
        "cd /tmp; i=0; while [ $i -lt 60 ]; do mkdir -p {hundred} && cd -P {hundred} || exit 1; i=$((i + 1)); done"
    );
    app.docker(["run", "--name", &name, &app.busybox(), "sh", "-c", &script]).succeeds();
    let engine = engine(app);
    app.docker(["ps", "--all", "--size"]).succeeds();
    app.docker(["diff", &name]).succeeds();
    app.docker(["rm", &name]).succeeds();
    serves_on(app);
    assert_eq!(self::engine(app), engine);
}

/// A link in the image chooses neither a file of /proc to be covered nor where the masks come from.
#[test]
fn links_in_the_place_of_volumes_lead_to_no_file_of_the_kernel() {
    let app = appliance();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let link = folder.path().join("data");
    let file = ["--volume", "/etc/resolv.conf:/data"];
    let refused = [
        ("/proc", ["--tmpfs", "/data"], "mount at /data: "),
        ("/proc/self/oom_score_adj", file, "mount at /data: "),
        ("/proc/1/attr/current", file, "mount at /data: "),
        ("/dev", ["--tmpfs", "/data"], "mask /proc/"),
    ];
    for (target, volume, told) in refused {
        let name = app.name("volume-link");
        app.docker(["create", "--name", &name, volume[0], volume[1], &app.busybox(), "true"]).succeeds();
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(target, &link).expect("the folder is ours");
        let place = format!("{}:/", &*name);
        app.docker(["cp", &link.to_string_lossy(), &place]).succeeds();
        if is_reference(app) {
            skip!("the reference engine has other words");
        }
        app.docker(["start", "--attach", &name]).fails().says_on_stderr(told);
    }
}

#[test]
fn a_flood_of_output_fills_no_more_than_its_log() {
    let app = appliance();
    let name = app.name("flood");
    let limits = ["--log-opt", "max-size=200k", "--log-opt", "max-file=2"];
    let run = ["run", "--detach", "--name", &name].into_iter().chain(limits);
    app.docker(run.chain([&app.busybox(), "sh", "-c", "exec yes flood"])).succeeds();
    std::thread::sleep(Duration::from_secs(2));
    serves_on(app);
    app.docker(["exec", &name, "true"]).succeeds();
    app.docker(["stop", "--timeout", "0", &name]).succeeds();
    let kept = app.docker(["logs", &name]).succeeds();
    // Each line takes at least 80 bytes more in the log than its text.
    assert!((100..6_000).contains(&kept.lines().len()), "{} lines", kept.lines().len());
}

#[test]
fn a_terminal_that_is_always_full_holds_nobody_back() {
    let app = appliance();
    let name = app.name("full-terminal");
    let script = "while :; do echo flooding the terminal with lines; done";
    app.docker(["run", "--detach", "--tty", "--name", &name, &app.busybox(), "sh", "-c", script]).succeeds();
    // Listeners that never read.
    let attach = format!("/containers/{}/attach?stream=1&stdin=1&stdout=1", &*name);
    let deaf: Vec<_> = (0..3).map(|_| app.api().hijack(&attach, Body::Empty)).collect();
    std::thread::sleep(Duration::from_millis(500));
    serves_on(app);
    app.api().post(&format!("/containers/{}/resize?h=10&w=20", &*name)).is(200);
    app.docker(["exec", &name, "true"]).succeeds();
    app.docker(["top", &name]).mentions("sh").succeeds();
    drop(deaf);
    app.docker(["stop", "--timeout", "0", &name]).succeeds();
}

/// A container that mounts over and unmounts what is copied at that moment.
#[test]
fn mounts_that_change_under_a_copy_lead_nowhere() {
    let app = appliance();
    let name = app.name("mounts");
    let script = "mkdir -p /tmp/way /tmp/plain; echo mine > /tmp/plain/file; \
                  while :; do \
                    mount -t proc proc /tmp/way; umount /tmp/way; \
                    mount --bind /tmp/plain /tmp/way; umount /tmp/way; \
                    mount -t tmpfs none /tmp/way; umount /tmp/way; \
                  done 2>/dev/null";
    let run = ["run", "--detach", "--name", &name, "--privileged", &app.busybox(), "sh", "-c", script];
    app.docker(run).succeeds();
    let archive = |path: &str| format!("/containers/{}/archive?path={path}", &*name);
    let mut found = 0;
    for _ in 0..60 {
        // What it is at this moment, or a clear error; never the engine's own processes.
        let file = app.api().get(&archive("/tmp/way/file"));
        assert!(matches!(file.head.status, 200 | 404), "{}", file.text());
        found += u32::from(file.head.status == 200 && String::from_utf8_lossy(&file.body).contains("mine"));
        let process = app.api().get(&archive("/tmp/way/1/comm"));
        let text = String::from_utf8_lossy(&process.body).into_owned();
        assert!(!text.contains("init\n") && !text.contains("engined"), "{text}");
    }
    assert!(found > 0, "the copy never met the folder");
    // The engine's own threads have no number among the container's processes.
    for path in ["/proc/self/environ", "/proc/self/root/sbin/engined", "/proc/thread-self/comm"] {
        app.api().get(&archive(path)).is(404);
    }
    serves_on(app);
}

/// A container that exchanges what an exec is started from.
#[test]
fn links_swapped_under_an_exec_lead_nowhere() {
    let app = appliance();
    let name = app.name("exec-swap");
    let script = "mkdir -p /tmp/a /tmp/b; echo 'x:x:7:7::/:' > /tmp/passwd; rm /etc/passwd; \
                  while :; do ln -sfn /tmp/a /tmp/way; ln -sfn /proc/1/root/.. /tmp/way; ln -sfn /../.. /tmp/way; \
                  ln -sfn /tmp/passwd /etc/passwd; ln -sfn /proc/1/root/../../etc/passwd /etc/passwd; \
                  rm -f /etc/passwd; mkfifo /etc/passwd; rm -f /etc/passwd; done";
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sh", "-c", script]).succeeds();
    let look = "ls / | tr '\\n' ' '; readlink /proc/self/root";
    let root = app.docker(["exec", &name, "sh", "-c", look]).succeeds().text();
    let mut ran = 0;
    for _ in 0..40 {
        let outcome = app.docker(["exec", "--workdir", "/tmp/way", &name, "sh", "-c", look]);
        // The link may lead to nothing at the moment it is followed.
        if outcome.code == 0 {
            ran += 1;
            assert_eq!(outcome.text(), root);
        }
        // A name that only the machine has is unknown, one that the container has is its own.
        app.docker(["exec", "--user", "daemon", &name, "true"]).fails();
        // Not by id(1), which opens the file itself and waits for a writer where it is a FIFO.
        let whose = ["awk", "/^Uid:/ { print $2 }", "/proc/self/status"];
        let own = app.docker(["exec", "--user", "x", &name].into_iter().chain(whose));
        assert!(own.code != 0 || own.text() == "7\n", "{own}");
    }
    assert!(ran > 0, "no exec came through");
}

/// A machine of its own, since everybody else would have to wait for a processor.
#[test]
fn a_fork_bomb_without_a_limit_leaves_room_to_end_it() {
    let shared = appliance();
    if shared.backend != pinnace_tests::Backend::Qemu {
        skip!("what is full is the machine, which must be one of its own");
    }
    let dir = tempfile::tempdir().expect("a folder for the appliance");
    let app = &Appliance::boot(shared.backend, dir.path());
    let image = shared.busybox();
    app.docker(["pull", &image]).succeeds();
    let name = app.name("bomb-unlimited");
    let script = "b() { while :; do b & done; }; b 2> /dev/null & exec sleep 600";
    app.docker(["run", "--detach", "--name", &name, &image, "sh", "-c", script]).succeeds();
    std::thread::sleep(Duration::from_secs(20));
    app.api().get("/_ping").is(200);
    app.docker(["rm", "--force", &name]).succeeds();
    app.docker(["run", "--rm", &image, "echo", "undisturbed"]).prints("undisturbed\n").succeeds();
}
