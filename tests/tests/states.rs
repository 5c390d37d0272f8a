//! What a request does in each state of a container, and the words of its refusal (F1 to F20).

use crate::events::events_of;
use crate::{appliance, is_reference};
use pinnace_tests::api::{Body, Response};
use pinnace_tests::{Appliance, ContainerName, eventually, skip};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A container with this body beside the image.
fn created(app: &Appliance, stem: &str, mut body: Value) -> ContainerName {
    let name = app.name(stem);
    body["Image"] = app.busybox().into();
    app.api().post_json(&format!("/containers/create?name={}", &*name), body).is(201);
    name
}

/// One that runs `script`, which says `ready` when it is.
fn running(app: &Appliance, stem: &str, script: &str) -> ContainerName {
    let script = format!("{script}; echo ready; while :; do usleep 20000; done");
    let name = created(app, stem, json!({ "Cmd": ["sh", "-c", script] }));
    post(app, &name, "start").is(204);
    eventually("it is ready", app.patience(), || {
        app.docker(["logs", &name]).text().contains("ready").then_some(())
    });
    name
}

fn post(app: &Appliance, name: &str, verb: &str) -> Response {
    app.api().post(&format!("/containers/{name}/{verb}"))
}

fn state(app: &Appliance, name: &str) -> Value {
    app.inspect(name)["State"].clone()
}

fn id(app: &Appliance, name: &str) -> String {
    app.inspect(name)["Id"].as_str().expect("an id").to_owned()
}

/// The refusal's text is exactly this.
#[track_caller]
fn says(answer: Response, status: u16, text: &str) {
    assert_eq!(answer.refuses(status, "").json()["message"], text);
}

/// F1
#[test]
fn a_start_depends_on_the_state() {
    let app = appliance();
    let name = created(app, "states-start", json!({ "Cmd": ["sleep", "600"] }));
    let start = format!("/containers/{}/start", &*name);
    let text =
        "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24";
    if !is_reference(app) {
        says(app.api().post_json(&start, json!({ "Binds": [] })), 400, text);
    }
    app.api().post_json(&start, json!({})).is(204);
    post(app, &name, "start").is(304);
    post(app, &name, "pause").is(204);
    says(post(app, &name, "start"), 409, "cannot start a paused container, try unpause instead");
    says(app.api().post("/containers/no-such/start"), 404, "No such container: no-such");
}

/// F2, F4
#[test]
fn a_start_that_fails_says_why() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has other words");
    }
    let prefix = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc \
                  create failed: unable to start container process: error during container init: ";
    for (program, code, why) in [
        ("no-such", 127, "executable file not found in $PATH"),
        ("/no/such", 127, "stat /no/such: no such file or directory"),
        ("/etc/passwd", 126, "permission denied"),
        ("/etc", 126, "is a directory: permission denied"),
    ] {
        let name = created(app, "states-fail", json!({ "Cmd": [program] }));
        let text = format!("{prefix}exec: \"{program}\": {why}");
        says(post(app, &name, "start"), 400, &text);
        let state = state(app, &name);
        let shown = (&state["Status"], &state["ExitCode"], &state["Error"], &state["Running"]);
        assert_eq!(shown, (&json!("created"), &json!(code), &json!(text), &json!(false)), "{state}");
    }
    let body = json!({ "Cmd": ["no-such"], "HostConfig": { "AutoRemove": true } });
    let name = created(app, "states-fail-rm", body);
    post(app, &name, "start").is(400);
    eventually("it removes itself", app.patience(), || {
        (app.api().get(&format!("/containers/{}/json", &*name)).head.status == 404).then_some(())
    });
}

/// F6
#[test]
fn a_folder_is_no_file() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has other words");
    }
    for bind in ["/tmp:/etc/passwd", "/proc/version:/etc"] {
        let body = json!({ "Cmd": ["true"], "HostConfig": { "Binds": [bind] } });
        let name = created(app, "states-mount", body);
        let text = "not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check if the \
                    specified host path exists and is the expected type";
        post(app, &name, "start").refuses(400, text);
        assert_eq!(state(app, &name)["ExitCode"], 127);
    }
}

/// F7
#[test]
fn a_stop_uses_what_it_is_told() {
    let app = appliance();
    // The request's signal before the container's.
    let name = running(app, "states-signal", "trap 'exit 5' USR1; trap 'exit 6' TERM");
    // Old clients name no signal here.
    let old = format!("/v1.41/containers/{}/stop?signal=KILL", &*name);
    app.api().post(&old).is(204);
    assert_eq!(state(app, &name)["ExitCode"], 6);
    post(app, &name, "start").is(204);
    eventually("it is ready again", app.patience(), || {
        (app.docker(["logs", &name]).text().matches("ready").count() == 2).then_some(())
    });
    says(post(app, &name, "stop?signal=NONSENSE"), 400, "invalid signal: NONSENSE");
    post(app, &name, "stop?signal=USR1").is(204);
    assert_eq!(state(app, &name)["ExitCode"], 5);
    // The container's time.
    let body = json!({ "Cmd": ["sleep", "600"], "StopTimeout": 1 });
    let name = created(app, "states-timeout", body);
    post(app, &name, "start").is(204);
    let begin = Instant::now();
    post(app, &name, "stop").is(204);
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(8), "{took:?}");
    // Process 1 that does not listen is not ended by a signal (P11).
    assert_eq!(state(app, &name)["ExitCode"], 137);
}

