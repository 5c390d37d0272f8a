//! What a container leaves: its log, its files, its health; and where they are kept (H, I, K).

use crate::events::events_of;
use crate::{appliance, is_reference};
use pinnace_tests::api::{Body, Response};
use pinnace_tests::{Appliance, ContainerName, Frames, Program, eventually, skip};
use serde_json::{Value, json};
use std::io::Read;
use std::time::{Duration, Instant};

fn started(app: &Appliance, stem: &str, mut body: Value) -> ContainerName {
    let name = app.name(stem);
    body["Image"] = app.busybox().into();
    app.api().post_json(&format!("/containers/create?name={}", &*name), body).is(201);
    app.api().post(&format!("/containers/{}/start", &*name)).is(204);
    name
}

/// A container that ran `script` to its end.
fn ran(app: &Appliance, stem: &str, script: &str, host: Value) -> ContainerName {
    let name = started(app, stem, json!({ "Cmd": ["sh", "-c", script], "HostConfig": host }));
    app.docker(["wait", &name]).succeeds();
    name
}

fn logs(app: &Appliance, name: &str, query: &str) -> Response {
    app.api().get(&format!("/containers/{name}/logs?{query}"))
}

fn printed(app: &Appliance, name: &str, query: &str) -> String {
    Frames::read(&logs(app, name, query).is(200).body[..]).stdout()
}

/// H1
#[test]
fn a_log_of_nothing_is_refused() {
    let app = appliance();
    let name = ran(app, "kept-none", "true", json!({}));
    if is_reference(app) {
        skip!("the reference engine has other words");
    }
    let told = logs(app, &name, "follow=1").refuses(400, "").json()["message"].clone();
    assert_eq!(told, "must specify at least one of 'stdout' or 'stderr'");
}

