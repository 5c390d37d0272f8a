//! `docker stop`, `kill`, `restart`, `wait`, `rm`.

use crate::{appliance, is_reference};
use pinnace_tests::{ContainerName, eventually, images::Image, skip};
use serde_json::json;
use std::time::{Duration, Instant};

/// A container that runs `script` once it has said `ready`.
fn running(stem: &str, script: &str) -> ContainerName {
    let app = appliance();
    let name = app.name(stem);
    let script = format!("{script}; echo ready; while :; do usleep 20000; done");
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sh", "-c", &script]).succeeds();
    eventually("it is ready", app.patience(), || {
        app.docker(["logs", &name]).text().contains("ready").then_some(())
    });
    name
}

fn exit_code(name: &str) -> serde_json::Value {
    appliance().inspect(name)["State"]["ExitCode"].clone()
}

/// F7
#[test]
fn stop_asks_before_it_kills() {
    let app = appliance();
    let name = running("stop-term", "trap 'echo asked; exit 8' TERM");
    app.docker(["stop", &name]).prints(&format!("{}\n", &*name)).succeeds();
    assert_eq!(exit_code(&name), 8);
    app.docker(["logs", &name]).mentions("asked");
}

/// F7
#[test]
fn stop_kills_what_does_not_listen() {
    let app = appliance();
    let name = running("stop-deaf", "trap '' TERM");
    let start = Instant::now();
    app.docker(["stop", "-t", "1", &name]).succeeds();
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(exit_code(&name), 137);
}

/// F7
#[test]
fn stop_with_no_time_kills_at_once() {
    let app = appliance();
    let name = running("stop-now", "trap '' TERM");
    app.docker(["stop", "-t", "0", &name]).succeeds();
    assert_eq!(exit_code(&name), 137);
}

/// F7
#[test]
fn stop_uses_the_images_signal() {
    let app = appliance();
    let name = app.name("stop-signal");
    let script = "trap 'exit 21' USR1; echo ready; while :; do usleep 20000; done";
    let image = app.image(Image::Configured);
    app.docker(["run", "--detach", "--name", &name, "--entrypoint", "sh", &image, "-c", script]).succeeds();
    eventually("it is ready", app.patience(), || {
        app.docker(["logs", &name]).text().contains("ready").then_some(())
    });
    app.docker(["stop", &name]).succeeds();
    assert_eq!(exit_code(&name), 21);
}

/// F7
/// A15
#[test]
fn stop_of_a_stopped_container_changes_nothing() {
    let app = appliance();
    let name = app.name("stop-stopped");
    app.docker(["run", "--name", &name, &app.busybox(), "true"]).succeeds();
    app.docker(["stop", &name]).succeeds();
    let answer = app.api().post(&format!("/containers/{}/stop", &*name)).is(304);
    assert!(answer.body.is_empty() && answer.head.header("Content-Type").is_none(), "{}", answer.text());
    app.api().post("/containers/no-such-container/stop").refuses(404, "No such container");
}

/// F10
#[test]
fn kill_sends_any_signal() {
    let app = appliance();
    let name = running("kill-signal", "trap 'echo hup' HUP; trap 'exit 4' USR2");
    app.docker(["kill", "--signal", "HUP", &name]).succeeds();
    eventually("HUP arrived", app.patience(), || {
        app.docker(["logs", &name]).text().contains("hup").then_some(())
    });
    app.docker(["kill", "--signal", "SIGUSR2", &name]).succeeds();
    app.docker(["wait", &name]).prints("4\n").succeeds();
}

/// F10, F23
#[test]
fn kill_is_done_when_it_answers() {
    let app = appliance();
    let name = running("kill", "true");
    app.docker(["kill", &name]).prints(&format!("{}\n", &*name)).succeeds();
    let state = app.inspect(&name)["State"].clone();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(137)), "{state}");
}

/// F10
#[test]
fn kill_refuses_nonsense() {
    let app = appliance();
    let name = app.name("kill-nonsense");
    app.docker(["run", "--name", &name, &app.busybox(), "true"]).succeeds();
    let path = format!("/containers/{}/kill", &*name);
    app.api().post(&path).refuses(409, "is not running");
    app.api().post(&format!("{path}?signal=SIGNONSENSE")).refuses(400, "nvalid signal: SIGNONSENSE");
}

