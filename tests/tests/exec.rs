//! `docker exec`.

use crate::{appliance, is_reference};
use pinnace_tests::api::Body;
use pinnace_tests::images::digest;
use pinnace_tests::{ContainerName, Frames};
use serde_json::json;
use std::io::Write;

/// A container that does nothing, for a long time.
fn sleeper(stem: &str) -> ContainerName {
    let app = appliance();
    let name = app.name(stem);
    let args = [
        "run",
        "--detach",
        "--name",
        &name,
        "-e",
        "FROM=container",
        "-w",
        "/tmp",
        &app.busybox(),
        "sleep",
        "600",
    ];
    app.docker(args).succeeds();
    name
}

/// F23, G19
#[test]
fn exec_prints_and_tells_the_exit_code() {
    let app = appliance();
    let name = sleeper("exec");
    let outcome =
        app.docker(["exec", &name, "sh", "-c", "echo out; echo err >&2; exit 5"]).prints("out\n").exits(5);
    assert_eq!(outcome.stderr, b"err\n");
    app.docker(["exec", &name, "sh", "-c", "kill -KILL $$"]).exits(137);
}

/// G4
#[test]
fn exec_takes_input() {
    let app = appliance();
    let name = sleeper("exec-input");
    app.docker_fed("through\n", ["exec", "-i", &name, "cat"]).prints("through\n").exits(0);
    let bytes: Vec<u8> = (0..4 << 20).map(|i: u32| (i ^ (i >> 8)) as u8).collect();
    let outcome = app.docker_fed(bytes.clone(), ["exec", "-i", &name, "cat"]).exits(0);
    assert_eq!(digest(&outcome.stdout), digest(&bytes));
}

/// G21
#[test]
fn exec_inherits_and_overrides() {
    let app = appliance();
    let name = sleeper("exec-options");
    app.docker(["exec", &name, "sh", "-c", "echo $FROM $PWD $(id -un)"]).prints("container /tmp root\n");
    let args = [
        "exec",
        "-e",
        "FROM=exec",
        "-w",
        "/etc",
        "-u",
        "guest",
        &name,
        "sh",
        "-c",
        "echo $FROM $PWD $(id -un) $HOME",
    ];
    app.docker(args).prints("exec /etc guest /home\n").succeeds();
    app.docker(["exec", "-u", "1000:29", &name, "id", "-g"]).prints("29\n").succeeds();
}

#[test]
fn exec_lives_in_the_container() {
    let app = appliance();
    let name = sleeper("exec-inside");
    let script = "cat /proc/1/cmdline | tr '\\0' ' '; cat /proc/self/cgroup; hostname";
    let id = app.inspect(&name)["Id"].as_str().expect("an id").to_owned();
    let outcome = app.docker(["exec", &name, "sh", "-c", script]).succeeds().mentions("sleep 600");
    assert_eq!(outcome.lines().last().map(String::as_str), Some(&id[..12]));
    if !is_reference(app) {
        outcome.mentions("0::/\n");
    }
    let of_first =
        app.docker(["exec", &name, "grep", "-E", "^(Cap|Seccomp|NoNew)", "/proc/1/status"]).succeeds();
    let of_exec =
        app.docker(["exec", &name, "grep", "-E", "^(Cap|Seccomp|NoNew)", "/proc/self/status"]).succeeds();
    assert_eq!(of_first.text(), of_exec.text());
}

#[test]
fn exec_at_a_terminal() {
    let app = appliance();
    let name = sleeper("exec-tty");
    let mut terminal = app.docker_at_terminal(["exec", "-it", &name, "sh"]);
    terminal.shows("# ").types("tty && stty size\n").shows("/dev/pts/").shows("24 80");
    terminal.types("exit 11\n");
    terminal.exits(11);
}

/// G20
#[test]
fn what_cannot_be_executed_is_told() {
    let app = appliance();
    let name = sleeper("exec-missing");
    app.docker(["exec", &name, "no-such-program"]).exits(if is_reference(app) { 126 } else { 127 });
    app.docker(["exec", &name, "/etc/passwd"]).exits(126);
    app.docker(["exec", "-u", "nobody-here", &name, "true"]).fails();
}