/// H2, H4, G2
#[test]
fn a_logs_head_comes_before_its_lines() {
    let app = appliance();
    let script = "echo old; until test -e /tmp/go; do usleep 20000; done; echo new";
    let name = started(app, "kept-head", json!({ "Cmd": ["sh", "-c", script] }));
    eventually("it printed", app.patience(), || {
        app.docker(["logs", &name]).text().contains("old").then_some(())
    });
    let follow = |version: &str| {
        let path = format!("{version}/containers/{}/logs?stdout=1&follow=1&tail=0", &*name);
        app.api().stream("GET", &path)
    };
    let begin = Instant::now();
    let (new, old) = (follow("/v1.42"), follow("/v1.41"));
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(new.head.header("Transfer-Encoding"), Some("chunked"));
    if !is_reference(app) {
        assert_eq!(new.head.header("Content-Type"), Some("application/vnd.docker.multiplexed-stream"));
    }
    assert_eq!(old.head.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
    app.lets_go(&name);
    assert_eq!(Frames::read(new).stdout(), "new\n");
    assert_eq!(Frames::read(old).stdout(), "new\n");
    assert_eq!(printed(app, &name, "stdout=1&tail=nonsense"), "old\nnew\n");
    assert_eq!(printed(app, &name, "stdout=1&tail=-1"), "old\nnew\n");
}

/// H3, H5
#[test]
fn times_are_inclusive_at_both_ends() {
    let app = appliance();
    let name =
        ran(app, "kept-times", "echo one; usleep 1100000; echo two; usleep 1100000; echo three", json!({}));
    let body = logs(app, &name, "stdout=1&timestamps=1").is(200).body;
    let frames = Frames::read(&body[..]).0;
    let lines: Vec<String> =
        frames.iter().map(|frame| String::from_utf8_lossy(&frame.payload).into_owned()).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let (time, text) = lines[1].split_once(' ').expect("time and text");
    assert_eq!((time.len(), text), (30, "two\n"));
    let seconds =
        Program::new("date", Duration::from_secs(30)).args(["-d", time, "+%s.%N"]).run().succeeds().word();
    assert_eq!(printed(app, &name, &format!("stdout=1&since={seconds}")), "two\nthree\n");
    assert_eq!(printed(app, &name, &format!("stdout=1&until={seconds}")), "one\ntwo\n");
    assert_eq!(printed(app, &name, &format!("stdout=1&since={seconds}&until={seconds}")), "two\n");
    let whole = seconds.split('.').next().expect("seconds").parse::<u64>().expect("a number") + 1;
    assert_eq!(printed(app, &name, &format!("stdout=1&since={whole}")), "three\n");
}

/// H8
#[test]
fn a_driver_that_keeps_nothing_is_not_implemented() {
    let app = appliance();
    let name = ran(app, "kept-nothing", "echo gone", json!({ "LogConfig": { "Type": "none" } }));
    logs(app, &name, "stdout=1").refuses(501, "configured logging driver does not support reading");
}

/// Where the engine keeps what it has.
fn root_dir(app: &Appliance) -> String {
    app.api().get("/info").is(200).json()["DockerRootDir"].as_str().expect("a path").to_owned()
}

/// What the file of a log has, read from the machine's disk.
fn on_disk(app: &Appliance, folder: &str, script: &str) -> String {
    let (bind, image) = (format!("{folder}:/kept:ro"), app.busybox());
    app.docker(["run", "--rm", "-v", &bind, &image, "sh", "-c", script]).succeeds().text()
}

/// H11
#[test]
fn a_record_is_a_line_of_json() {
    let app = appliance();
    let name = ran(app, "kept-json", "echo 'a \"b\" <c>'; usleep 100000; printf end >&2", json!({}));
    let seen = app.inspect(&name);
    let (path, id) = (seen["LogPath"].as_str().expect("a path"), seen["Id"].as_str().expect("an id"));
    let root = root_dir(app);
    assert_eq!(path, format!("{root}/containers/{id}/{id}-json.log"));
    if is_reference(app) {
        skip!("the reference engine's disk is not the machine's");
    }
    let folder = path.rsplit_once('/').expect("a folder").0;
    let text = on_disk(app, folder, "cat /kept/*-json.log");
    let records: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let shown = |record: &Value| (record["log"].clone(), record["stream"].clone());
    assert_eq!(shown(&records[0]), (json!("a \"b\" <c>\n"), json!("stdout")));
    assert_eq!(shown(&records[1]), (json!("end"), json!("stderr")));
    assert!(records.iter().all(|record| record["time"].as_str().is_some_and(|time| time.ends_with('Z'))));
    assert!(records[0]["time"].as_str() < records[1]["time"].as_str());
}

/// H12
#[test]
fn drivers_take_the_common_options() {
    let app = appliance();
    for kind in ["json-file", "local", "none"] {
        let config = json!({ "Type": kind, "Config": { "mode": "non-blocking", "max-buffer-size": "1m" } });
        let name = ran(app, "kept-mode", "echo kept", json!({ "LogConfig": config }));
        if kind != "none" {
            assert_eq!(printed(app, &name, "stdout=1"), "kept\n");
        }
    }
    // `local` begins a new file at 20 MB, and packs the old one.
    let script =
        "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 22000000";
    let name = ran(app, "kept-local", script, json!({ "LogConfig": { "Type": "local" } }));
    assert_eq!(printed(app, &name, "stdout=1").len(), 22_000_000);
    if is_reference(app) {
        skip!("the reference engine's disk is not the machine's");
    }
    let id = app.inspect(&name)["Id"].as_str().expect("an id").to_owned();
    let files =
        on_disk(app, &format!("{}/containers/{id}", root_dir(app)), "cd /kept; find . -name '*.log*' | sort");
    assert!(files.starts_with("./container.log\n./container.log.1.gz\n"), "{files}");
    let sizes =
        on_disk(app, &format!("{}/containers/{id}", root_dir(app)), "stat -c %s /kept/container.log*");
    let sizes: Vec<u64> = sizes.lines().map(|line| line.parse().expect("a number")).collect();
    assert!(sizes[0] <= 20_000_000 && sizes[1] < 10_000_000, "{sizes:?}");
}

/// I2, I6
#[test]
fn a_check_has_dockers_defaults() {
    let app = appliance();
    let check = json!({ "Test": ["CMD-SHELL", "exit 1"], "Interval": 200_000_000, "Retries": 0 });
    let name = started(app, "kept-health", json!({ "Cmd": ["sleep", "600"], "Healthcheck": check }));
    let health = || app.inspect(&name)["State"]["Health"].clone();
    // Three in a row, where nobody says how many.
    let ill = eventually("it is ill", app.patience(), || {
        let seen = health();
        let streak = seen["FailingStreak"].as_u64().expect("a number");
        assert_eq!(seen["Status"] == "starting", streak < 3, "{seen}");
        (streak >= 3).then_some(seen)
    });
    assert_eq!(ill["Status"], "unhealthy");
    let actions: Vec<Value> = events_of(app, &name).iter().map(|event| event["Action"].clone()).collect();
    let position = |wanted: &str| {
        let found = actions.iter().position(|action| action == wanted);
        found.unwrap_or_else(|| panic!("{wanted} in {actions:?}"))
    };
    let asked = position("exec_create: /bin/sh -c exit 1");
    assert!(asked < position("exec_start: /bin/sh -c exit 1"));
    assert!(position("exec_die") < position("health_status: unhealthy"));
    // A restart begins anew.
    app.docker(["restart", "-t", "0", &name]).succeeds();
    let anew = health();
    assert!(anew["FailingStreak"].as_u64() < Some(3) && anew["Status"] == "starting", "{anew}");
    // An interval that nobody gave is long.
    let check = json!({ "Test": ["CMD", "true"] });
    let name = started(app, "kept-slow", json!({ "Cmd": ["sleep", "600"], "Healthcheck": check }));
    std::thread::sleep(Duration::from_secs(2));
    let health = app.inspect(&name)["State"]["Health"].clone();
    assert_eq!((&health["Status"], &health["Log"]), (&json!("starting"), &json!([])), "{health}");
}

/// I1: the words of the image's shell.
#[test]
fn a_check_is_a_shells_or_a_commands() {
    let app = appliance();
    let healthy = |body: Value| {
        let name = started(app, "kept-check", body);
        eventually("it is well", app.patience(), || {
            (app.inspect(&name)["State"]["Health"]["Status"] == "healthy").then_some(())
        });
    };
    let every = 200_000_000;
    let check = json!({ "Test": ["CMD-SHELL", "test $((1 + 1)) = 2"], "Interval": every });
    healthy(json!({ "Cmd": ["sleep", "600"], "Healthcheck": check }));
    let check = json!({ "Test": ["CMD", "test", "a b", "=", "a b"], "Interval": every });
    healthy(json!({ "Cmd": ["sleep", "600"], "Healthcheck": check }));
    let check = json!({ "Test": ["NONE"] });
    let name = started(app, "kept-unchecked", json!({ "Cmd": ["sleep", "600"], "Healthcheck": check }));
    assert!(app.inspect(&name)["State"]["Health"].is_null());
}

fn tar_with(content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, "f", content).expect("memory");
    builder.into_inner().expect("memory")
}

