//! Restart policies, and `docker restart`.

use crate::{appliance, is_reference};
use pinnace_tests::{Appliance, ContainerName, eventually, skip};
use serde_json::{Value, json};
use std::time::Duration;

/// Ends with code 3, again and again.
const FAILS: [&str; 3] = ["sh", "-c", "exit 3"];

fn start(stem: &str, policy: &str, command: &[&str]) -> ContainerName {
    let app = appliance();
    let (name, image) = (app.name(stem), app.busybox());
    let args = ["run", "--detach", "--restart", policy, "--name", &name, &image];
    app.docker(args.into_iter().chain(command.iter().copied())).succeeds();
    name
}

fn state(app: &Appliance, name: &str) -> Value {
    app.inspect(name)["State"].clone()
}

fn becomes(app: &Appliance, name: &str, status: &str) -> Value {
    eventually(&format!("{name} is {status}"), app.patience(), || {
        Some(state(app, name)).filter(|state| state["Status"] == status)
    })
}

fn count(app: &Appliance, name: &str) -> u64 {
    app.inspect(name)["RestartCount"].as_u64().expect("a count is a number")
}

/// F20
#[test]
fn on_failure_gives_up_after_its_retries() {
    let app = appliance();
    let name = start("on-failure", "on-failure:3", &FAILS);
    let state = becomes(app, &name, "exited");
    assert_eq!((count(app, &name), &state["ExitCode"]), (3, &json!(3)), "{state}");
    let policy = app.inspect(&name)["HostConfig"]["RestartPolicy"].clone();
    assert_eq!(policy, json!({ "Name": "on-failure", "MaximumRetryCount": 3 }));
}

#[test]
fn on_failure_is_content_with_success() {
    let app = appliance();
    let name = start("on-success", "on-failure", &["true"]);
    becomes(app, &name, "exited");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((count(app, &name), &state(app, &name)["Status"]), (0, &json!("exited")));
}

/// F20, F21
#[test]
fn always_starts_again_until_it_is_stopped() {
    let app = appliance();
    let name = start("always", "always", &["true"]);
    eventually("it was started again twice", app.patience(), || (count(app, &name) >= 2).then_some(()));
    app.docker(["stop", &name]).succeeds();
    let stopped = count(app, &name);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((count(app, &name), &state(app, &name)["Status"]), (stopped, &json!("exited")));
    // A start by hand begins anew.
    app.docker(["start", &name]).succeeds();
    assert!(count(app, &name) <= 1);
    eventually("it is started again", app.patience(), || (count(app, &name) >= 1).then_some(()));
}

/// One that has ended often enough to wait for some seconds.
fn waiting(stem: &str) -> ContainerName {
    let app = appliance();
    let name = start(stem, "always", &FAILS);
    eventually("its delay is long", app.patience(), || (count(app, &name) >= 5).then_some(()));
    becomes(app, &name, "restarting");
    name
}

/// F13, F20
/// E2, E15
#[test]
fn a_waiting_container_says_so() {
    let app = appliance();
    let name = waiting("restarting");
    let state = state(app, &name);
    let shown = (&state["Running"], &state["Restarting"], &state["Pid"], &state["ExitCode"]);
    assert_eq!(shown, (&json!(true), &json!(true), &json!(0), &json!(3)), "{state}");
    let filter = format!("name={}", &*name);
    let line =
        app.docker(["ps", "--filter", &filter, "--format", "{{.State}} {{.Status}}"]).succeeds().word();
    assert!(line.starts_with("restarting Restarting (3) ") && line.ends_with("ago"), "{line}");
    let api = app.api();
    let at = |verb: &str| format!("/containers/{}/{verb}", &*name);
    api.post(&at("start")).is(304);
    api.post(&at("pause")).refuses(409, "is restarting, wait until the container is running");
    api.post_json(&at("exec"), json!({ "Cmd": ["true"] })).refuses(409, "is restarting");
    if !is_reference(app) {
        api.delete(&format!("/containers/{}", &*name))
            .refuses(409, "container is restarting: stop the container");
    }
}

