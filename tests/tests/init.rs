//! `docker run --init`.

use crate::appliance;
use pinnace_tests::api::Body;
use pinnace_tests::eventually;
use serde_json::json;

fn run<'a>(args: &[&'a str], script: &'a str) -> pinnace_tests::Outcome {
    let app = appliance();
    let image = app.busybox();
    let all = ["run", "--rm", "--init"].into_iter().chain(args.iter().copied());
    app.docker(all.chain([image.as_str(), "sh", "-c", script]))
}

/// P11
/// D35
#[test]
fn the_init_is_process_one_and_the_program_its_child() {
    let outcome =
        run(&[], "tr '\\0' ' ' < /proc/1/cmdline; echo; cut -d' ' -f4 /proc/$$/stat; echo $$").succeeds();
    let lines = outcome.lines();
    assert!(lines[0].starts_with("/sbin/docker-init -- sh -c "), "{lines:?}");
    assert_eq!(lines[1], "1");
    assert_ne!(lines[2], "1");
}

/// P11
#[test]
fn exit_codes_and_signals_pass_through() {
    run(&[], "exit 42").exits(42);
    run(&[], "kill -KILL $$").exits(137);
    let app = appliance();
    let image = app.busybox();
    app.docker(["run", "--rm", "--init", &image, "no-such-program"])
        .exits(127)
        .says_on_stderr("no-such-program failed: No such file or directory");
    app.docker(["run", "--rm", "--init", &image, "/etc"]).exits(126);
    let name = app.name("init-signal");
    let script = "trap 'echo asked; exit 9' TERM; echo ready; while :; do usleep 20000; done";
    app.docker(["run", "-d", "--init", "--name", &name, &image, "sh", "-c", script]).succeeds();
    eventually("it is ready", app.patience(), || {
        app.docker(["logs", &name]).text().contains("ready").then_some(())
    });
    app.docker(["stop", &name]).succeeds();
    let seen = app.inspect(&name);
    assert_eq!(
        (&seen["State"]["ExitCode"], &seen["HostConfig"]["Init"], &seen["Path"]),
        (&json!(9), &json!(true), &json!("sh"))
    );
}

#[test]
fn a_program_without_handlers_ends_at_once() {
    let app = appliance();
    let name = app.name("init-deaf");
    app.docker(["run", "-d", "--init", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    let start = std::time::Instant::now();
    app.docker(["stop", &name]).succeeds();
    assert_eq!(app.inspect(&name)["State"]["ExitCode"], 143);
    assert!(start.elapsed() < std::time::Duration::from_secs(8));
}

/// Before it has handlers, process 1 of a pid namespace loses every signal that is not held back.
#[test]
fn a_signal_at_the_very_start_is_not_lost() {
    let app = appliance();
    let body = json!({ "Image": app.busybox(), "Cmd": ["sleep", "600"], "HostConfig": { "Init": true } });
    let mut api = app.api().connect();
    for _ in 0..20 {
        let name = app.name("init-early");
        let path = format!("/containers/{}", &*name);
        api.call("POST", &format!("/containers/create?name={}", &*name), Body::Json(&body)).is(201);
        api.call("POST", &format!("{path}/start"), Body::Empty).is(204);
        api.call("POST", &format!("{path}/kill?signal=TERM"), Body::Empty).is(204);
        let ended = api.call("POST", &format!("{path}/wait"), Body::Empty).is(200).json();
        assert_eq!(ended["StatusCode"], 143);
    }
}

/// P11
#[test]
fn orphans_are_buried() {
    let script = "(for i in 1 2 3; do (sleep 0.$i &) ; done); sleep 1; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
    run(&[], script).prints("0\n").succeeds();
}

#[test]
fn it_works_at_a_terminal_as_another_user_on_a_read_only_root() {
    run(&["--user", "1000:1000", "--read-only", "--security-opt", "no-new-privileges"], "id -u")
        .prints("1000\n")
        .succeeds();
    let app = appliance();
    let image = app.busybox();
    let mut terminal = app.docker_at_terminal(["run", "--rm", "-it", "--init", &image, "sh"]);
    terminal.types("echo he''re\n").shows("here").types("exit 3\n");
    terminal.exits(3);
}
