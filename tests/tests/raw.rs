//! Raw streams of attach and exec, and what their requests are refused with (G1 to G23).

use crate::events::events_of;
use crate::{appliance, is_reference};
use pinnace_tests::api::{Body, Hijacked};
use pinnace_tests::{Appliance, ContainerName, Frames, eventually, skip};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

fn created(app: &Appliance, stem: &str, mut body: Value) -> ContainerName {
    let name = app.name(stem);
    body["Image"] = app.busybox().into();
    app.api().post_json(&format!("/containers/create?name={}", &*name), body).is(201);
    name
}

fn started(app: &Appliance, stem: &str, body: Value) -> ContainerName {
    let name = created(app, stem, body);
    app.api().post(&format!("/containers/{}/start", &*name)).is(204);
    name
}

fn sleeper(app: &Appliance, stem: &str) -> ContainerName {
    started(app, stem, json!({ "Cmd": ["sleep", "600"], "Env": ["FROM=container"] }))
}

fn attach(app: &Appliance, name: &str, query: &str) -> Hijacked {
    app.api().hijack(&format!("/containers/{name}/attach?{query}"), Body::Empty)
}

fn all(mut stream: Hijacked) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("a stream that ends");
    bytes
}

fn id(app: &Appliance, name: &str) -> String {
    app.inspect(name)["Id"].as_str().expect("an id").to_owned()
}

/// A new exec's id.
fn exec(app: &Appliance, name: &str, body: Value) -> String {
    let made = app.api().post_json(&format!("/containers/{name}/exec"), body).is(201).json();
    let id = made["Id"].as_str().expect("an id").to_owned();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    id
}

fn exec_state(app: &Appliance, id: &str) -> Value {
    app.api().get(&format!("/exec/{id}/json")).is(200).json()
}