/// G20
#[test]
fn what_cannot_be_begun_is_told_as_runc_tells_it() {
    let app = appliance();
    let name = sleeper("exec-words");
    let (api, path) = (app.api(), format!("/containers/{}/exec", &*name));
    let check = |fields: serde_json::Value, status: u16, words: &str, code: i64| {
        let mut create = json!({ "Cmd": ["true"], "AttachStdout": true, "AttachStderr": true });
        create.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let id = api.post_json(&path, create.clone()).is(201).json()["Id"].clone();
        let exec = format!("/exec/{}", id.as_str().expect("an id"));
        let stream = api.hijack(&format!("{exec}/start"), Body::Json(&json!({})));
        let told = Frames::read(stream).stdout();
        assert_eq!(told, format!("OCI runtime exec failed: exec failed: {words}\r\n"), "{create}");
        assert_eq!(api.get(&format!("{exec}/json")).json()["ExitCode"], code, "{create}");
        let id = api.post_json(&path, create).is(201).json()["Id"].clone();
        let start = format!("/exec/{}/start", id.as_str().expect("an id"));
        api.post_json(&start, json!({ "Detach": true })).refuses(status, words);
    };
    let unable = "unable to start container process: ";
    let chdir =
        |path: &str, why: &str| format!("{unable}chdir to cwd (\"{path}\") set in config.json failed: {why}");
    check(json!({ "WorkingDir": "/nope" }), 400, &chdir("/nope", "no such file or directory"), 127);
    let hint = ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path \
                exists and is the expected type";
    let no_folder = format!("{}{hint}", chdir("/etc/passwd", "not a directory"));
    check(json!({ "WorkingDir": "/etc/passwd" }), 400, &no_folder, 127);
    check(json!({ "WorkingDir": "rel" }), 500, "Cwd must be an absolute path", 128);
    let exec = |words: &str| format!("{unable}exec: {words}");
    check(json!({ "Cmd": ["/nope"] }), 400, &exec("\"/nope\": stat /nope: no such file or directory"), 127);
    check(json!({ "Cmd": ["nope"] }), 400, &exec("\"nope\": executable file not found in $PATH"), 127);
    check(json!({ "Cmd": ["/etc/passwd"] }), 400, &exec("\"/etc/passwd\": permission denied"), 126);
}

/// G15
#[test]
fn an_unknown_user_is_refused_at_the_create() {
    let app = appliance();
    let name = sleeper("exec-users");
    let create = |user: &str| {
        let body = json!({ "Cmd": ["true"], "User": user });
        app.api().post_json(&format!("/containers/{}/exec", &*name), body)
    };
    create("nope").refuses(400, "unable to find user nope: no matching entries in passwd file");
    create("root:nope").refuses(400, "unable to find group nope: no matching entries in group file");
    for big in ["2147483648", "0:2147483648", "-1", "4294967295"] {
        create(big).refuses(400, "uids and gids must be in range 0-2147483647");
    }
    for good in ["", "guest", "1000:99999", "guest:", ":", "01", "2147483647"] {
        create(good).is(201);
    }
}

/// G4, G16: the start says how the stream is written, the create whether the program has a terminal.
#[test]
fn the_start_decides_the_form_of_the_stream() {
    let app = appliance();
    let name = sleeper("exec-form");
    let api = app.api();
    let run = |terminal: bool, start: serde_json::Value| {
        let script = "echo out; tty; echo err >&2";
        let create = json!({
            "Cmd": ["sh", "-c", script], "AttachStdout": true, "AttachStderr": true, "Tty": terminal,
        });
        let id = api.post_json(&format!("/containers/{}/exec", &*name), create).is(201).json()["Id"].clone();
        let id = id.as_str().expect("an id").to_owned();
        let stream = api.hijack(&format!("/exec/{id}/start"), Body::Json(&start));
        let kind = stream.head.header("content-type").expect("a type").to_owned();
        (kind, stream)
    };
    let (kind, stream) = run(true, json!({ "Tty": false }));
    assert_eq!(kind, "application/vnd.docker.multiplexed-stream");
    let frames = Frames::read(stream);
    assert!(frames.stdout().starts_with("out\r\n/dev/pts/"), "{:?}", frames.stdout());
    assert_eq!(frames.stderr(), "");
    // A raw stream has no place for standard error.
    let (kind, mut stream) = run(false, json!({ "Tty": true }));
    assert_eq!(kind, "application/vnd.docker.raw-stream");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).expect("text");
    assert_eq!(text, "out\nnot a tty\n");
    let (kind, stream) = run(true, json!({}));
    assert_eq!(kind, "application/vnd.docker.multiplexed-stream");
    assert!(Frames::read(stream).stdout().ends_with("err\r\n"));
}

/// G4
#[test]
fn only_attached_streams_are_sent() {
    let app = appliance();
    let name = sleeper("exec-streams");
    let api = app.api();
    let run = |fields: serde_json::Value| {
        let mut create = json!({ "Cmd": ["sh", "-c", "echo out; echo err >&2"] });
        create.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let id = api.post_json(&format!("/containers/{}/exec", &*name), create).is(201).json()["Id"].clone();
        let id = id.as_str().expect("an id").to_owned();
        let frames = Frames::read(api.hijack(&format!("/exec/{id}/start"), Body::Json(&json!({}))));
        (frames.stdout(), frames.stderr())
    };
    assert_eq!(run(json!({ "AttachStdout": true })), ("out\n".to_owned(), String::new()));
    assert_eq!(run(json!({ "AttachStderr": true })), (String::new(), "err\n".to_owned()));
    assert_eq!(run(json!({})), (String::new(), String::new()));
}

