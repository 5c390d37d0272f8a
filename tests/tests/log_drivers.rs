//! `--log-driver` and `--log-opt`.

use crate::appliance;
use pinnace_tests::ContainerName;
use serde_json::json;

/// A container that ran `script` to its end with these options.
fn ran(stem: &str, options: &[&str], script: &str) -> ContainerName {
    let app = appliance();
    let (name, image) = (app.name(stem), app.busybox());
    let words = [&["run", "--name", &name][..], options, &[image.as_str(), "sh", "-c", script]].concat();
    app.docker(words).succeeds();
    name
}

/// H11
#[test]
fn a_full_file_makes_room() {
    let app = appliance();
    let options = ["--log-opt", "max-size=20k", "--log-opt", "max-file=3", "--log-opt", "compress=true"];
    let name = ran("log-room", &options, "for i in $(seq 1 3000); do echo line $i; done");
    let lines = app.docker(["logs", &name]).succeeds().lines();
    // The rest, one after the other, without a gap.
    let first = lines[0].strip_prefix("line ").and_then(|n| n.parse::<usize>().ok()).expect("a number");
    let expected: Vec<String> = (first..=3000).map(|n| format!("line {n}")).collect();
    assert_eq!(lines, expected);
    assert!(first > 1 && lines.len() > 200, "{} lines from {first}", lines.len());
    assert_eq!(app.docker(["logs", "--tail", "2", &name]).succeeds().lines(), ["line 2999", "line 3000"]);
    assert_eq!(
        app.docker(["logs", "--tail", "250", &name]).succeeds().lines(),
        expected[expected.len() - 250..]
    );
}

/// H6
#[test]
fn a_follower_passes_from_file_to_file() {
    let app = appliance();
    let name = app.name("log-follow");
    let script = "for i in $(seq 1 2000); do echo line $i; test $((i % 100)) = 0 && usleep 20000; done";
    let image = app.busybox();
    let words = ["run", "-d", "--name", &name, "--log-opt", "max-size=50k", "--log-opt", "max-file=9"];
    app.docker([&words[..], &[&image, "sh", "-c", script]].concat()).succeeds();
    let lines = app.docker(["logs", "--follow", &name]).succeeds().lines();
    let expected: Vec<String> = (1..=2000).map(|n| format!("line {n}")).collect();
    assert_eq!(lines, expected);
}

#[test]
fn local_is_read_like_any_other() {
    let app = appliance();
    let name = ran("log-local", &["--log-driver", "local"], "echo out; echo err >&2");
    let outcome = app.docker(["logs", &name]).prints("out\n").succeeds();
    assert_eq!(outcome.stderr, b"err\n");
    app.docker(["inspect", "-f", "{{.HostConfig.LogConfig.Type}}|{{.LogPath}}|", &name])
        .prints("local||\n")
        .succeeds();
}

/// H8
#[test]
fn none_keeps_nothing() {
    let app = appliance();
    let name = ran("log-none", &["--log-driver", "none"], "echo gone");
    app.docker(["logs", &name]).fails().says_on_stderr("configured logging driver does not support reading");
}

/// H9, H11
#[test]
fn details_are_in_front_of_the_text() {
    let app = appliance();
    let options = [
        "--label",
        "role=a b",
        "-e",
        "LEVEL=3",
        "--log-opt",
        "labels=role",
        "--log-opt",
        "env=LEVEL",
        "--log-opt",
        "tag={{.Name}}",
    ];
    let name = ran("log-details", &options, "echo text");
    let expected = format!("LEVEL=3,role=a+b,tag={} text\n", &*name);
    app.docker(["logs", "--details", &name]).prints(&expected).succeeds();
    app.docker(["logs", &name]).prints("text\n").succeeds();
}

/// H13
/// D32
#[test]
fn faults_are_told_at_create() {
    let app = appliance();
    let refused = |kind: &str, options: serde_json::Value, text: &str| {
        let body = json!({ "Image": app.busybox(), "HostConfig": { "LogConfig": { "Type": kind, "Config": options } } });
        let answer = app.api().post_json("/containers/create", body).is(400).json();
        assert_eq!(answer["message"], text);
    };
    refused("syslog", json!({}), "logger: no log driver named 'syslog' is registered");
    refused("journald", json!({}), "logger: no log driver named 'journald' is registered");
    refused("json-file", json!({ "x": "y" }), "unknown log opt 'x' for json-file log driver");
    let text = "failed to initialize logging driver: max-file cannot be less than 1";
    refused("json-file", json!({ "max-file": "0" }), text);
}
