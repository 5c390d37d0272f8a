//! `docker events`.

use crate::{appliance, is_reference};
use pinnace_tests::api::Body;
use pinnace_tests::{Appliance, eventually};
use serde_json::{Value, json};
use std::io::Read;

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

/// C1, C7, C8
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
    // Whether the network goes before or after `die` differs between releases.
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
    assert!(attributes["execDuration"].as_str().is_some_and(|word| word.parse::<u32>().is_ok()), "{die}");
    assert!(die["timeNano"].as_u64() > die["time"].as_u64(), "{die}");
    let connect = events.iter().find(|event| event["Action"] == "connect").expect("it had a network");
    let expected = json!({ "container": id, "name": "bridge", "type": "bridge" });
    assert_eq!(connect["Actor"]["Attributes"], expected);
}

/// C8
#[test]
fn stop_is_kill_die_stop() {
    let app = appliance();
    let name = app.name("events-stop");
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    app.docker(["stop", "-t", "0", &name]).succeeds();
    app.docker(["start", &name]).succeeds();
    app.docker(["restart", "-t", "0", &name]).succeeds();
    let story = actions(&events_of(app, &name));
    let told: Vec<&str> = story.iter().filter_map(|action| action.strip_prefix("container ")).collect();
    let restart = ["kill", "die", "stop", "start", "restart"];
    let expected = ["create", "start", "kill", "die", "stop", "start"].into_iter().chain(restart);
    assert_eq!(told, expected.collect::<Vec<_>>());
}

/// C9
#[test]
fn every_change_is_an_event_with_its_attributes() {
    let app = appliance();
    let (name, new) = (app.name("events-all"), app.name("events-renamed"));
    let api = app.api();
    let script = "trap 'exit 0' TERM; trap : USR1; while :; do usleep 20000; done";
    app.docker(["run", "--detach", "--tty", "--name", &name, &app.busybox(), "sh", "-c", script]).succeeds();
    let at = |verb: &str| format!("/containers/{}/{verb}", &*name);
    api.post(&at("kill?signal=USR1")).is(204);
    api.post(&at("resize?h=33&w=99")).is(200);
    api.post(&at("pause")).is(204);
    api.post(&at("unpause")).is(204);
    api.post_json(&at("update"), json!({ "RestartPolicy": { "Name": "no" } })).is(200);
    api.get(&at("top")).is(200);
    api.get(&at("export")).is(200);
    api.get(&at("archive?path=/etc/hosts")).is(200);
    let tar = Body::Bytes("application/x-tar", &[0; 1024]);
    api.call("PUT", &at("archive?path=/tmp"), tar).is(200);
    app.docker(["exec", &name, "sh", "-c", "exit 9"]).exits(9);
    api.post(&at(&format!("rename?name={}", &*new))).is(204);
    api.post(&format!("/containers/{}/stop?t=10", &*new)).is(204);
    let id = text(&app.inspect(&new)["Id"]).to_owned();
    let events = events_of(app, &id);
    let attribute = |action: &str, key: &str| {
        let event = events.iter().find(|event| event["Action"] == action);
        event.unwrap_or_else(|| panic!("{action} in {:?}", actions(&events)))["Actor"]["Attributes"][key]
            .clone()
    };
    assert_eq!(attribute("kill", "signal"), "10");
    let resized = events.iter().filter(|event| event["Action"] == "resize");
    let sizes: Vec<_> = resized.map(|event| event["Actor"]["Attributes"].clone()).collect();
    assert!(sizes.iter().any(|size| size["height"] == "33" && size["width"] == "99"), "{sizes:?}");
    assert_eq!(attribute("rename", "oldName"), format!("/{}", &*name));
    assert_eq!(attribute("exec_die", "exitCode"), "9");
    assert_eq!(text(&attribute("exec_die", "execID")).len(), 64);
    for action in ["pause", "unpause", "update", "top", "export", "archive-path", "extract-to-dir"] {
        assert_eq!(attribute(action, "image"), app.busybox(), "{action}");
    }
}