/// G3: byte by byte.
#[test]
fn frames_are_eight_bytes_and_a_payload() {
    let app = appliance();
    let script = "printf ab; usleep 300000; printf c >&2";
    let name = created(app, "raw-frames", json!({ "Cmd": ["sh", "-c", script] }));
    let stream = attach(app, &name, "stream=1&stdout=1&stderr=1");
    app.api().post(&format!("/containers/{}/start", &*name)).is(204);
    assert_eq!(all(stream), b"\x01\0\0\0\0\0\0\x02ab\x02\0\0\0\0\0\0\x01c");
    let name = created(app, "raw-tty", json!({ "Cmd": ["sh", "-c", script], "Tty": true }));
    let stream = attach(app, &name, "stream=1&stdout=1&stderr=1");
    // G2: a terminal is raw in every version.
    assert_eq!(stream.head.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
    app.api().post(&format!("/containers/{}/start", &*name)).is(204);
    assert_eq!(all(stream), b"abc");
}

/// G6
#[test]
fn input_stays_open_for_the_next() {
    let app = appliance();
    let name = started(app, "raw-again", json!({ "Cmd": ["cat"], "OpenStdin": true, "StdinOnce": false }));
    for line in ["one\n", "two\n"] {
        let mut stream = attach(app, &name, "stream=1&stdin=1&stdout=1");
        stream.write_all(line.as_bytes()).expect("the stream takes bytes");
        stream.half_close();
        eventually("it arrived", app.patience(), || {
            app.docker(["logs", &name]).text().ends_with(line).then_some(())
        });
    }
    app.docker(["logs", &name]).prints("one\ntwo\n");
    assert_eq!(app.inspect(&name)["State"]["Running"], true);
}

/// G8
#[test]
fn an_attach_is_refused_before_its_upgrade() {
    let app = appliance();
    let name = sleeper(app, "raw-paused");
    app.docker(["pause", &name]).succeeds();
    let refused = |path: &str, status: u16, text: &str| {
        let mut connection = app.api().connect();
        let headers = [("Connection", "Upgrade"), ("Upgrade", "tcp")];
        let answer = connection.call_with("POST", path, &headers, Body::Empty).refuses(status, text);
        assert_eq!(answer.json()["message"], text);
        // It is an answer like any other.
        connection.call("GET", "/_ping", Body::Empty).is(200);
    };
    let text = format!("container {} is paused, unpause the container before attach", &*name);
    refused(&format!("/containers/{}/attach?stream=1", &*name), 409, &text);
    refused("/containers/no-such/attach?stream=1", 404, "No such container: no-such");
    app.docker(["unpause", &name]).succeeds();
    let policy = json!({ "RestartPolicy": { "Name": "always" } });
    let name = started(app, "raw-restarting", json!({ "Cmd": ["false"], "HostConfig": policy }));
    eventually("it waits for long", app.patience(), || {
        let seen = app.inspect(&name);
        let waits = seen["RestartCount"].as_u64() >= Some(4) && seen["State"]["Status"] == "restarting";
        waits.then_some(())
    });
    if !is_reference(app) {
        let text = format!("container {} is restarting, wait until the container is running", &*name);
        refused(&format!("/containers/{}/attach?stream=1", &*name), 409, &text);
    }
}

/// G9
#[test]
fn an_attach_without_a_stream_ends() {
    let app = appliance();
    let name = started(app, "raw-past", json!({ "Cmd": ["sh", "-c", "echo past; sleep 600"] }));
    eventually("it printed", app.patience(), || {
        app.docker(["logs", &name]).text().contains("past").then_some(())
    });
    assert_eq!(Frames::read(attach(app, &name, "logs=1&stdout=1&stderr=1")).stdout(), "past\n");
    assert_eq!(all(attach(app, &name, "stdout=1&stderr=1")), b"");
    assert_eq!(app.inspect(&name)["State"]["Running"], true);
}

/// G10
#[test]
fn who_detaches_is_told_in_an_event() {
    let app = appliance();
    let name = started(app, "raw-detach", json!({ "Cmd": ["cat"], "OpenStdin": true, "Tty": true }));
    let mut stream = attach(app, &name, "stream=1&stdin=1&stdout=1");
    stream.write_all(b"\x10\x11").expect("the stream takes bytes");
    all(stream);
    let create = json!({ "Cmd": ["cat"], "Tty": true, "AttachStdin": true, "AttachStdout": true, "DetachKeys": "x,y" });
    let exec = exec(app, &name, create);
    let mut stream = app.api().hijack(&format!("/exec/{exec}/start"), Body::Json(&json!({ "Tty": true })));
    stream.write_all(b"xy").expect("the stream takes bytes");
    all(stream);
    assert_eq!(exec_state(app, &exec)["Running"], true);
    assert_eq!(app.inspect(&name)["State"]["Running"], true);
    let actions: Vec<Value> = events_of(app, &name).iter().map(|event| event["Action"].clone()).collect();
    for action in ["attach", "detach", "exec_detach"] {
        assert!(actions.contains(&json!(action)), "{action} in {actions:?}");
    }
}

/// G14
#[test]
fn sizes_are_numbers_of_something_that_runs() {
    let app = appliance();
    let script = "sleep 1; stty size; sleep 600";
    let name = created(app, "raw-size", json!({ "Cmd": ["sh", "-c", script], "Tty": true }));
    let id = id(app, &name);
    let resize = |query: &str| app.api().post(&format!("/containers/{}/resize?{query}", &*name));
    if !is_reference(app) {
        let text = |answer: pinnace_tests::api::Response| answer.refuses(400, "").json()["message"].clone();
        assert_eq!(text(resize("h=abc&w=1")), "invalid resize height \"abc\": invalid syntax");
        assert_eq!(text(resize("h=1&w=-1")), "invalid resize width \"-1\": invalid syntax");
        assert_eq!(
            text(resize("h=4294967296&w=1")),
            "invalid resize height \"4294967296\": value out of range"
        );
        assert_eq!(text(resize("w=1")), "invalid resize height \"\": invalid syntax");
    }
    resize("h=30&w=99").refuses(409, &format!("container {id} is not running"));
    app.api().post(&format!("/containers/{}/start", &*name)).is(204);
    resize("h=30&w=99").is(200);
    eventually("the size is seen", app.patience(), || {
        app.docker(["logs", &name]).text().contains("30 99").then_some(())
    });
    let create = json!({ "Cmd": ["sh", "-c", "sleep 1; stty size"], "Tty": true, "AttachStdout": true });
    let exec = exec(app, &name, create);
    let path = format!("/exec/{exec}/resize?h=31&w=98");
    std::thread::scope(|scope| {
        // Before the start, for which it waits.
        let resizing = scope.spawn(|| app.api().post(&path).is(200));
        std::thread::sleep(Duration::from_millis(300));
        let start = json!({ "Tty": true });
        let stream = app.api().hijack(&format!("/exec/{exec}/start"), Body::Json(&start));
        resizing.join().expect("no panic");
        assert_eq!(all(stream), b"31 98\r\n");
    });
    app.api().post("/exec/no-such/resize?h=1&w=1").refuses(404, "No such exec instance: no-such");
}

/// G15
#[test]
fn an_exec_is_refused_where_nothing_runs() {
    let app = appliance();
    let name = created(app, "raw-exec-no", json!({ "Cmd": ["sleep", "600"] }));
    let id = id(app, &name);
    let path = format!("/containers/{}/exec", &*name);
    let create = |body: Value| app.api().post_json(&path, body);
    create(json!({ "Cmd": ["true"] })).refuses(409, &format!("container {id} is not running"));
    app.docker(["start", &name]).succeeds();
    create(json!({})).refuses(400, "No exec command specified");
    create(json!({ "Cmd": ["true"], "DetachKeys": "ctrl-A" })).refuses(400, "nvalid detach keys");
    app.docker(["pause", &name]).succeeds();
    create(json!({ "Cmd": ["true"] })).refuses(409, "is paused, unpause the container before exec");
    app.docker(["unpause", &name]).succeeds();
    create(json!({ "Cmd": ["true"], "User": "nobody-here" }))
        .refuses(400, "unable to find user nobody-here: no matching entries in passwd file");
}

/// G17, G20
#[test]
fn an_exec_that_cannot_start_says_so() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has other words");
    }
    let name = sleeper(app, "raw-exec-fail");
    for (program, code, why) in [
        ("no-such", 127, "executable file not found in $PATH"),
        ("/etc/passwd", 126, "permission denied"),
        ("/etc", 126, "is a directory: permission denied"),
    ] {
        let detached = exec(app, &name, json!({ "Cmd": [program] }));
        let answer = app.api().post_json(&format!("/exec/{detached}/start"), json!({ "Detach": true }));
        let prefix = "OCI runtime exec failed: exec failed: unable to start container process: exec: ";
        let message = answer.refuses(400, "").json()["message"].clone();
        assert_eq!(message, format!("{prefix}\"{program}\": {why}"));
        assert_eq!(exec_state(app, &detached)["ExitCode"], code);
        let attached =
            exec(app, &name, json!({ "Cmd": [program], "AttachStdout": true, "AttachStderr": true }));
        let stream = app.api().hijack(&format!("/exec/{attached}/start"), Body::Json(&json!({})));
        assert_eq!(stream.head.status, 101);
        let told = String::from_utf8_lossy(&all(stream)).into_owned();
        assert!(told.contains(why), "{told}");
        let state = exec_state(app, &attached);
        assert_eq!((&state["Running"], &state["ExitCode"]), (&json!(false), &json!(code)), "{state}");
    }
    let detached = exec(app, &name, json!({ "Cmd": ["sh", "-c", "sleep 600"] }));
    let answer = app.api().post_json(&format!("/exec/{detached}/start"), json!({ "Detach": true })).is(200);
    assert!(answer.body.is_empty(), "{}", answer.text());
    assert_eq!(exec_state(app, &detached)["Running"], true);
}

