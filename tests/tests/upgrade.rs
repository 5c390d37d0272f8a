//! `pinnace upgrade-engine`: another engine in a machine that runs on.

use crate::engine_death::mortal;
use pinnace_tests::{Appliance, Outcome, image_folder, skip};

fn upgrade(app: &Appliance, args: &[&str]) -> Outcome {
    app.pinnace("upgrade-engine").args(args).run()
}

fn engine(app: &Appliance) -> (String, u64) {
    let guest = &app.status()["guest"];
    let text = guest["engine"].as_str().expect("status tells which engine it is").to_owned();
    (text, guest["engine_starts"].as_u64().expect("and how often it was started"))
}

#[test]
fn containers_run_on_under_another_engine() {
    let Some((app, _turn)) = mortal() else { skip!("the reference engine has no bridge") };
    let name = app.name("upgraded");
    let script = "i=0; while [ $i -lt 100 ]; do seq $((i * 100 + 1)) $((i * 100 + 100)); usleep 20000; i=$((i + 1)); done; exit 4";
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sh", "-c", script]).succeeds();
    let before = app.inspect(&name);
    let (_, starts) = engine(app);
    let image = image_folder();
    upgrade(app, &["--image", &image.to_string_lossy()]).succeeds();
    assert_eq!(engine(app), ("upgrade".to_owned(), starts + 1));
    assert_eq!(app.inspect(&name)["State"], before["State"]);
    // It is the one from now on.
    if app.can_kill_engine().is_ok() {
        app.kill_engine();
        assert_eq!(engine(app).0, "upgrade");
    }
    app.docker(["wait", &name]).prints("4\n").succeeds();
    let all: String = (1..=10_000).map(|number| format!("{number}\n")).collect();
    let outcome = app.docker(["logs", &name]).succeeds();
    assert!(outcome.text() == all, "{outcome}");
}

#[test]
fn an_engine_that_does_not_work_gives_way_to_the_images_own() {
    let Some((app, _turn)) = mortal() else { skip!("the reference engine has no bridge") };
    let name = app.name("kept");
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    let before = app.inspect(&name);
    upgrade(app, &["--engine", "/bin/false"]).fails().says_on_stderr("the image's own runs again");
    assert_eq!(engine(app).0, "image");
    assert_eq!(app.inspect(&name)["State"], before["State"]);
}

#[test]
fn what_is_no_engine_is_refused_before_anything_ends() {
    let Some((app, _turn)) = mortal() else { skip!("the reference engine has no bridge") };
    let before = engine(app);
    upgrade(app, &["--engine", "/etc/passwd"]).fails().says_on_stderr("not an engine");
    upgrade(app, &["--engine", "/no/such/file"]).fails().says_on_stderr("/no/such/file");
    upgrade(app, &["--image", "/no/such/folder"]).fails().says_on_stderr("/no/such/folder");
    assert_eq!(engine(app), before);
}
