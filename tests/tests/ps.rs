//! `docker ps`.

use crate::{appliance, is_reference};
use serde_json::{Value, json};

/// E13, E15
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

/// E13, E16
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
    // {"label":["sdk=NAME"]}, as docker-py sends it, and `all=True`: A20, A22.
    let filters = format!("%7B%22label%22%3A%5B%22sdk%3D{}%22%5D%7D", &*name);
    let list = app.api().get(&format!("/containers/json?all=True&filters={filters}")).is(200).json();
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list[0]["Names"][0], format!("/{}", &*name));
    let hidden = app.api().get(&format!("/containers/json?all=False&filters={filters}")).is(200).json();
    assert_eq!(hidden, serde_json::json!([]));
}

/// A22, E16
#[test]
fn a_bad_filter_is_refused() {
    let app = appliance();
    app.api()
        .get("/containers/json?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D")
        .refuses(400, "nvalid filter 'colour'");
    if !is_reference(app) {
        for bad in ["%7B", "x", "3", "%7B%22label%22%3A3%7D"] {
            app.api().get(&format!("/containers/json?filters={bad}")).refuses(400, "invalid filter");
        }
    }
    app.api().get("/containers/json?filters=").is(200);
    app.api().get("/containers/json?filters=%7B%7D").is(200);
}

/// E13
#[test]
fn last_and_quiet() {
    let app = appliance();
    let name = app.name("ps-last");
    let id = app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds().word();
    let filter = format!("name={}", &*name);
    app.docker(["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]).prints(&format!("{id}\n"));
    app.docker(["ps", "--all", "--quiet", "--filter", &filter]).prints(&format!("{}\n", &id[..12]));
}

/// E13, E14, E15
#[test]
fn a_row_has_what_clients_read() {
    let app = appliance();
    let (name, older) = (app.name("ps-row"), app.name("ps-row-older"));
    let image = app.busybox();
    let mark = format!("row={}", &*name);
    let create = |name: &str| {
        let args = ["create", "--name", name, "--label", &mark, "--expose", "80", "-v", "/tmp:/from-host"];
        app.docker(args.into_iter().chain([&*image, "sh", "-c", "sleep 600"])).succeeds().word()
    };
    create(&older);
    let id = create(&name);
    let filters: String =
        json!({ "label": [mark] }).to_string().bytes().map(|b| format!("%{b:02X}")).collect();
    let list =
        |more: &str| app.api().get(&format!("/containers/json?filters={filters}{more}")).is(200).json();
    assert_eq!(list(""), json!([]));
    let all = list("&all=1");
    assert_eq!((all.as_array().map(Vec::len), &all[0]["Id"]), (Some(2), &json!(id)), "newest first");
    let one = list("&limit=1");
    assert_eq!((one.as_array().map(Vec::len), &one[0]["Id"]), (Some(1), &json!(id)));
    let row = &one[0];
    let inspect = app.inspect(&name);
    for (key, value) in [
        ("Names", json!([format!("/{}", &*name)])),
        ("Image", json!(image)),
        ("ImageID", inspect["Image"].clone()),
        ("Command", json!("sh -c 'sleep 600'")),
        ("Ports", json!([])),
        ("Labels", json!({ "row": &*name })),
        ("State", json!("created")),
        ("Status", json!("Created")),
    ] {
        assert_eq!(row[key], value, "{key}");
    }
    assert!(row["Created"].is_u64() && row["SizeRw"].is_null(), "{row}");
    assert_eq!(row["HostConfig"]["NetworkMode"], "bridge");
    assert_eq!(row["NetworkSettings"]["Networks"]["bridge"]["IPAddress"], "");
    assert_eq!(
        (&row["Mounts"][0]["Type"], &row["Mounts"][0]["Destination"]),
        (&json!("bind"), &json!("/from-host"))
    );
    let sized = &list("&limit=1&size=1")[0];
    assert!(sized["SizeRw"].is_u64() && sized["SizeRootFs"].is_u64(), "{sized}");
    // A status asks for containers in every state.
    let mut filters = json!({ "label": [mark], "status": ["created"] }).to_string();
    filters = filters.bytes().map(|b| format!("%{b:02X}")).collect();
    let created = app.api().get(&format!("/containers/json?filters={filters}")).is(200).json();
    assert_eq!(created.as_array().map(Vec::len), Some(2), "{created}");
    app.docker(["start", &name]).succeeds();
    app.docker(["pause", &name]).succeeds();
    let running = list("");
    assert_eq!(running[0]["State"], "paused", "{running}");
    assert_eq!(running[0]["Ports"], json!([{ "PrivatePort": 80, "Type": "tcp" }]));
    app.docker(["rm", "--force", &name]).succeeds();
}

/// E14: a row names the image as it was asked for while that name leads to it.
#[test]
fn a_tag_that_moved_is_an_id() {
    let app = appliance();
    let name = app.name("ps-moved");
    let tag = format!("{}:moving", &*app.name("moving"));
    app.docker(["tag", &app.busybox(), &tag]).succeeds();
    app.docker(["create", "--name", &name, &tag, "true"]).succeeds();
    let shown = || -> Value {
        let filters: String =
            json!({ "name": [&*name] }).to_string().bytes().map(|b| format!("%{b:02X}")).collect();
        app.api().get(&format!("/containers/json?all=1&filters={filters}")).is(200).json()[0].clone()
    };
    assert_eq!(shown()["Image"], tag.as_str());
    app.docker(["tag", &app.image(pinnace_tests::images::Image::Configured), &tag]).succeeds();
    let row = shown();
    assert_eq!(
        (&row["Image"], row["Image"].as_str().map(|id| id.starts_with("sha256:"))),
        (&row["ImageID"], Some(true))
    );
    app.docker(["rmi", &tag]).succeeds();
}

/// A22: a value that is set to false is not wanted.
#[test]
fn a_value_can_be_switched_off() {
    let app = appliance();
    let name = app.name("ps-off");
    app.docker(["create", "--name", &name, "--label", "off=1", &app.busybox(), "true"]).succeeds();
    let found = |filters: Value| {
        let encoded: String = filters.to_string().bytes().map(|b| format!("%{b:02X}")).collect();
        let list = app.api().get(&format!("/containers/json?all=1&filters={encoded}")).is(200).json();
        list.as_array().map(Vec::len)
    };
    let name = json!({ &*name: true });
    assert_eq!(found(json!({ "name": name, "label": { "off=1": true } })), Some(1));
    assert_eq!(found(json!({ "name": name, "label": { "off=2": true } })), Some(0));
    assert_eq!(found(json!({ "name": name, "label": { "off=2": false } })), Some(1));
}
