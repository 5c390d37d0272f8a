//! Healthchecks: of the image and of `docker run --health-*`.

use crate::{appliance, is_reference};
use pinnace_tests::images::Recipe;
use pinnace_tests::{Appliance, ContainerName, eventually, skip};
use serde_json::{Value, json};

/// A sleeping container with a healthcheck by shell, every 200 ms.
fn checked(app: &Appliance, stem: &str, check: &str, more: &[&str]) -> ContainerName {
    let (name, image) = (app.name(stem), app.busybox());
    let args = ["run", "-d", "--name", &name, "--health-cmd", check, "--health-interval", "200ms"];
    app.docker(args.into_iter().chain(more.iter().copied()).chain([image.as_str(), "sleep", "600"]))
        .succeeds();
    name
}

fn health(app: &Appliance, name: &str) -> Value {
    app.inspect(name)["State"]["Health"].clone()
}

fn becomes(app: &Appliance, name: &str, status: &str) -> Value {
    eventually(&format!("{name} is {status}"), app.patience(), || {
        Some(health(app, name)).filter(|health| health["Status"] == status)
    })
}

fn ps_status(app: &Appliance, name: &str) -> String {
    app.docker(["ps", "-a", "--filter", &format!("name={name}"), "--format", "{{.Status}}"]).succeeds().word()
}

/// I3, I4, I6, I7
/// E2, E15
#[test]
fn a_container_starts_becomes_healthy_and_falls_ill() {
    let app = appliance();
    let name = app.name("health-life");
    let filters = json!({ "container": [*name], "event": ["health_status"] }).to_string();
    let encoded: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut events = app.api().stream("GET", &format!("/events?filters={encoded}"));
    let args =
        ["run", "-d", "--name", &name, "--health-cmd", "echo asked; test -e /well", "--health-interval"];
    let image = app.busybox();
    app.docker(args.into_iter().chain([
        "200ms",
        "--health-retries",
        "2",
        "--health-start-period",
        "1h",
        "--health-start-interval",
        "200ms",
        &image,
        "sleep",
        "600",
    ]))
    .succeeds();
    let first = eventually("it was asked", app.patience(), || {
        Some(health(app, &name)).filter(|health| !health["Log"][0].is_null())
    });
    // Failures in the start period do not count.
    assert_eq!((&first["Status"], &first["FailingStreak"]), (&json!("starting"), &json!(0)), "{first}");
    assert_eq!((&first["Log"][0]["ExitCode"], &first["Log"][0]["Output"]), (&json!(1), &json!("asked\n")));
    assert!(ps_status(app, &name).ends_with("(health: starting)"));
    app.docker(["exec", &name, "touch", "/well"]).succeeds();
    let well = becomes(app, &name, "healthy");
    assert_eq!(well["FailingStreak"], 0, "{well}");
    assert!(ps_status(app, &name).ends_with("(healthy)"));
    app.docker(["exec", &name, "rm", "/well"]).succeeds();
    let ill = becomes(app, &name, "unhealthy");
    assert!(ill["FailingStreak"].as_u64() >= Some(2), "{ill}");
    assert!(ps_status(app, &name).ends_with("(unhealthy)"));
    eventually("five are kept", app.patience(), || {
        (health(app, &name)["Log"].as_array().map(Vec::len) == Some(5)).then_some(())
    });
    for expected in ["health_status: healthy", "health_status: unhealthy"] {
        assert_eq!(events.next_json().expect("events never end by themselves")["Action"], expected);
    }
    // It does not kill.
    assert_eq!(app.inspect(&name)["State"]["Running"], true);
}

/// I6
#[test]
fn a_stopped_container_is_asked_no_more_and_starts_anew() {
    let app = appliance();
    let name = checked(app, "health-stop", "true", &[]);
    becomes(app, &name, "healthy");
    app.docker(["stop", "-t", "0", &name]).succeeds();
    let stopped = health(app, &name);
    assert_eq!(stopped["Status"], "unhealthy", "{stopped}");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(health(app, &name), stopped);
    app.docker(["start", &name]).succeeds();
    becomes(app, &name, "healthy");
}