/// F7: -1 waits as long as it takes.
#[test]
fn a_stop_can_wait_for_ever() {
    let app = appliance();
    let name = running(app, "states-ever", "trap '' TERM");
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| {
            let begin = Instant::now();
            post(app, &name, "stop?t=-1").is(204);
            begin.elapsed()
        });
        std::thread::sleep(Duration::from_secs(12));
        assert_eq!(state(app, &name)["Running"], true);
        app.docker(["kill", &name]).succeeds();
        let took = stopping.join().expect("no panic");
        assert!(took > Duration::from_secs(11), "{took:?}");
    });
}

/// F8
#[test]
fn a_stop_goes_on_without_its_client() {
    let app = appliance();
    let name = running(app, "states-gone", "trap '' TERM");
    for verb in ["stop", "restart"] {
        let mut connection = app.api().connect();
        connection.send("POST", &format!("/containers/{}/{verb}?t=1", &*name), &[], Body::Empty);
        std::thread::sleep(Duration::from_millis(200));
        drop(connection);
        let end = format!("{verb}: it is over");
        let event = if verb == "stop" { "stop" } else { "restart" };
        eventually(&end, app.patience(), || {
            let events = events_of(app, &name);
            events.iter().any(|entry| entry["Action"] == event).then_some(())
        });
    }
    assert_eq!(state(app, &name)["Status"], "running");
}

/// F9
#[test]
fn a_restart_starts_what_is_stopped() {
    let app = appliance();
    let name = created(app, "states-restart", json!({ "Cmd": ["sleep", "600"] }));
    post(app, &name, "restart").is(204);
    assert_eq!(state(app, &name)["Status"], "running");
    post(app, &name, "stop?t=0").is(204);
    post(app, &name, "restart?t=0").is(204);
    assert_eq!(state(app, &name)["Status"], "running");
    says(app.api().post("/containers/no-such/restart"), 404, "No such container: no-such");
}

/// F10
#[test]
fn a_kill_names_what_it_was_given() {
    let app = appliance();
    let name =
        created(app, "states-kill", json!({ "Cmd": ["sh", "-c", "trap 'exit 3' 10; sleep 600 & wait"] }));
    let id = id(app, &name);
    if !is_reference(app) {
        let text = format!("cannot kill container: {}: container {id} is not running", &*name);
        says(post(app, &name, "kill"), 409, &text);
        let text = format!("cannot kill container: {}: invalid signal: nonsense", &*name);
        says(post(app, &name, "kill?signal=nonsense"), 400, &text);
        let text = "cannot kill container: no-such: No such container: no-such";
        says(app.api().post("/containers/no-such/kill"), 404, text);
    }
    post(app, &name, "start").is(204);
    for nothing in ["28", "WINCH", "SIGWINCH", "sigwinch"] {
        post(app, &name, &format!("kill?signal={nothing}")).is(204);
    }
    eventually("it listens", app.patience(), || {
        let heard = post(app, &name, "kill?signal=10").head.status == 204;
        std::thread::sleep(Duration::from_millis(50));
        // The one before may have ended it.
        (!heard || state(app, &name)["Running"] == false).then_some(())
    });
    assert_eq!(state(app, &name)["ExitCode"], 3);
}

/// F11, F12
#[test]
fn what_is_paused_can_be_stopped_and_killed() {
    let app = appliance();
    let name = running(app, "states-frozen", "trap 'exit 4' TERM");
    let paused = || {
        post(app, &name, "start");
        eventually("it is ready", app.patience(), || {
            let runs = app.docker(["logs", &name]).text().matches("ready").count();
            let starts = events_of(app, &name).iter().filter(|event| event["Action"] == "start").count();
            (runs == starts).then_some(())
        });
        post(app, &name, "pause").is(204);
        assert_eq!(state(app, &name)["Status"], "paused");
    };
    paused();
    post(app, &name, "kill").is(204);
    assert_eq!(
        (&state(app, &name)["Status"], &state(app, &name)["ExitCode"]),
        (&json!("exited"), &json!(137))
    );
    paused();
    // Its stop signal thaws it.
    post(app, &name, "kill?signal=TERM").is(204);
    app.docker(["wait", &name]).prints("4\n");
    paused();
    post(app, &name, "stop").is(204);
    assert_eq!(state(app, &name)["ExitCode"], 4);
}

