//! Limits on what a container may use, where this machine's control groups can set them.

use crate::{appliance, is_reference};
use pinnace_tests::{Appliance, skip};

/// The appliance, or a skip where `docker info` says that it cannot limit this.
macro_rules! limiting {
    ($field:literal) => {{
        let app = appliance();
        if is_reference(app) {
            skip!("the reference engine runs on version 1 of control groups here");
        }
        if app.api().get("/info").is(200).json()[$field] != true {
            skip!("this machine's control groups have no {}", $field);
        }
        app
    }};
}

/// What `script` prints in a container that was started with `limit`.
fn limited(app: &Appliance, limit: [&str; 2], script: &str) -> String {
    let image = app.busybox();
    let args = ["run", "--rm", limit[0], limit[1], &image, "sh", "-c", script];
    app.docker(args).succeeds().text()
}

/// F22, P9
#[test]
fn memory_is_limited_and_the_end_for_want_of_it_is_told() {
    let app = limiting!("MemoryLimit");
    assert_eq!(limited(app, ["--memory", "32m"], "cat /sys/fs/cgroup/memory.max"), "33554432\n");
    let name = app.name("greedy");
    // A last line without an end must be kept whole.
    let script = "test -e /again && exec sleep 600; touch /again; exec tail /dev/zero";
    let greedy = ["run", "--name", &name, "--memory", "32m", &app.busybox(), "sh", "-c", script];
    app.docker(greedy).exits(137);
    let state = app.inspect(&name)["State"].clone();
    assert_eq!((&state["OOMKilled"], &state["ExitCode"]), (&true.into(), &137.into()), "{state}");
    // C9
    let events = crate::events::events_of(app, &name);
    assert!(events.iter().any(|event| event["Action"] == "oom"), "{events:?}");
    app.docker(["start", &name]).succeeds();
    let state = app.inspect(&name)["State"].clone();
    assert_eq!((&state["OOMKilled"], &state["Running"]), (&false.into(), &true.into()), "{state}");
}

/// F22
#[test]
fn a_neighbour_is_spared_when_memory_runs_out() {
    let app = limiting!("MemoryLimit");
    let name = app.name("neighbour");
    app.docker(["run", "--detach", "--name", &name, "--memory", "32m", &app.busybox(), "sleep", "600"])
        .succeeds();
    app.docker(["run", "--rm", "--memory", "32m", &app.busybox(), "tail", "/dev/zero"]).exits(137);
    let state = app.inspect(&name)["State"].clone();
    assert_eq!((&state["Running"], &state["OOMKilled"]), (&true.into(), &false.into()), "{state}");
}

/// P9
#[test]
fn processor_time_is_limited() {
    let app = limiting!("CpuCfsQuota");
    assert_eq!(limited(app, ["--cpus", "0.5"], "cat /sys/fs/cgroup/cpu.max"), "50000 100000\n");
    let busy = "until grep -q 'nr_throttled [1-9]' /sys/fs/cgroup/cpu.stat; do :; done; echo throttled";
    assert_eq!(limited(app, ["--cpus", "0.1"], busy), "throttled\n");
}

/// P9
#[test]
fn processes_are_limited() {
    let app = limiting!("PidsLimit");
    assert_eq!(limited(app, ["--pids-limit", "7"], "cat /sys/fs/cgroup/pids.max"), "7\n");
    let bomb = "for i in 1 2 3 4 5 6 7 8 9; do sleep 600 & done";
    app.docker(["run", "--rm", "--pids-limit", "7", &app.busybox(), "sh", "-c", bomb])
        .fails()
        .says_on_stderr("can't fork: Resource temporarily unavailable");
}

/// A parent that was made for the container hands every controller on.
#[test]
fn what_is_below_a_named_parent_is_limited_too() {
    let app = limiting!("MemoryLimit");
    let image = app.busybox();
    let words = ["run", "--rm", "--cgroup-parent", "/limited/below", "--memory", "32m", "--pids-limit", "7"];
    let script = "cd /sys/fs/cgroup; cat memory.max pids.max";
    let shown = app.docker(words.into_iter().chain([image.as_str(), "sh", "-c", script]));
    shown.prints("33554432\n7\n").succeeds();
}

#[test]
fn without_a_limit_there_is_none() {
    let app = limiting!("MemoryLimit");
    let script = "cd /sys/fs/cgroup; cat memory.max cpu.max";
    let image = app.busybox();
    app.docker(["run", "--rm", &image, "sh", "-c", script]).prints("max\nmax 100000\n").succeeds();
}

/// D17
#[test]
fn too_little_memory_is_refused() {
    let app = appliance();
    app.docker(["run", "--rm", "--memory", "5m", &app.busybox(), "true"])
        .exits(125)
        .says_on_stderr("Minimum memory limit allowed is 6MB");
}
