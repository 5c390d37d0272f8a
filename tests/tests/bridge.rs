//! `pinnace` itself: states, bad input, and nothing left behind.

use crate::{appliance, is_reference};
use pinnace_tests::{Appliance, Outcome, Running, pinnace, skip};
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
