//! `docker logs`.

use crate::appliance;
use pinnace_tests::{ContainerName, Frames, eventually};

/// A container that ran `script` to its end.
fn ran(stem: &str, script: &str) -> ContainerName {
    let app = appliance();
    let name = app.name(stem);
    app.docker(["run", "--name", &name, &app.busybox(), "sh", "-c", script]).succeeds();
    name
}

/// H7
#[test]
fn logs_are_kept_after_the_end() {
    let app = appliance();
    let name = ran("logs", "echo out; echo err >&2");
    let outcome = app.docker(["logs", &name]).prints("out\n").succeeds();
    assert_eq!(outcome.stderr, b"err\n");
}

/// H4
#[test]
fn tail_gives_the_last_lines() {
    let app = appliance();
    let name = ran("logs-tail", "seq 100");
    app.docker(["logs", "--tail", "3", &name]).prints("98\n99\n100\n").succeeds();
    app.docker(["logs", "--tail", "0", &name]).prints("").succeeds();
    app.docker(["logs", "--tail", "1000", &name]).mentions("1\n2\n").succeeds();
    assert_eq!(app.docker(["logs", "--tail", "all", &name]).lines().len(), 100);
}

/// H3
#[test]
fn timestamps_are_in_front() {
    let app = appliance();
    let name = ran("logs-time", "echo line");
    let line = app.docker(["logs", "--timestamps", &name]).succeeds().word();
    let (time, text) = line.split_once(' ').expect("time, blank, text");
    assert_eq!(text, "line");
    assert!(time.len() == "2026-01-02T03:04:05.123456789Z".len() && time.ends_with('Z'), "{time}");
}

/// H5
#[test]
fn since_and_until_cut_by_time() {
    let app = appliance();
    let name = ran("logs-since", "echo old; sleep 2; echo new");
    let all = app.docker(["logs", "--timestamps", &name]).succeeds().lines();
    let time_of_new = all[1].split(' ').next().expect("a time").to_owned();
    app.docker(["logs", "--since", &time_of_new, &name]).prints("new\n").succeeds();
    app.docker(["logs", "--since", "1h", &name]).prints("old\nnew\n").succeeds();
    let before =
        app.docker(["logs", "--until", &format!("{}.000000000Z", &time_of_new[..19]), &name]).succeeds();
    assert!(before.text().starts_with("old\n"), "{before}");
}

/// H6
#[test]
fn follow_ends_with_the_container() {
    let app = appliance();
    let name = app.name("logs-follow");
    let script = "echo ready; read go; echo went";
    app.docker(["run", "-dit", "--name", &name, &app.busybox(), "sh", "-c", script]).succeeds();
    let mut logs = app.docker_beside(["logs", "--follow", &name]);
    assert_eq!(logs.next_line().trim(), "ready");
    app.docker_at_terminal(["attach", &name]).types("\n").shows("went");
    let (code, rest) = logs.finish();
    assert_eq!(code, 0);
    assert!(rest.iter().any(|line| line.trim() == "went"), "{rest:?}");
}

/// H6
#[test]
fn follow_of_an_ended_container_ends() {
    let app = appliance();
    let name = ran("logs-ended", "echo done");
    app.docker(["logs", "--follow", &name]).prints("done\n").succeeds();
}

#[test]
fn follow_shows_old_and_new_lines_once() {
    let app = appliance();
    let name = app.name("logs-all");
    app.docker([
        "run",
        "--detach",
        "--name",
        &name,
        &app.busybox(),
        "sh",
        "-c",
        "seq 2000; sleep 1; seq 2001 4000",
    ]);
    let outcome = app.docker(["logs", "--follow", &name]).succeeds();
    let expected = (1..=4000).map(|number| format!("{number}\n")).collect::<String>();
    assert!(outcome.text() == expected, "{outcome}");
}

/// H10
#[test]
fn long_lines_are_whole() {
    let app = appliance();
    let name = ran("logs-long", "head -c 100000 /dev/zero | tr '\\0' x; echo; echo next; printf unfinished");
    let text = app.docker(["logs", &name]).succeeds().text();
    let lines: Vec<&str> = text.split('\n').collect();
    assert_eq!(lines[0].len(), 100_000);
    assert_eq!(lines[1..], ["next", "unfinished"]);
}

#[test]
fn logs_are_text() {
    // What is no UTF-8 is replaced, as the json-file format demands.
    let app = appliance();
    let name = ran("logs-binary", "printf 'a\\000b\\377c\\n'");
    assert_eq!(app.docker(["logs", &name]).succeeds().stdout, "a\0b\u{fffd}c\n".as_bytes());
}

/// H3
#[test]
fn a_terminals_log_is_one_raw_stream() {
    let app = appliance();
    let name = app.name("logs-tty");
    app.docker(["run", "-dt", "--name", &name, &app.busybox(), "sh", "-c", "echo out; echo err >&2"])
        .succeeds();
    app.docker(["wait", &name]).prints("0\n");
    let path = format!("/containers/{}/logs?stdout=1&stderr=1", &*name);
    assert_eq!(app.api().get(&path).is(200).text(), "out\r\nerr\r\n");
}

/// H3
#[test]
fn frames_carry_one_record_each() {
    let app = appliance();
    let name = ran("logs-frames", "echo one; echo two; echo three >&2");
    let path = format!("/containers/{}/logs?stdout=1&stderr=1", &*name);
    let frames = Frames::read(&app.api().get(&path).is(200).body[..]);
    let payloads: Vec<_> =
        frames.0.iter().filter(|frame| frame.stream == 1).map(|frame| &frame.payload).collect();
    assert_eq!(payloads, [b"one\n", b"two\n"]);
    assert_eq!(frames.stderr(), "three\n");
    let only = app.api().get(&format!("/containers/{}/logs?stderr=1", &*name)).is(200).body;
    assert_eq!(Frames::read(&only[..]).stdout(), "");
}

/// H1
#[test]
fn no_stream_asked_for_is_refused() {
    let app = appliance();
    let name = ran("logs-none", "true");
    let path = format!("/containers/{}/logs", &*name);
    app.api().get(&path).is(400);
}

#[test]
fn a_reader_who_leaves_disturbs_nobody() {
    let app = appliance();
    let name = app.name("logs-left");
    app.docker([
        "run",
        "--detach",
        "--name",
        &name,
        &app.busybox(),
        "sh",
        "-c",
        "while :; do echo tick; usleep 10000; done",
    ]);
    for _ in 0..5 {
        let mut logs = app.docker_beside(["logs", "--follow", &name]);
        logs.next_line();
        logs.kill();
    }
    let before = app.docker(["logs", &name]).lines().len();
    eventually("the log grows", app.patience(), || {
        (app.docker(["logs", &name]).lines().len() > before).then_some(())
    });
}