/// I5
#[test]
fn a_probe_that_takes_too_long_is_killed() {
    let app = appliance();
    let name = checked(
        app,
        "health-slow",
        "echo begun; exec sleep 77",
        &["--health-timeout", "300ms", "--health-retries", "1"],
    );
    let ill = becomes(app, &name, "unhealthy");
    assert_eq!(ill["Log"][0]["ExitCode"], -1, "{ill}");
    assert_eq!(ill["Log"][0]["Output"], "Health check exceeded timeout (300ms): begun\n", "{ill}");
    let running = || app.docker(["exec", &name, "ps"]).succeeds().text().matches("sleep 77").count();
    assert!(running() <= 1);
}

/// I1, I3
#[test]
fn long_output_is_cut_and_missing_programs_are_told() {
    let app = appliance();
    let name = checked(app, "health-long", "head -c 10000 /dev/zero | tr '\\0' x", &[]);
    let well = becomes(app, &name, "healthy");
    assert_eq!(well["Log"][0]["Output"].as_str().map(str::len), Some(4099));
    let body = json!({
        "Image": app.busybox(), "Cmd": ["sleep", "600"],
        "Healthcheck": { "Test": ["CMD", "no-such-program"], "Interval": 200_000_000, "Retries": 1 },
    });
    let missing = app.name("health-missing");
    app.api().post_json(&format!("/containers/create?name={}", &*missing), body).is(201);
    app.docker(["start", &missing]).succeeds();
    let ill = becomes(app, &missing, "unhealthy");
    assert!(ill["Log"][0]["Output"].as_str().is_some_and(|text| text.contains("no-such-program")), "{ill}");
}

/// I1
#[test]
fn the_images_check_is_used_changed_or_switched_off() {
    let app = appliance();
    let check = json!({ "Test": ["CMD-SHELL", "exit 0"], "Interval": 200_000_000, "Retries": 9 });
    let recipe: Recipe =
        pinnace_tests::images::busybox().config(json!({ "Cmd": ["sleep", "600"], "Healthcheck": check }));
    let image = app.registry().publish("tests/healthy", &recipe).reference;
    app.docker(["pull", "--quiet", &image]).succeeds();
    let (plain, own, none) = (app.name("image-check"), app.name("image-own"), app.name("image-none"));
    app.docker(["run", "-d", "--name", &plain, &image]).succeeds();
    app.docker(["run", "-d", "--name", &own, "--health-retries", "1", "--health-cmd", "exit 5", &image])
        .succeeds();
    app.docker(["run", "-d", "--name", &none, "--no-healthcheck", &image]).succeeds();
    becomes(app, &plain, "healthy");
    assert_eq!(becomes(app, &own, "unhealthy")["Log"][0]["ExitCode"], 5);
    let merged = app.inspect(&own)["Config"]["Healthcheck"].clone();
    assert_eq!((&merged["Interval"], &merged["Retries"]), (&json!(200_000_000), &json!(1)), "{merged}");
    assert_eq!(health(app, &none), Value::Null);
    assert!(!ps_status(app, &none).contains('('));
    let filter = |status: &str| {
        let filters = format!("health={status}");
        let args = ["ps", "--format", "{{.Names}}", "--filter", "name=image-", "--filter", &filters];
        app.docker(args).succeeds().lines()
    };
    assert!(filter("healthy").contains(&plain.to_string()) && !filter("healthy").contains(&own.to_string()));
    assert!(filter("none").contains(&none.to_string()));
}

#[test]
fn a_paused_container_is_not_asked() {
    let app = appliance();
    let name = checked(app, "health-pause", "true", &[]);
    becomes(app, &name, "healthy");
    app.docker(["pause", &name]).succeeds();
    // A probe that was under way when it was frozen ends after the thaw.
    let frozen = health(app, &name);
    std::thread::sleep(std::time::Duration::from_millis(600));
    assert_eq!(health(app, &name)["Log"], frozen["Log"]);
    app.docker(["unpause", &name]).succeeds();
    becomes(app, &name, "healthy");
}

/// I2
#[test]
fn bad_checks_are_refused() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has other words");
    }
    let refused = |check: Value, text: &str| {
        let body = json!({ "Image": app.busybox(), "Cmd": ["true"], "Healthcheck": check });
        app.api().post_json("/containers/create", body).refuses(400, text);
    };
    refused(json!({ "Interval": 100 }), "Interval in Healthcheck cannot be less than 1ms");
    refused(json!({ "Retries": -1 }), "Retries in Healthcheck cannot be negative");
}
