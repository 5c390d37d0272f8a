//! The surroundings of a container's processes, as its options make them (P1 to P12).

use crate::{appliance, is_reference};
use pinnace_tests::{Appliance, Backend, skip};
use serde_json::json;

/// What `script` prints in a container with these options.
fn inside(app: &Appliance, options: &[&str], script: &str) -> String {
    let image = app.busybox();
    let args = ["run", "--rm"].into_iter().chain(options.iter().copied());
    app.docker(args.chain([image.as_str(), "sh", "-c", script])).succeeds().text()
}

/// P2
#[test]
fn groups_are_added() {
    let app = appliance();
    let groups = inside(app, &["--user", "guest", "--group-add", "root", "--group-add", "4242"], "id -G");
    let groups: Vec<&str> = groups.split_whitespace().collect();
    for group in ["1000", "29", "0", "4242"] {
        assert!(groups.contains(&group), "{group} in {groups:?}");
    }
    let image = app.busybox();
    app.docker(["run", "--rm", "--group-add", "no-such", &image, "id"])
        .fails()
        .says_on_stderr("unable to find group no-such: no matching entries in group file");
}

/// P3
#[test]
fn privileged_lifts_what_confines() {
    let app = appliance();
    let script = "grep -E '^(CapEff|Seccomp):' /proc/1/status; grep -c ' /proc/sys proc ro' /proc/mounts; \
                  mount -t tmpfs none /tmp && echo mounted; mkdir /sys/fs/cgroup/x && rmdir /sys/fs/cgroup/x && echo made";
    let text = inside(app, &["--privileged"], script);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("CapEff:\t000001ff") || lines[0].starts_with("CapEff:\t000003ff"), "{text}");
    if is_reference(app) {
        skip!("the reference engine runs on version 1 of control groups here");
    }
    assert_eq!(lines[1..], ["Seccomp:\t0", "0", "mounted", "made"]);
}

/// P3: the two lists can be given; an empty one covers nothing.
#[test]
fn masks_can_be_chosen() {
    let app = appliance();
    let run = |host: serde_json::Value, script: &str| {
        let name = app.name("masks");
        let body = json!({ "Image": app.busybox(), "Cmd": ["sh", "-c", script], "HostConfig": host });
        app.api().post_json(&format!("/containers/create?name={}", &*name), body).is(201);
        app.docker(["start", "--attach", &name]).text()
    };
    let script = "test -s /proc/cmdline && echo seen || echo masked; (echo 1 > /tmp/x) 2>/dev/null && echo written || echo kept";
    assert_eq!(run(json!({}), script), "seen\nwritten\n");
    let lists = json!({ "MaskedPaths": ["/proc/cmdline"], "ReadonlyPaths": ["/tmp"] });
    assert_eq!(run(lists, script), "masked\nkept\n");
    let none = json!({ "MaskedPaths": [], "ReadonlyPaths": [] });
    let default = run(json!({}), "grep -cE ' /proc/(kcore|sys|irq|bus)' /proc/mounts");
    assert!(default.trim().parse::<u32>().expect("a number") > 2, "{default}");
    assert_eq!(run(none, "grep -cE ' /proc/(kcore|sys|irq|bus)' /proc/mounts"), "0\n");
}

/// P5
#[test]
fn limits_of_resources_are_set() {
    let app = appliance();
    let options = ["--ulimit", "nofile=77:88", "--ulimit", "core=0", "--ulimit", "memlock=65536"];
    assert_eq!(inside(app, &options, "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -l"), "77\n88\n0\n64\n");
    // Fewer than the engine has open.
    let few = app.name("few-files");
    let run = ["run", "--detach", "--name", &few, "--ulimit", "nofile=20:20", &app.busybox(), "sleep", "600"];
    app.docker(run).succeeds();
    app.docker(["exec", &few, "sh", "-c", "ulimit -Hn; grep -c . /proc/1/limits"])
        .prints("20\n17\n")
        .succeeds();
    let body = json!({ "Image": app.busybox(), "HostConfig": { "Ulimits": [{ "Name": "no-such", "Soft": 1, "Hard": 1 }] } });
    app.api().post_json("/containers/create", body).refuses(400, "invalid ulimit type: no-such");
}

/// P5: who is born among others is made by a process that counts, too.
#[test]
fn the_limit_of_processes_is_an_execs_too() {
    let app = appliance();
    if app.backend == Backend::Namespace && !may_raise_limits() {
        skip!("this host's root may not raise limits");
    }
    let lone = app.name("few-processes");
    let limits = ["--user", "1000", "--ulimit", "nproc=77:77"];
    let run = ["run", "--detach", "--name", &lone].into_iter().chain(limits);
    app.docker(run.chain([&app.busybox()[..], "sleep", "600"])).succeeds();
    app.docker(["exec", &lone, "sh", "-c", "grep -c 'Max processes  *77  *77' /proc/self/limits"])
        .prints("1\n")
        .succeeds();
}

/// Whether root here has CAP_SYS_RESOURCE (24).
fn may_raise_limits() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is there");
    let mut lines = status.lines().filter_map(|line| line.strip_prefix("CapEff:"));
    let bits = lines.next().map(|bits| u64::from_str_radix(bits.trim(), 16).expect("a number"));
    bits.is_some_and(|bits| bits >> 24 & 1 == 1)
}

/// P7
#[test]
fn shared_memory_has_the_size_that_was_asked_for() {
    let app = appliance();
    let script = "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2";
    assert_eq!(inside(app, &["--shm-size", "3m"], script), "3072\n");
    assert_eq!(inside(app, &["--shm-size", "1g"], script), "1048576\n");
}

/// P8
#[test]
fn a_read_only_root_leaves_what_is_needed() {
    let app = appliance();
    let script = "touch /x 2>/dev/null && echo root; touch /etc/hosts 2>/dev/null && echo hosts; \
                  touch /dev/shm/x && echo shm; touch /scratch/x && echo scratch; echo x > /dev/null && echo null; \
                  echo sh > /proc/self/comm && echo proc; touch /dev/x && echo dev";
    let printed = inside(app, &["--read-only", "--tmpfs", "/scratch"], script);
    assert_eq!(printed, "shm\nscratch\nnull\nproc\ndev\n");
    // P10
    assert_eq!(
        inside(app, &[], "touch /x && echo root; id -u; tr -s ' ' < /proc/self/uid_map"),
        "root\n0\n 0 0 4294967295\n"
    );
}

/// P12
#[test]
fn a_terminal_begins_with_its_size() {
    let app = appliance();
    let name = app.name("console-size");
    let body = json!({
        "Image": app.busybox(), "Cmd": ["stty", "size"], "Tty": true, "HostConfig": { "ConsoleSize": [57, 123] },
    });
    app.api().post_json(&format!("/containers/create?name={}", &*name), body).is(201);
    app.api().post(&format!("/containers/{}/start", &*name)).is(204);
    app.docker(["wait", &name]).prints("0\n");
    app.docker(["logs", &name]).prints("57 123\r\n");
}
