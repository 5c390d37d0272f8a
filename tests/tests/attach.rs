//! `docker attach`, terminals, detaching.

use crate::{appliance, is_reference};
use pinnace_tests::{Frames, api::Body, eventually, skip};
use std::io::Write;

#[test]
fn attach_sees_what_comes_and_the_exit_code() {
    let app = appliance();
    let name = app.name("attach");
    let script = "until test -e /tmp/go; do usleep 50000; done; echo went; exit 6";
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sh", "-c", script]).succeeds();
    let attached = app.docker_beside(["attach", "--no-stdin", &name]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    app.lets_go(&name);
    assert_eq!(attached.finish(), (6, vec!["went".to_owned()]));
}

#[test]
fn a_terminal_echoes_and_answers() {
    let app = appliance();
    let mut terminal = app.docker_at_terminal(["run", "--rm", "-it", &app.busybox(), "sh"]);
    terminal.shows("# ").types("tty; stty size\n").shows("/dev/pts/0").shows("24 80");
    terminal.types("exit 9\n");
    terminal.exits(9);
}

/// G14
#[test]
fn a_terminal_follows_its_window() {
    let app = appliance();
    let mut terminal = app.docker_at_terminal(["run", "--rm", "-it", &app.busybox(), "sh"]);
    terminal.shows("# ");
    eventually("the container's window is 33 by 111", app.patience(), || {
        // Between its first look at the window and its listening to SIGWINCH the CLI misses a change.
        terminal.resizes(33, 110).resizes(33, 111);
        terminal.types("stty size; echo e''nd\n").before("end\r\n").contains("33 111").then_some(())
    });
    terminal.types("exit\n");
    terminal.exits(0);
}

#[test]
fn control_c_reaches_the_program() {
    let app = appliance();
    let script = "trap 'echo caught; exit 3' INT; echo ready; while :; do usleep 50000; done";
    let mut terminal = app.docker_at_terminal(["run", "--rm", "-it", &app.busybox(), "sh", "-c", script]);
    terminal.shows("ready").types("\x03").shows("caught");
    terminal.exits(3);
}

#[test]
fn control_d_ends_a_shell() {
    let app = appliance();
    let mut terminal = app.docker_at_terminal(["run", "--rm", "-it", &app.busybox(), "sh"]);
    terminal.shows("# ").types("\x04");
    terminal.exits(0);
}

/// G10
#[test]
fn detach_keys_leave_the_container_running() {
    let app = appliance();
    let name = app.name("detach");
    let mut terminal = app.docker_at_terminal(["run", "-it", "--name", &name, &app.busybox(), "sh"]);
    terminal.shows("# ").types("\x10\x11");
    terminal.exits(0);
    assert_eq!(app.inspect(&name)["State"]["Status"], "running");
    let mut again = app.docker_at_terminal(["attach", "--detach-keys", "ctrl-x,x", &name]);
    again.types("echo a''gain\n").shows("again").types("\x18x");
    again.ends();
    assert_eq!(app.inspect(&name)["State"]["Status"], "running");
}

/// G10
#[test]
fn bad_detach_keys_are_refused() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine complains inside the stream");
    }
    let name = app.name("bad-keys");
    app.docker(["run", "-dit", "--name", &name, &app.busybox(), "sh"]).succeeds();
    let path = format!("/containers/{}/attach?stream=1&stdin=1&detachKeys=ctrl-A%2Ca", &*name);
    app.api().post(&path).refuses(400, "nvalid detach keys");
}

#[test]
fn attach_to_a_stopped_container_is_refused() {
    let app = appliance();
    let name = app.name("attach-stopped");
    app.docker(["run", "--name", &name, &app.busybox(), "true"]).succeeds();
    let outcome = app.docker(["attach", &name]).exits(1);
    outcome.says_on_stderr("annot attach to a stopped container");
}

/// G11
#[test]
fn all_who_are_attached_see_everything() {
    let app = appliance();
    let name = app.name("attach-many");
    let script = "until test -e /tmp/go; do usleep 50000; done; seq 3000";
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sh", "-c", script]).succeeds();
    let path = format!("/containers/{}/attach?stream=1&stdout=1&stderr=1", &*name);
    let streams: Vec<_> = (0..4).map(|_| app.api().hijack(&path, Body::Empty)).collect();
    app.lets_go(&name);
    let expected = (1..=3000).map(|number| format!("{number}\n")).collect::<String>();
    for stream in streams {
        assert!(Frames::read(stream).stdout() == expected);
    }
}

/// G9
#[test]
fn logs_come_first_where_asked() {
    let app = appliance();
    let name = app.name("attach-logs");
    app.docker([
        "run",
        "-dit",
        "--name",
        &name,
        &app.busybox(),
        "sh",
        "-c",
        "echo before; read line; echo $line",
    ]);
    eventually("it printed", app.patience(), || {
        app.docker(["logs", &name]).text().contains("before").then_some(())
    });
    let path = format!("/containers/{}/attach?logs=1&stream=1&stdin=1&stdout=1&stderr=1", &*name);
    let mut stream = app.api().hijack(&path, Body::Empty);
    stream.write_all(b"after\n").expect("the stream takes bytes");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).expect("text");
    assert!(text.starts_with("before\r\n") && text.trim_end().ends_with("after"), "{text:?}");
}

/// G11, G12
#[test]
fn a_listener_that_went_away_does_not_block_the_container() {
    let app = appliance();
    let name = app.name("attach-gone");
    let script = "until test -e /tmp/go; do usleep 50000; done; seq 400000; exit 2";
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sh", "-c", script]).succeeds();
    let path = format!("/containers/{}/attach?stream=1&stdout=1&stderr=1", &*name);
    let idle = app.api().hijack(&path, Body::Empty);
    app.lets_go(&name);
    // Long enough for the pipe to fill: a listener that is there and does not read holds the container back,
    // as its reader in a pipeline would want.
    std::thread::sleep(std::time::Duration::from_millis(500));
    drop(idle);
    app.docker(["wait", &name]).prints("2\n").succeeds();
}