/// G18
#[test]
fn an_exec_starts_once() {
    let app = appliance();
    let name = sleeper(app, "raw-exec-once");
    let start = |id: &str| app.api().post_json(&format!("/exec/{id}/start"), json!({ "Detach": true }));
    let long = exec(app, &name, json!({ "Cmd": ["sleep", "600"] }));
    start(&long).is(200);
    if !is_reference(app) {
        start(&long).refuses(409, &format!("exec command {long} is already running"));
    }
    let short = exec(app, &name, json!({ "Cmd": ["true"] }));
    start(&short).is(200);
    eventually("it ended", app.patience(), || (exec_state(app, &short)["Running"] == false).then_some(()));
    if !is_reference(app) {
        start(&short).refuses(409, &format!("exec command {short} has already run"));
    }
    start("no-such").refuses(404, "No such exec instance: no-such");
}

/// G19, G23
#[test]
fn an_exec_can_be_looked_at_while_it_runs_and_after() {
    let app = appliance();
    let name = sleeper(app, "raw-exec-look");
    let create = json!({
        "Cmd": ["sh", "-c", "until test -e /tmp/go; do usleep 20000; done; exit 4"], "User": "0", "Privileged": true,
        "AttachStdout": true,
    });
    let exec = exec(app, &name, create);
    let stream = app.api().hijack(&format!("/exec/{exec}/start"), Body::Json(&json!({})));
    let state = eventually("it runs", app.patience(), || {
        Some(exec_state(app, &exec)).filter(|state| state["Running"] == true)
    });
    assert_eq!((&state["ExitCode"], &state["CanRemove"]), (&Value::Null, &json!(false)), "{state}");
    assert!(state["Pid"].as_u64() > Some(0), "{state}");
    assert_eq!(state["ContainerID"], id(app, &name).as_str());
    let process = json!({
        "tty": false, "entrypoint": "sh", "arguments": ["-c", "until test -e /tmp/go; do usleep 20000; done; exit 4"],
        "privileged": true, "user": "0",
    });
    assert_eq!(state["ProcessConfig"], process);
    assert_eq!((&state["OpenStdin"], &state["OpenStdout"]), (&json!(false), &json!(true)));
    assert_eq!(app.inspect(&name)["ExecIDs"], json!([exec]));
    app.docker(["exec", &name, "touch", "/tmp/go"]).succeeds();
    all(stream);
    let state = exec_state(app, &exec);
    let shown = (&state["Running"], &state["ID"], &state["ExitCode"], &state["CanRemove"]);
    assert_eq!(shown, (&json!(false), &json!(exec), &json!(4), &json!(true)), "{state}");
    eventually("it is no longer listed", app.patience(), || {
        app.inspect(&name)["ExecIDs"].is_null().then_some(())
    });
}