/// F9
#[test]
fn restart_is_a_new_process() {
    let app = appliance();
    let name = running("restart", "trap 'exit 0' TERM");
    let pid = app.inspect(&name)["State"]["Pid"].clone();
    app.docker(["restart", &name]).succeeds();
    let state = app.inspect(&name)["State"].clone();
    assert_eq!(state["Status"], "running");
    assert_ne!(state["Pid"], pid);
}

#[test]
fn wait_tells_the_exit_code() {
    let app = appliance();
    let name = app.name("wait");
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sh", "-c", "sleep 1; exit 33"])
        .succeeds();
    app.docker(["wait", &name]).prints("33\n").succeeds();
    app.docker(["wait", &name]).prints("33\n").succeeds();
    app.docker(["wait", "no-such-container"]).says_on_stderr("No such container").exits(1);
}

/// F17, F18, F19
#[test]
fn wait_answers_its_head_at_once() {
    let app = appliance();
    let (api, name) = (app.api(), app.name("wait-head"));
    let body = json!({ "Image": app.busybox(), "Cmd": ["sh", "-c", "exit 12"] });
    api.post_json(&format!("/containers/create?name={}", &*name), body).is(201);
    // The head of the answer is there before the container ever ran (F17).
    let mut next_exit = api.stream("POST", &format!("/containers/{}/wait?condition=next-exit", &*name));
    let mut removed = api.stream("POST", &format!("/containers/{}/wait?condition=removed", &*name));
    assert_eq!((next_exit.head.status, removed.head.status), (200, 200));
    let now = api.post(&format!("/containers/{}/wait?condition=not-running", &*name)).is(200).json();
    assert_eq!(now["StatusCode"], 0);
    api.post(&format!("/containers/{}/start", &*name)).is(204);
    assert_eq!(next_exit.next_json().expect("an answer")["StatusCode"], 12);
    api.delete(&format!("/containers/{}", &*name)).is(204);
    assert_eq!(removed.next_json().expect("an answer")["StatusCode"], 12);
}

/// F18
#[test]
fn wait_refuses_unknown_conditions() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine takes any word");
    }
    let name = app.name("wait-never");
    app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds();
    app.api().post(&format!("/containers/{}/wait?condition=never", &*name)).refuses(400, "nvalid condition");
}

/// F13
#[test]
fn rm_refuses_what_runs_unless_forced() {
    let app = appliance();
    let name = running("rm", "true");
    app.docker(["rm", &name]).says_on_stderr("running").exits(1);
    let refusal = app.api().delete(&format!("/containers/{}", &*name));
    if !is_reference(app) {
        let text =
            format!("cannot remove container \"{}\": container is running: stop the container", &*name);
        refusal.refuses(409, &text);
    }
    app.docker(["rm", "--force", &name]).prints(&format!("{}\n", &*name)).succeeds();
    app.docker(["rm", &name]).says_on_stderr("No such container").exits(1);
}

#[test]
fn rm_frees_the_name() {
    let app = appliance();
    let (name, image) = (app.name("rm-name"), app.busybox());
    for _ in 0..3 {
        app.docker(["create", "--name", &name, &image, "true"]).succeeds();
        app.docker(["rm", &name]).succeeds();
    }
}

/// F16
#[test]
fn run_rm_survives_a_kill_from_elsewhere() {
    let app = appliance();
    let name = app.name("run-killed");
    let script = "echo ready; while :; do usleep 20000; done";
    let mut run = app.docker_beside(["run", "--rm", "--name", &name, &app.busybox(), "sh", "-c", script]);
    run.reads_until("ready");
    app.docker(["kill", &name]).succeeds();
    assert_eq!(run.finish().0, 137);
    eventually("it is removed", app.patience(), || {
        (app.api().get(&format!("/containers/{}/json", &*name)).head.status == 404).then_some(())
    });
}

#[test]
fn signals_to_the_command_line_reach_the_program() {
    let app = appliance();
    let name = app.name("sig-proxy");
    let script = "trap 'echo bye; exit 14' TERM; echo ready; while :; do usleep 20000; done";
    let program = app.docker_program(["run", "--rm", "--name", &name, &app.busybox(), "sh", "-c", script]);
    let mut run = pinnace_tests::Running::start(program, app.patience());
    run.reads_until("ready");
    run.signal("TERM");
    let (code, rest) = run.finish();
    assert_eq!((code, &*rest), (14, &["bye".to_owned()][..]));
}