#[test]
fn stop_and_kill_end_the_waiting() {
    let app = appliance();
    for verb in ["stop", "kill"] {
        let name = waiting(&format!("waiting-{verb}"));
        let path = format!("/containers/{}/wait", &*name);
        let mut end = app.api().stream("POST", &path);
        app.docker([verb, &name]).succeeds();
        assert_eq!(end.next_json().expect("an answer")["StatusCode"], 3);
        let state = state(app, &name);
        assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(3)), "{verb}: {state}");
    }
}

#[test]
fn force_removes_what_waits() {
    let app = appliance();
    let name = waiting("waiting-rm");
    app.docker(["rm", "--force", &name]).succeeds();
    app.docker(["inspect", &name]).fails();
}

/// F18, F19
#[test]
fn waiting_for_an_exit_ends_with_the_first_run() {
    let app = appliance();
    let name = app.name("wait-first");
    app.docker([
        "create",
        "--restart",
        "on-failure:1",
        "--name",
        &name,
        &app.busybox(),
        "sh",
        "-c",
        "exit 5",
    ])
    .succeeds();
    let path = |condition: &str| format!("/containers/{}/wait?condition={condition}", &*name);
    let mut next = app.api().stream("POST", &path("next-exit"));
    let mut removed = app.api().stream("POST", &path("removed"));
    app.docker(["start", &name]).succeeds();
    assert_eq!(next.next_json().expect("an answer")["StatusCode"], 5);
    becomes(app, &name, "exited");
    assert_eq!(count(app, &name), 1);
    app.docker(["rm", &name]).succeeds();
    assert_eq!(removed.next_json().expect("an answer")["StatusCode"], 5);
}

/// F11
#[test]
fn another_signal_than_the_stop_signal_leaves_the_policy_alone() {
    let app = appliance();
    let name = app.name("kill-policy");
    let script = "trap 'exit 6' USR1 USR2; echo ready; while :; do usleep 20000; done";
    let create = ["run", "-d", "--restart", "always", "--stop-signal", "USR1", "--name", &name];
    let image = app.busybox();
    app.docker(create.into_iter().chain([image.as_str(), "sh", "-c", script])).succeeds();
    let ready = |times: usize| {
        eventually("it is ready", app.patience(), || {
            (app.docker(["logs", &name]).text().matches("ready").count() == times).then_some(())
        });
    };
    ready(1);
    app.docker(["kill", "--signal", "USR2", &name]).succeeds();
    ready(2);
    app.docker(["kill", "--signal", "USR1", &name]).succeeds();
    becomes(app, &name, "exited");
    assert_eq!(count(app, &name), 1);
}

/// F2, F4
#[test]
fn a_start_that_fails_is_not_tried_again() {
    let app = appliance();
    let name = app.name("policy-missing");
    app.docker(["run", "-d", "--restart", "always", "--name", &name, &app.busybox(), "no-such-program"])
        .exits(127);
    let state = state(app, &name);
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("created"), &json!(127)), "{state}");
    // PID 1 has forgotten the first attempt by now, or the second would be refused.
    for _ in 0..5 {
        app.docker(["start", &name]).says_on_stderr("executable file not found in $PATH").exits(1);
    }
    assert_eq!(count(app, &name), 0);
}

/// D15, D16
#[test]
fn bad_policies_are_refused() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has other words");
    }
    let refused = |host: Value, text: &str| {
        let body = json!({ "Image": app.busybox(), "Cmd": ["true"], "HostConfig": host });
        app.api().post_json("/containers/create", body).refuses(400, text);
    };
    let policy =
        |name: &str, retries: i64| json!({ "RestartPolicy": { "Name": name, "MaximumRetryCount": retries } });
    refused(policy("something", 0), "invalid restart policy: unknown policy 'something'");
    refused(policy("always", 1), "maximum retry count can only be used with 'on-failure'");
    refused(policy("on-failure", -1), "maximum retry count cannot be negative");
    refused(
        json!({ "RestartPolicy": { "Name": "always" }, "AutoRemove": true }),
        "can't create 'AutoRemove' container with restart policy",
    );
}