/// G21
#[test]
fn an_exec_has_the_groups_and_limits_of_its_container() {
    let app = appliance();
    let host =
        json!({ "GroupAdd": ["29", "777"], "Ulimits": [{ "Name": "nofile", "Soft": 99, "Hard": 100 }] });
    let name = started(app, "raw-exec-groups", json!({ "Cmd": ["sleep", "600"], "HostConfig": host }));
    // P2
    app.docker(["exec", &name, "id", "-G"]).mentions("29").mentions("777");
    app.docker(["exec", "-u", "guest", &name, "id", "-G"]).mentions("1000").mentions("777");
    // P5
    app.docker(["exec", &name, "sh", "-c", "ulimit -Sn; ulimit -Hn"]).prints("99\n100\n");
    let effective = |options: &[&str]| {
        let args = ["exec"].into_iter().chain(options.iter().copied());
        app.docker(args.chain([&*name, "grep", "CapEff", "/proc/self/status"])).succeeds().word()
    };
    assert!(effective(&[]).ends_with("00000000a80425fb"));
    assert!(!effective(&["--privileged"]).ends_with("00000000a80425fb"));
    app.docker(["exec", "-e", "MORE=1", &name, "sh", "-c", "echo $FROM$MORE$HOSTNAME"])
        .prints(&format!("1{}\n", &id(app, &name)[..12]));
    let create = json!({ "Cmd": ["stty", "size"], "Tty": true, "AttachStdin": true, "AttachStdout": true, "ConsoleSize": [41, 142] });
    let exec = exec(app, &name, create);
    let stream = app.api().hijack(&format!("/exec/{exec}/start"), Body::Json(&json!({ "Tty": true })));
    assert_eq!(all(stream), b"41 142\r\n");
}

/// G22
#[test]
fn an_exec_outlives_its_client() {
    let app = appliance();
    let name = sleeper(app, "raw-exec-alone");
    let create = json!({ "Cmd": ["sh", "-c", "sleep 1; echo on; touch /tmp/went-on"], "AttachStdout": true });
    let exec = exec(app, &name, create);
    let stream = app.api().hijack(&format!("/exec/{exec}/start"), Body::Json(&json!({})));
    drop(stream);
    eventually("it went on", app.patience(), || {
        (app.docker(["exec", &name, "ls", "/tmp/went-on"]).code == 0).then_some(())
    });
    eventually("its end is known", app.patience(), || {
        (exec_state(app, &exec)["ExitCode"] == 0).then_some(())
    });
}

/// G11: one that does not read is waited for, but not when it is gone, and the others get all there is.
#[test]
fn who_leaves_takes_nothing_from_the_others() {
    let app = appliance();
    let script = "read go; seq 100000";
    let body = json!({ "Cmd": ["sh", "-c", script], "OpenStdin": true });
    let name = started(app, "raw-others", body);
    let idle = attach(app, &name, "stream=1&stdout=1");
    let mut reader = attach(app, &name, "stream=1&stdin=1&stdout=1");
    reader.write_all(b"go\n").expect("the stream takes bytes");
    let begin = Instant::now();
    let reading = std::thread::spawn(move || Frames::read(reader).stdout());
    std::thread::sleep(Duration::from_millis(300));
    drop(idle);
    let expected = (1..=100_000).map(|number| format!("{number}\n")).collect::<String>();
    assert!(reading.join().expect("no panic") == expected);
    assert!(begin.elapsed() < app.patience());
}