/// C5, C6, C11
#[test]
fn filters_choose_events() {
    let app = appliance();
    let name = app.name("events-filter");
    let mark = format!("com.docker.compose.project={}", &*name);
    let image = app.busybox();
    app.docker(["run", "--detach", "--name", &name, "--label", &mark, &image, "sleep", "600"]).succeeds();
    app.docker(["exec", &name, "true"]).succeeds();
    app.docker(["stop", "-t", "0", &name]).succeeds();
    let id = text(&app.inspect(&name)["Id"]).to_owned();
    let now = app.docker(["run", "--rm", &image, "date", "+%s"]).succeeds().word();
    let until = now.parse::<u64>().expect("date prints seconds") + 1;
    let told = |filters: Value| -> Vec<String> {
        let encoded: String = filters.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut stream = app.api().stream("GET", &format!("/events?since=1&until={until}&filters={encoded}"));
        let events = std::iter::from_fn(|| stream.next_json());
        let own = |event: &Value| {
            let actor = &event["Actor"];
            actor["ID"] == id.as_str() || actor["Attributes"]["container"] == id.as_str()
        };
        let events: Vec<Value> = events.filter(own).collect();
        actions(&events).iter().map(|action| action.replace("container ", "")).collect()
    };
    let label = json!([mark]);
    // What compose waits for.
    let project = told(json!({ "type": ["container"], "label": label, "event": ["start", "die", "stop"] }));
    assert_eq!(project, ["start", "die", "stop"]);
    assert_eq!(told(json!({ "container": [&name[..name.len() - 1]], "event": ["create"] })), ["create"]);
    assert_eq!(told(json!({ "container": [&id[..12]], "event": ["create", "stop"] })), ["create", "stop"]);
    assert_eq!(told(json!({ "container": [format!("x{}", &*name)] })), [""; 0]);
    assert_eq!(
        told(json!({ "type": ["network"], "network": ["bridge"] })),
        ["network connect", "network disconnect"]
    );
    let bare = image.trim_end_matches(":latest");
    for form in [&*image, bare] {
        assert_eq!(told(json!({ "image": [form], "event": ["start"] })), ["start"], "{form}");
    }
    assert_eq!(told(json!({ "image": ["other"], "event": ["start"] })), [""; 0]);
    assert_eq!(told(json!({ "label": label, "event": ["exec_start"] })), ["exec_start: true "]);
    assert_eq!(told(json!({ "label": label, "event": ["exec_create", "exec_start: true"] })).len(), 2);
    assert_eq!(told(json!({ "label": [mark, "no-such-label"] })), [""; 0]);
    assert_eq!(told(json!({ "scope": ["swarm"] })), [""; 0]);
    for key in ["volume", "plugin", "daemon", "service", "node", "secret", "config"] {
        assert_eq!(told(json!({ "label": label, key: ["no-such"] })), [""; 0], "{key}");
    }
    // dockerd's way: what it does not know it does not choose by.
    assert_eq!(told(json!({ "label": label, "event": ["start"], "colour": ["red"] })), ["start"]);
    app.api().get("/events?filters=%7B").refuses(400, "invalid filter");
}

/// C5, C11
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

/// C4, of the number that is kept the engine's own tests know.
#[test]
fn a_window_in_the_past_ends_by_itself() {
    let app = appliance();
    let name = app.name("events-past");
    app.docker(["run", "--name", &name, &app.busybox(), "true"]).succeeds();
    let story = actions(&events_of(app, &name));
    assert!(story.contains(&"container die".to_owned()), "{story:?}");
    let end = events_of(app, &name).last().expect("an event")["timeNano"].as_u64().expect("a number");
    let exactly = format!("{}.{:09}", end / 1_000_000_000, end % 1_000_000_000);
    let mut stream = app.api().stream("GET", &format!("/events?since={exactly}&until={exactly}"));
    assert_eq!(stream.next_json().expect("that event")["timeNano"], end);
    app.api()
        .get("/events?since=20&until=10")
        .refuses(400, "`since` time (20) cannot be after `until` time (10)");
}

/// C6, C9
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

/// C10
#[test]
fn images_have_events() {
    let app = appliance();
    let name = app.name("events-image").to_string();
    let recipe =
        pinnace_tests::images::busybox().config(json!({ "Cmd": ["sh"], "Labels": { "unique": &name } }));
    let reference = app.registry().publish(&name, &recipe).reference;
    let mut stream = app.api().stream("GET", "/events?filters=%7B%22type%22%3A%7B%22image%22%3Atrue%7D%7D");
    app.docker(["pull", "--quiet", &reference]).succeeds();
    let other = format!("{}:other", reference.trim_end_matches(":latest"));
    app.docker(["tag", &reference, &other]).succeeds();
    app.docker(["rmi", &other, &reference]).succeeds();
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
    assert_eq!(told, ["pull", "tag", "untag", "delete"]);
}

/// C2, A5: without a version in the path the newest is meant.
#[test]
fn content_type_follows_the_version() {
    let app = appliance();
    if is_reference(app) {
        return;
    }
    let kind = |version: &str, accept: &str| {
        let mut connection = app.api().connect();
        connection.send("GET", &format!("{version}/events"), &[("Accept", accept)], Body::Empty);
        connection.arriving("GET").head.header("Content-Type").map(str::to_owned).unwrap_or_default()
    };
    assert_eq!(kind("/v1.51", "*/*"), "application/json");
    assert_eq!(kind("/v1.52", "*/*"), "application/jsonl");
    assert_eq!(kind("", "*/*"), "application/jsonl");
    assert_eq!(kind("", "application/x-ndjson"), "application/x-ndjson");
    assert_eq!(kind("", "application/json-seq"), "application/json-seq");
    let mut connection = app.api().connect();
    let accept = [("Accept", "application/json-seq")];
    connection.send("GET", "/events?since=1&until=9999999999", &accept, Body::Empty);
    // RFC 7464: each record begins with this sign.
    let name = app.name("events-sequence");
    app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds();
    let mut first = [0];
    connection.arriving("GET").read_exact(&mut first).expect("an event");
    assert_eq!(first, [0x1e]);
}

/// C3
#[test]
fn old_clients_read_the_old_fields() {
    let app = appliance();
    let name = app.name("events-old");
    app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds();
    let filters: String =
        json!({ "container": [&*name] }).to_string().bytes().map(|b| format!("%{b:02X}")).collect();
    let first = |version: &str| {
        let mut stream = app.api().stream("GET", &format!("{version}/events?since=1&filters={filters}"));
        stream.next_json().expect("the creation")
    };
    let old = first("/v1.51");
    assert_eq!((&old["status"], &old["id"]), (&json!("create"), &old["Actor"]["ID"]));
    assert_eq!((&old["from"], &old["Type"]), (&json!(app.busybox()), &json!("container")));
    if !is_reference(app) {
        let new = first("");
        assert!(new["status"].is_null() && new["id"].is_null() && new["from"].is_null(), "{new}");
        assert_eq!((&new["Action"], &new["scope"]), (&json!("create"), &json!("local")));
    }
}