/// G15
#[test]
fn exec_needs_a_running_container() {
    let app = appliance();
    let name = app.name("exec-stopped");
    app.docker(["run", "--name", &name, &app.busybox(), "true"]).succeeds();
    app.docker(["exec", &name, "true"]).says_on_stderr("is not running").exits(1);
    let body = json!({ "Cmd": ["true"] });
    app.api().post_json(&format!("/containers/{}/exec", &*name), body).refuses(409, "is not running");
    app.docker(["exec", "no-such-container", "true"]).says_on_stderr("No such container").exits(1);
}

/// G17
#[test]
fn detached_exec_goes_on_alone() {
    let app = appliance();
    let name = sleeper("exec-detached");
    app.docker(["exec", "--detach", &name, "sh", "-c", "echo done > /tmp/mark"]).prints("").succeeds();
    pinnace_tests::eventually("the mark is written", app.patience(), || {
        app.docker(["exec", &name, "cat", "/tmp/mark"]).text().contains("done").then_some(())
    });
}

/// G4, G16, G18, G19
#[test]
fn exec_over_the_wire() {
    let app = appliance();
    let (api, name) = (app.api(), sleeper("exec-wire"));
    let create = json!({ "Cmd": ["sh", "-c", "cat; exit 3"], "AttachStdin": true, "AttachStdout": true, "AttachStderr": true });
    let id = api.post_json(&format!("/containers/{}/exec", &*name), create).is(201).json()["Id"].clone();
    let id = id.as_str().expect("an id");
    let before = api.get(&format!("/exec/{id}/json")).is(200).json();
    assert_eq!((&before["Running"], &before["ExitCode"]), (&json!(false), &json!(null)), "{before}");
    let start = json!({ "Detach": false, "Tty": false });
    let mut stream = api.hijack(&format!("/exec/{id}/start"), Body::Json(&start));
    assert_eq!(stream.head.status, 101);
    stream.write_all(b"bytes behind the JSON").expect("the stream takes bytes");
    stream.half_close();
    assert_eq!(Frames::read(stream).stdout(), "bytes behind the JSON");
    // The CLI asks once, right after the stream's end (G19).
    let after = api.get(&format!("/exec/{id}/json")).is(200).json();
    assert_eq!((&after["Running"], &after["ExitCode"]), (&json!(false), &json!(3)), "{after}");
    assert_eq!(after["ProcessConfig"]["entrypoint"], "sh");
    if !is_reference(app) {
        api.post_json(&format!("/exec/{id}/start"), start).is(409);
    }
    api.get("/exec/0123456789abcdef/json").refuses(404, "No such exec instance");
}

/// G15
#[test]
fn an_empty_command_is_refused() {
    let app = appliance();
    let name = sleeper("exec-empty");
    let path = format!("/containers/{}/exec", &*name);
    app.api().post_json(&path, json!({ "Cmd": [] })).refuses(400, "No exec command specified");
}

/// G22
#[test]
fn stopping_the_container_ends_its_execs() {
    let app = appliance();
    let name = sleeper("exec-stop");
    let mut beside = app.docker_beside(["exec", &name, "sh", "-c", "echo ready; sleep 600"]);
    beside.reads_until("ready");
    app.docker(["kill", &name]).succeeds();
    let (code, _) = beside.finish();
    assert_eq!(code, 137);
}

/// What a process left behind may still print: its client hears it, as with dockerd for two seconds.
#[test]
fn exec_ends_with_its_output_and_not_with_its_process() {
    let app = appliance();
    let name = sleeper("exec-late");
    let script = "(sleep 1; echo late) & echo started";
    app.docker(["exec", &name, "sh", "-c", script]).prints("started\nlate\n").exits(0);
    // Who prints later still is not killed for it.
    let script = "(sleep 4; echo too late; echo survived > /tmp/mark) & echo started";
    app.docker(["exec", &name, "sh", "-c", script]).prints("started\n").exits(0);
    let wait = "until test -s /tmp/mark; do sleep 0.1; done; cat /tmp/mark";
    app.docker(["exec", &name, "sh", "-c", wait]).prints("survived\n").exits(0);
}

/// An exec belongs to the run in which it was created.
#[test]
fn an_exec_does_not_outlive_its_run() {
    let app = appliance();
    let name = sleeper("exec-of-run");
    let created = app.api().post_json(&format!("/containers/{}/exec", &*name), json!({ "Cmd": ["true"] }));
    let id = created.is(201).json()["Id"].as_str().expect("an id").to_owned();
    app.docker(["stop", "-t", "0", &name]).succeeds();
    let start = |id: &str| app.api().post_json(&format!("/exec/{id}/start"), json!({ "Detach": true }));
    start(&id).refuses(404, "No such exec instance");
    app.docker(["start", &name]).succeeds();
    start(&id).refuses(404, "No such exec instance");
}
