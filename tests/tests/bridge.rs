//! `pinnace` itself: states, bad input, and nothing left behind.

use crate::{appliance, is_reference};
use pinnace_tests::{Outcome, pinnace, skip};
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