/// F9
#[test]
fn a_container_that_removes_itself_survives_a_restart() {
    let app = appliance();
    let name = app.name("restart-rm");
    app.docker(["run", "-d", "--rm", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    let id = app.inspect(&name)["Id"].clone();
    for _ in 0..3 {
        app.docker(["restart", "-t", "0", &name]).succeeds();
        assert_eq!((&state(app, &name)["Status"], &app.inspect(&name)["Id"]), (&json!("running"), &id));
    }
    app.docker(["stop", "-t", "0", &name]).succeeds();
    eventually("it is gone", app.patience(), || {
        (app.api().get(&format!("/containers/{}/json", &*name)).head.status == 404).then_some(())
    });
}

#[test]
fn restarts_in_a_row_lose_no_process() {
    let app = appliance();
    let name = start("restart-row", "no", &["sleep", "600"]);
    for _ in 0..10 {
        app.docker(["restart", "-t", "0", &name]).succeeds();
    }
    // PID 1 tells the end of the newest.
    app.docker(["kill", &name]).succeeds();
    assert_eq!(state(app, &name)["ExitCode"], 137);
    let state = state(app, &name);
    assert_eq!(state["Status"], "exited");
}

/// An appliance that nobody else uses, to be switched off and on.
fn own() -> Option<Appliance> {
    let backend = pinnace_tests::Backend::of_this_run();
    let dir = pinnace_tests::build_folder(&format!("test/{}-reboot-{}", backend.word(), std::process::id()));
    (backend != pinnace_tests::Backend::Reference).then(|| Appliance::boot(backend, &dir))
}

/// F21, P13
#[test]
fn policies_decide_what_starts_with_the_machine() {
    let Some(app) = own() else { skip!("the reference engine is not ours to switch off") };
    let image = app.busybox();
    let run_at = |app: &Appliance, name: &str, policy: &str, command: &[&str]| {
        let args = ["run", "-d", "--restart", policy, "--name", name, &image];
        app.docker(args.into_iter().chain(command.iter().copied())).succeeds();
    };
    let run = |name: &str, policy: &str, command: &[&str]| run_at(&app, name, policy, command);
    let sleep = ["sleep", "600"];
    for (name, policy) in [("always", "always"), ("unless", "unless-stopped"), ("no", "no")] {
        run(name, policy, &sleep);
        run(&format!("{name}-stopped"), policy, &sleep);
        app.docker(["stop", "-t", "0", &format!("{name}-stopped")]).succeeds();
    }
    run("waits", "always", &FAILS);
    app.docker(["create", "--restart", "always", "--name", "created", &image, "true"]).succeeds();
    let status = |app: &Appliance, name: &str| state(app, name)["Status"].clone();
    let check = |app: &Appliance| {
        for name in ["always", "always-stopped", "unless"] {
            becomes(app, name, "running");
        }
        eventually("it goes on", app.patience(), || (count(app, "waits") >= 1).then_some(()));
        for (name, expected) in [("unless-stopped", "exited"), ("no", "exited"), ("no-stopped", "exited")] {
            assert_eq!(status(app, name), expected, "{name}");
        }
        assert_eq!(status(app, "created"), "created");
    };
    let (backend, dir) = (app.backend, app.dir.clone());
    app.pinnace("down").run().succeeds();
    let again = Appliance::boot(backend, &dir);
    check(&again);
    // Nobody is asked when the power is cut.
    let Some(machine) = again.status()["machine_pid"].as_u64() else { return };
    again.docker(["stop", "-t", "0", "always-stopped"]).succeeds();
    // What was acknowledged is on disk, however short the time.
    run_at(&again, "late", "always", &sleep);
    pinnace_tests::Program::new("kill", again.patience())
        .args(["-KILL", &machine.to_string()])
        .run()
        .succeeds();
    again.pinnace("down").run();
    let third = Appliance::boot(backend, &dir);
    check(&third);
    becomes(&third, "late", "running");
    assert_eq!(state(&third, "no")["ExitCode"], json!(137), "killed when the machine first went down");
    third.pinnace("down").run().succeeds();
    drop((app, again, third));
    std::fs::remove_dir_all(&dir).expect("the folder is the test's own");
}