/// K11
#[test]
fn an_upload_needs_neither_length_nor_type() {
    let app = appliance();
    let name = started(app, "kept-upload", json!({ "Cmd": ["sleep", "600"] }));
    let path = format!("/containers/{}/archive?path=/tmp", &*name);
    let tar = tar_with(b"in pieces");
    let mut connection = app.api().connect();
    connection.send_raw(
        format!("PUT {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes(),
    );
    for piece in tar.chunks(300) {
        connection.send_raw(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
    }
    connection.send_raw(b"0\r\n\r\n");
    assert_eq!(connection.head().status, 200);
    app.docker(["exec", &name, "cat", "/tmp/f"]).prints("in pieces");
    for kind in ["text/plain", "application/octet-stream"] {
        app.api().call("PUT", &path, Body::Bytes(kind, &tar_with(kind.as_bytes()))).is(200);
        app.docker(["exec", &name, "cat", "/tmp/f"]).prints(kind);
    }
}

/// K9
#[test]
fn copies_see_what_is_mounted() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine's disk is not the machine's");
    }
    let host = json!({ "Binds": ["/tmp:/rw", "/tmp:/ro:ro"] });
    let name = started(app, "kept-mounts", json!({ "Cmd": ["sleep", "600"], "HostConfig": host }));
    let path = |place: &str| format!("/containers/{}/archive?path={place}", &*name);
    let put = |place: &str| {
        app.api().call("PUT", &path(place), Body::Bytes("application/x-tar", &tar_with(b"mounted")))
    };
    put("/rw").is(200);
    app.docker(["exec", &name, "sh", "-c", "cat /ro/f"]).prints("mounted");
    let mut file = Vec::new();
    let tar = app.api().get(&path("/ro/f")).is(200).body;
    let mut archive = tar::Archive::new(&tar[..]);
    let mut entries = archive.entries().expect("a tar stream");
    entries.next().expect("a member").expect("a member").read_to_end(&mut file).expect("bytes");
    assert_eq!(file, b"mounted");
    put("/ro").refuses(400, "mounted volume is marked read-only");
    app.docker(["exec", &name, "rm", "/rw/f"]).succeeds();
}

/// K5
#[test]
fn owners_come_out_as_they_are() {
    let app = appliance();
    let name = started(app, "kept-owner", json!({ "Cmd": ["sleep", "600"] }));
    app.docker(["exec", &name, "sh", "-c", "touch /tmp/f && chown 1234:5678 /tmp/f && chmod 640 /tmp/f"])
        .succeeds();
    let tar = app.api().get(&format!("/containers/{}/archive?path=/tmp/f", &*name)).is(200).body;
    let mut archive = tar::Archive::new(&tar[..]);
    let entry = archive.entries().expect("a tar stream").next().expect("a member").expect("a member");
    let header = entry.header();
    let owner = (header.uid().expect("a number"), header.gid().expect("a number"));
    assert_eq!((owner, header.mode().expect("a number") & 0o777), ((1234, 5678), 0o640));
}
