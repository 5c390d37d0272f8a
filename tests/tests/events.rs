//! `docker events`.

use crate::{appliance, is_reference};
use pinnace_tests::{Appliance, eventually};
use serde_json::{Value, json};

/// The events of one container so far, oldest first.
pub fn events_of(app: &Appliance, name: &str) -> Vec<Value> {
    let filters = json!({ "container": [name] }).to_string();
    let encoded: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
    // The end of the window is one second ahead of the appliance's clock: all that happened is in it.
    let now = app.docker(["run", "--rm", &app.busybox(), "date", "+%s"]).succeeds().word();
    let until = now.parse::<u64>().expect("date prints seconds") + 1;
    let mut stream = app.api().stream("GET", &format!("/events?since=1&until={until}&filters={encoded}"));
    std::iter::from_fn(|| stream.next_json()).collect()
}

fn actions(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| format!("{} {}", text(&event["Type"]), text(&event["Action"]))).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn a_run_with_rm_tells_its_whole_story() {
    let app = appliance();
    let name = app.name("events");
    let image = app.busybox();
    let mut stream = app.api().stream(
        "GET",
        "/events?filters=%7B%22type%22%3A%7B%22container%22%3Atrue%2C%22network%22%3Atrue%7D%7D",
    );
    assert_eq!(stream.head.status, 200);
    let id = app
        .docker(["create", "--rm", "--name", &name, "--label", "colour=red", &image, "sh", "-c", "exit 3"])
        .word();
    app.docker(["start", "--attach", &name]).exits(3);
    let mut events = Vec::new();
    while events.last().is_none_or(|event: &Value| event["Action"] != "destroy") {
        let event = stream.next_json().expect("events never end by themselves");
        if event["Actor"]["ID"] == id.as_str() || event["Actor"]["Attributes"]["container"] == id.as_str() {
            events.push(event);
        }
    }
    let story = actions(&events);
    // Whether the network goes before or after `die` differs between releases (C8).
    let told: Vec<&str> =
        story.iter().map(String::as_str).filter(|action| *action != "network disconnect").collect();
    let expected = [
        "container create",
        "container attach",
        "network connect",
        "container start",
        "container die",
        "container destroy",
    ];
    assert_eq!(told, expected);
    assert!(story.contains(&"network disconnect".to_owned()), "{story:?}");
    let die = events.iter().find(|event| event["Action"] == "die").expect("it died");
    let attributes = &die["Actor"]["Attributes"];
    assert_eq!(attributes["exitCode"], "3");
    assert_eq!(
        (&attributes["image"], &attributes["name"], &attributes["colour"]),
        (&json!(image), &json!(&*name), &json!("red"))
    );
    assert_eq!(die["scope"], "local");
    assert!(die["timeNano"].as_u64() > die["time"].as_u64(), "{die}");
}

#[test]
fn stop_is_kill_die_stop() {
    let app = appliance();
    let name = app.name("events-stop");
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    app.docker(["stop", "-t", "0", &name]).succeeds();
    let events = events_of(app, &name);
    let story = actions(&events);
    let told: Vec<&str> =
        story.iter().map(String::as_str).filter(|action| action.starts_with("container")).collect();
    let rest =
        told.strip_prefix(&["container create", "container start"]).expect("it was created and started");
    assert!(
        rest.starts_with(&["container kill"]) && rest.ends_with(&["container die", "container stop"]),
        "{told:?}"
    );
}

#[test]
fn events_flow_by_the_command_line() {
    let app = appliance();
    let name = app.name("events-cli");
    let filter = format!("container={}", &*name);
    let events = app.docker_beside(["events", "--filter", &filter, "--format", "{{.Action}}"]);
    // The stream is open once the engine has answered; a first event proves it.
    eventually("the listener hears", app.patience(), || {
        app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds();
        app.docker(["rm", &name]).succeeds();
        events.heard_within(1).then_some(())
    });
    events.kill();
}

#[test]
fn a_window_in_the_past_ends_by_itself() {
    let app = appliance();
    let name = app.name("events-past");
    app.docker(["run", "--name", &name, &app.busybox(), "true"]).succeeds();
    let story = actions(&events_of(app, &name));
    assert!(story.contains(&"container die".to_owned()), "{story:?}");
    app.api().get("/events?since=20&until=10").is(400);
}

#[test]
fn exec_is_told_with_its_command() {
    let app = appliance();
    let name = app.name("events-exec");
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    app.docker(["exec", &name, "sh", "-c", "exit 2"]).exits(2);
    let events = events_of(app, &name);
    let story = actions(&events);
    for expected in
        ["container exec_create: sh -c exit 2", "container exec_start: sh -c exit 2", "container exec_die"]
    {
        assert!(story.contains(&expected.to_owned()), "{expected} in {story:?}");
    }
    let die = events.iter().find(|event| event["Action"] == "exec_die").expect("the exec died");
    assert_eq!(die["Actor"]["Attributes"]["exitCode"], "2");
}

#[test]
fn images_have_events() {
    let app = appliance();
    let name = app.name("events-image").to_string();
    let recipe =
        pinnace_tests::images::busybox().config(json!({ "Cmd": ["sh"], "Labels": { "unique": &name } }));
    let reference = app.registry().publish(&name, &recipe).reference;
    let mut stream = app.api().stream("GET", "/events?filters=%7B%22type%22%3A%7B%22image%22%3Atrue%7D%7D");
    app.docker(["pull", "--quiet", &reference]).succeeds();
    app.docker(["rmi", &reference]).succeeds();
    let mut told = Vec::new();
    while told.last().is_none_or(|action| action != "delete") {
        let event = stream.next_json().expect("events never end by themselves");
        let about = text(&event["Actor"]["Attributes"]["name"]).to_owned();
        let by_id = event["Action"] == "delete" && told.iter().any(|action| action == "untag");
        if about.starts_with(reference.trim_end_matches(":latest"))
            || by_id
            || event["Action"] == "untag" && !told.is_empty()
        {
            told.push(text(&event["Action"]).to_owned());
        }
    }
    told.dedup();
    assert_eq!(told, ["pull", "untag", "delete"]);
}

#[test]
fn content_type_follows_the_version() {
    let app = appliance();
    if is_reference(app) {
        return;
    }
    let kind = |version: &str| {
        let stream = app.api().stream("GET", &format!("/{version}/events"));
        stream.head.header("Content-Type").map(str::to_owned)
    };
    assert_eq!(kind("v1.51").as_deref(), Some("application/json"));
    assert_eq!(kind("v1.52").as_deref(), Some("application/jsonl"));
}