/// F12, F13
#[test]
fn pausing_is_refused_where_it_makes_no_sense() {
    let app = appliance();
    let name = created(app, "states-pause", json!({ "Cmd": ["sleep", "600"] }));
    let id = id(app, &name);
    says(post(app, &name, "pause"), 409, &format!("container {id} is not running"));
    post(app, &name, "start").is(204);
    says(post(app, &name, "unpause"), 500, &format!("Container {id} is not paused"));
    post(app, &name, "pause").is(204);
    let shown = state(app, &name);
    assert_eq!((&shown["Running"], &shown["Paused"]), (&json!(true), &json!(true)), "{shown}");
    says(post(app, &name, "pause"), 409, &format!("container {id} is already paused"));
    if !is_reference(app) {
        let refusal = app.api().delete(&format!("/containers/{}", &*name));
        let text = format!(
            "cannot remove container \"{}\": container is paused: stop the container before removing or force remove",
            &*name
        );
        says(refusal, 409, &text);
    }
    post(app, &name, "unpause").is(204);
    assert_eq!(state(app, &name)["Status"], "running");
    post(app, &name, "pause").is(204);
    app.api().delete(&format!("/containers/{}?force=1", &*name)).is(204);
}

/// F14
#[test]
fn the_second_of_two_removals_is_told() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine waits for the first");
    }
    // Many files, so that taking them away takes a while.
    let script = "mkdir /many; cd /many; for d in $(seq 60); do mkdir $d; (cd $d; touch $(seq 200)); done";
    let path = |name: &str| format!("/containers/{name}");
    let in_progress = || {
        let name = app.name("states-removal");
        app.docker(["run", "--name", &name, &app.busybox(), "sh", "-c", script]).succeeds();
        let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| app.api().delete(&path(&name)))).collect();
            let answers = threads.into_iter().map(|thread| thread.join().expect("no panic"));
            answers.map(|answer| (answer.head.status, answer.text())).collect()
        });
        assert_eq!(answers.iter().filter(|(status, _)| *status == 204).count(), 1, "{answers:?}");
        let text = format!("{{\"message\":\"removal of container {} is already in progress\"}}\n", &*name);
        let told =
            answers.iter().filter(|(status, _)| *status == 409).inspect(|(_, told)| assert_eq!(*told, text));
        (told.count() > 0).then_some(())
    };
    eventually("one comes while another is at work", app.patience(), in_progress);
}

/// F16
#[test]
fn what_removes_itself_tells_its_end() {
    let app = appliance();
    let body = json!({ "Cmd": ["sh", "-c", "echo out; exit 7"], "HostConfig": { "AutoRemove": true } });
    let name = created(app, "states-rm", body);
    let mut removed = app.api().stream("POST", &format!("/containers/{}/wait?condition=removed", &*name));
    post(app, &name, "start").is(204);
    let end = removed.next_json().expect("an answer");
    // F19
    assert_eq!((&end["StatusCode"], &end["Error"]), (&json!(7), &Value::Null), "{end}");
    let logs = format!("/containers/{}/logs?stdout=1", &*name);
    app.api().get(&logs).refuses(404, "No such container");
    post(app, &name, "wait").refuses(404, "No such container");
}

/// F20
#[test]
fn delays_double() {
    let app = appliance();
    let body = json!({ "Cmd": ["false"], "HostConfig": { "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 4 } } });
    let name = created(app, "states-delay", body);
    post(app, &name, "start").is(204);
    eventually("it gives up", app.patience(), || (state(app, &name)["Status"] == "exited").then_some(()));
    let times = |action: &str| -> Vec<u64> {
        let events = events_of(app, &name).into_iter().filter(|event| event["Action"] == action);
        events.map(|event| event["timeNano"].as_u64().expect("a time")).collect()
    };
    let (starts, ends) = (times("start"), times("die"));
    assert_eq!((starts.len(), ends.len()), (5, 5));
    for (number, (end, start)) in ends.iter().zip(&starts[1..]).enumerate() {
        let (waited, least) = (start - end, 100_000_000 << number);
        assert!(waited >= least && waited < least + 2_000_000_000, "{number}: {waited} ns");
    }
}

/// F25
#[test]
fn one_prune_at_a_time() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has other words");
    }
    let script = "mkdir /many; cd /many; for d in $(seq 60); do mkdir $d; (cd $d; touch $(seq 200)); done";
    let twice = || {
        let name = app.name("states-prune");
        let mark = format!("mark={}", &*name);
        app.docker(["run", "--name", &name, "--label", &mark, &app.busybox(), "sh", "-c", script]).succeeds();
        let path = format!("/containers/prune?filters=%7B%22label%22%3A%5B%22{mark}%22%5D%7D");
        let answers: Vec<Response> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| app.api().post(&path))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let refused = answers.into_iter().filter(|answer| answer.head.status != 200);
        let refused = refused.map(|answer| says(answer, 409, "a prune operation is already running")).count();
        (refused > 0).then_some(())
    };
    eventually("one comes while another is at work", app.patience(), twice);
}
