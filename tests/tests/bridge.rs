//! `pinnace` itself: states, bad input, and nothing left behind.

use crate::{appliance, is_reference};
use pinnace_tests::{Appliance, Backend, Outcome, Program, Running, eventually, pinnace, skip};
use std::os::unix::fs::PermissionsExt;

#[track_caller]
fn one_line(outcome: Outcome) -> Outcome {
    let lines = String::from_utf8_lossy(&outcome.stderr).trim().lines().count();
    assert_eq!(lines, 1, "one line of error expected of {outcome}");
    outcome
}

#[test]
fn status_tells_where_the_socket_is() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has no bridge");
    }
    let status = app.status();
    assert_eq!(status["socket"].as_str().map(std::path::Path::new), Some(&*app.socket));
    let mode = std::fs::metadata(&app.socket).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_image_that_is_not_there_is_told() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has no bridge");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let up = pinnace(dir.path(), "up").args([
        "--backend",
        app.backend.word(),
        "--no-context",
        "--image",
        "/no/such/image",
    ]);
    one_line(up.run().fails().says_on_stderr("/no/such/image"));
    assert!(!dir.path().join("docker.sock").exists());
}

#[test]
fn what_is_down_stays_down() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has no bridge");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    pinnace(dir.path(), "down").run().succeeds();
    pinnace(dir.path(), "status").run().fails();
}

#[test]
fn up_waits_for_one_that_powers_off() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has no bridge");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let own = Appliance::boot(app.backend, dir.path());
    let down = Running::start(own.pinnace("down"), own.patience());
    // It fails as soon as the appliance is not up any more.
    while own.pinnace("status").run().text().contains("is up") {}
    let again = Appliance::boot(app.backend, dir.path());
    assert_eq!(down.finish().0, 0);
    again.pinnace("status").run().succeeds();
}

#[test]
fn an_orderly_end_is_told_without_complaint() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has no bridge");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let own = Appliance::boot(app.backend, dir.path());
    let mut console = Running::start(own.pinnace("console"), own.patience());
    // Its engine's end is something to hear, once it listens.
    while !console.heard_within(1) {
        own.kill_engine();
    }
    own.pinnace("down").run().succeeds();
    console.reads_until("powering off");
    assert_eq!(console.finish().0, 0);
    own.pinnace("logs").run().mentions("powering off").never_mentions("ERROR").succeeds();
}

#[test]
fn status_asks_the_api() {
    let app = appliance();
    if app.backend != Backend::Namespace {
        skip!("only in namespaces can the engine be stopped from here");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let own = Appliance::boot(app.backend, dir.path());
    let engine = own.engine_process().expect("the engine runs");
    let signal = |signal: &str| Program::new("kill", own.patience()).args([signal, &engine]).run().succeeds();
    signal("-STOP");
    own.pinnace("status").run().fails().mentions("its API does not answer");
    // It ends when the engine goes on, however long the steps before take.
    let down = Running::start(own.pinnace("down").args(["--timeout", "600"]), own.patience());
    eventually("it powers off", own.patience(), || {
        own.pinnace("status").run().text().contains("is powering off").then_some(())
    });
    // One that comes meanwhile waits, says so, and starts the next.
    let image = pinnace_tests::image_folder();
    let up = own.pinnace("up").args(["--backend", "namespace", "--no-context", "--image"]).args([image]);
    let mut up = Running::start(up, own.patience());
    up.complains_until("waiting for the appliance that is powering off");
    signal("-CONT");
    assert_eq!(down.finish().0, 0);
    assert_eq!(up.finish().0, 0);
    own.pinnace("down").run().succeeds();
}

#[test]
fn up_says_what_is_not_as_asked_for() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has no bridge");
    }
    let image = pinnace_tests::image_folder();
    let up = |options: &[&str]| {
        let up = app.pinnace("up").args(["--no-context", "--image"]).args([&image]);
        up.args(options).run().succeeds()
    };
    up(&["--log", "trace", "--cpus", "200"])
        .says_on_stderr("it does not run with --cpus, --log as asked for");
    let same = up(&["--backend", app.backend.word()]);
    assert!(!String::from_utf8_lossy(&same.stderr).contains("as asked for"), "{same}");
}
