//! `docker ps`.

use crate::{appliance, is_reference};

#[test]
fn ps_shows_what_runs_and_ps_a_what_ran() {
    let app = appliance();
    let (up, done, image) = (app.name("ps-up"), app.name("ps-done"), app.busybox());
    app.docker(["run", "--detach", "--name", &up, &image, "sleep", "600"]).succeeds();
    app.docker(["run", "--name", &done, &image, "sh", "-c", "exit 7"]).exits(7);
    let names = |args: &[&str]| {
        let args = ["ps", "--format", "{{.Names}}"].iter().chain(args).copied().collect::<Vec<_>>();
        app.docker(args).succeeds().lines()
    };
    assert!(names(&[]).contains(&up.to_string()));
    assert!(!names(&[]).contains(&done.to_string()));
    assert!(names(&["--all"]).contains(&done.to_string()));
    let filter = format!("name={}", &*up);
    let row =
        app.docker(["ps", "--filter", &filter, "--format", "{{.Image}}|{{.Command}}|{{.Status}}|{{.State}}"]);
    let row = row.succeeds().word();
    assert!(row.starts_with(&format!("{image}|\"sleep 600\"|Up ")) && row.ends_with("|running"), "{row}");
    let filter = format!("name={}", &*done);
    let row = app.docker(["ps", "--all", "--filter", &filter, "--format", "{{.Status}}|{{.State}}"]).word();
    assert!(row.starts_with("Exited (7) ") && row.ends_with(" ago|exited"), "{row}");
}

#[test]
fn filters_narrow_the_list() {
    let app = appliance();
    let (red, blue, image) = (app.name("ps-red"), app.name("ps-blue"), app.busybox());
    let mark = format!("test.mark={}", &*red);
    app.docker(["create", "--name", &red, "--label", &mark, "--label", "colour=red", &image, "true"])
        .succeeds();
    app.docker(["run", "--name", &blue, "--label", &mark, "--label", "colour=blue", &image, "true"])
        .succeeds();
    let found = |filter: &str| {
        let mark = format!("label={mark}");
        let args = ["ps", "--all", "--format", "{{.Names}}", "--filter", &mark, "--filter", filter];
        app.docker(args).succeeds().lines()
    };
    assert_eq!(found("label=colour=red"), [&*red]);
    assert_eq!(found("status=exited"), [&*blue]);
    assert_eq!(found("status=created"), [&*red]);
    assert_eq!(found("exited=0"), [&*blue]);
    assert_eq!(found(&format!("name={}", &*red)), [&*red]);
    assert_eq!(found("label=colour"), [&*blue, &*red], "newest first");
    assert_eq!(found("label=colour=green"), [""; 0]);
}

#[test]
fn sdk_filters_are_lists() {
    let app = appliance();
    let name = app.name("ps-sdk");
    app.docker(["create", "--name", &name, "--label", &format!("sdk={}", &*name), &app.busybox(), "true"])
        .succeeds();
    // {"label":["sdk=NAME"]}, as docker-py sends it (A22), and `all=True` (A20).
    let filters = format!("%7B%22label%22%3A%5B%22sdk%3D{}%22%5D%7D", &*name);
    let list = app.api().get(&format!("/containers/json?all=True&filters={filters}")).is(200).json();
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list[0]["Names"][0], format!("/{}", &*name));
    let hidden = app.api().get(&format!("/containers/json?all=False&filters={filters}")).is(200).json();
    assert_eq!(hidden, serde_json::json!([]));
}

#[test]
fn a_bad_filter_is_refused() {
    let app = appliance();
    app.api()
        .get("/containers/json?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D")
        .refuses(400, "nvalid filter");
    if !is_reference(app) {
        app.api().get("/containers/json?filters=%7B").is(400);
    }
}

#[test]
fn last_and_quiet() {
    let app = appliance();
    let name = app.name("ps-last");
    let id = app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds().word();
    let filter = format!("name={}", &*name);
    app.docker(["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]).prints(&format!("{id}\n"));
    app.docker(["ps", "--all", "--quiet", "--filter", &filter]).prints(&format!("{}\n", &id[..12]));
}
