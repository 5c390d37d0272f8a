//! `docker rename`, `update`, `container prune`, and the filters of `docker ps`.

use crate::{appliance, is_reference};
use pinnace_tests::{ContainerName, images::Image, skip};
use serde_json::{Value, json};

fn created(stem: &str, args: &[&str]) -> ContainerName {
    let app = appliance();
    let (name, image) = (app.name(stem), app.busybox());
    let create = ["create", "--name", &name].into_iter().chain(args.iter().copied());
    app.docker(create.chain([image.as_str(), "sleep", "600"])).succeeds();
    name
}

fn encoded(filters: &Value) -> String {
    filters.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// C9, E17
#[test]
fn rename_moves_the_name() {
    let app = appliance();
    let (old, new) = (created("rename-old", &[]), app.name("rename-new"));
    let id = app.inspect(&old)["Id"].clone();
    let mut events =
        app.api().stream("GET", &format!("/events?filters={}", encoded(&json!({ "event": ["rename"] }))));
    app.docker(["rename", &old, &new]).succeeds();
    let event = loop {
        let event = events.next_json().expect("events never end by themselves");
        if event["Actor"]["ID"] == id {
            break event;
        }
    };
    let attributes = &event["Actor"]["Attributes"];
    assert_eq!((&attributes["name"], &attributes["oldName"]), (&json!(*new), &json!(format!("/{}", &*old))));
    assert_eq!((&app.inspect(&new)["Id"], &app.inspect(&new)["Name"]), (&id, &json!(format!("/{}", &*new))));
    app.docker(["inspect", &old]).fails();
    // The old name is free, and a running container takes a new one as well.
    let other = app.docker(["run", "-d", "--name", &old, &app.busybox(), "sleep", "600"]).succeeds().word();
    let third = app.name("rename-third");
    app.docker(["rename", &old, &third]).succeeds();
    assert_eq!(app.inspect(&third)["Id"], other);
}

/// E17
#[test]
fn rename_refuses_with_dockers_words() {
    let app = appliance();
    let (one, two) = (created("rename-one", &[]), created("rename-two", &[]));
    let to = |name: &str| app.api().post(&format!("/containers/{}/rename?name={name}", &*one));
    to("").refuses(400, "Neither old nor new names may be empty");
    to(&one).refuses(400, "Renaming a container with the same name as its current name");
    to(&two).refuses(409, "Error when allocating new name: Conflict. The container name");
    to("a").refuses(400, "Error when allocating new name: Invalid container name (a)");
    app.api().post("/containers/no-such/rename?name=other").refuses(404, "No such container");
    assert_eq!(app.inspect(&one)["Name"], format!("/{}", &*one));
}

/// F25
/// C9
#[test]
fn prune_takes_what_stands_still_and_fits() {
    let app = appliance();
    let up = app.name("prune-up");
    let mark = format!("prune={}", &*up);
    app.docker(["run", "-d", "--name", &up, "--label", &mark, &app.busybox(), "sleep", "600"]).succeeds();
    let created = |stem, label: &str| created(stem, &["--label", &mark, "--label", label]);
    let (plain, kept) = (created("prune-plain", "a=1"), created("prune-kept", "keep=yes"));
    let done = app.name("prune-done");
    let script = "head -c 100000 /dev/zero > /data";
    app.docker(["run", "--name", &done, "--label", &mark, &app.busybox(), "sh", "-c", script]).succeeds();
    let prune = |filters: Value| {
        app.api().post(&format!("/containers/prune?filters={}", encoded(&filters))).is(200).json()
    };
    let none = prune(json!({ "label": [mark], "until": ["1h"] }));
    assert_eq!(none, json!({ "ContainersDeleted": null, "SpaceReclaimed": 0 }));
    let filters = encoded(&json!({ "event": ["prune"], "type": ["container"] }));
    let mut events = app.api().stream("GET", &format!("/events?filters={filters}"));
    let gone = prune(json!({ "label": [mark], "label!": ["keep=yes"] }));
    let told = events.next_json().expect("events never end by themselves");
    let reclaimed = gone["SpaceReclaimed"].as_u64().expect("a number").to_string();
    assert_eq!(told["Actor"]["Attributes"], json!({ "reclaimed": reclaimed }), "{told}");
    assert_eq!(gone["ContainersDeleted"].as_array().map(Vec::len), Some(2), "{gone}");
    assert!(gone["SpaceReclaimed"].as_u64() >= Some(100_000), "{gone}");
    app.docker(["inspect", &plain]).fails();
    app.docker(["inspect", &done]).fails();
    app.inspect(&kept);
    let filter = format!("label={mark}");
    app.docker(["container", "prune", "--force", "--filter", &filter])
        .succeeds()
        .mentions("Deleted Containers:");
    app.docker(["inspect", &kept]).fails();
    assert_eq!(app.inspect(&up)["State"]["Status"], "running");
    let bad = encoded(&json!({ "colour": ["red"] }));
    app.api().post(&format!("/containers/prune?filters={bad}")).refuses(400, "nvalid filter");
}

/// F24
#[test]
fn update_changes_the_restart_policy() {
    let app = appliance();
    let name = created("update-policy", &[]);
    let policy = || app.inspect(&name)["HostConfig"]["RestartPolicy"].clone();
    app.docker(["update", "--restart", "on-failure:4", &name]).prints(&format!("{}\n", &*name)).succeeds();
    assert_eq!(policy(), json!({ "Name": "on-failure", "MaximumRetryCount": 4 }));
    app.docker(["update", "--restart", "sometimes", &name]).fails();
    // Zero and nothing keep what there is.
    let nothing = json!({ "RestartPolicy": { "Name": "" }, "Memory": 0, "NanoCpus": 0, "PidsLimit": null });
    let answer = app.api().post_json(&format!("/containers/{}/update", &*name), nothing).is(200).json();
    assert!(answer["Warnings"].as_array().is_none_or(Vec::is_empty), "{answer}");
    assert_eq!(policy()["MaximumRetryCount"], 4);
    assert_eq!(policy()["Name"], "on-failure");
    let own = created("update-rm", &["--rm"]);
    let id = app.inspect(&own)["Id"].clone();
    if is_reference(app) {
        skip!("the reference engine has other words");
    }
    let id = id.as_str().expect("an id is text");
    let text = format!(
        "Cannot update container {id}: Restart policy cannot be updated because AutoRemove is enabled for the container"
    );
    let body = json!({ "RestartPolicy": { "Name": "always" } });
    app.api().post_json(&format!("/containers/{}/update", &*own), body).refuses(409, &text);
    app.api().post_json("/containers/no-such/update", json!({})).refuses(404, "No such container");
}

#[test]
fn update_stops_a_policy_that_is_at_work() {
    let app = appliance();
    let name = app.name("update-stop");
    app.docker(["run", "-d", "--restart", "always", "--name", &name, &app.busybox(), "false"]).succeeds();
    app.docker(["update", "--restart", "no", &name]).succeeds();
    pinnace_tests::eventually("it stands still", app.patience(), || {
        (app.inspect(&name)["State"]["Status"] == "exited").then_some(())
    });
}

/// F24
#[test]
fn update_refuses_contradictions() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine runs on version 1 of control groups here");
    }
    let name = created("update-bad", &[]);
    let update = |body: Value| app.api().post_json(&format!("/containers/{}/update", &*name), body);
    update(json!({ "Memory": 1 })).refuses(400, "Minimum memory limit allowed is 6MB");
    update(json!({ "NanoCpus": 1, "CpuQuota": 1000 }))
        .refuses(400, "Nano CPUs and CPU Quota cannot both be set");
    update(json!({ "CpuShares": -1 })).refuses(400, "invalid CPU shares (-1)");
    let limited = app.api().get("/info").is(200).json()["MemoryLimit"] == true;
    if limited {
        let text = "Memory limit should be smaller than already set memoryswap limit";
        update(json!({ "Memory": 8 << 20 })).refuses(409, text);
    } else {
        let answer = update(json!({ "Memory": 8 << 20, "PidsLimit": 5 })).is(200).json();
        assert_eq!(answer["Warnings"].as_array().map(Vec::len), Some(2), "{answer}");
        // Nothing is shown as limited that is not.
        assert_eq!(app.inspect(&name)["HostConfig"]["Memory"], 0);
    }
}

/// F24, P9
#[test]
fn update_reaches_a_running_container() {
    let app = appliance();
    if is_reference(app) || app.api().get("/info").is(200).json()["MemoryLimit"] != true {
        skip!("this machine's control groups have no memory limit");
    }
    let name = app.name("update-live");
    app.docker(["run", "-d", "--name", &name, "-m", "64m", "--cpus", "0.5", &app.busybox(), "sleep", "600"])
        .succeeds();
    let read =
        |file: &str| app.docker(["exec", &name, "cat", &format!("/sys/fs/cgroup/{file}")]).succeeds().word();
    let args = [
        "--memory",
        "128m",
        "--memory-swap",
        "256m",
        "--cpus",
        "0.25",
        "--cpu-shares",
        "2048",
        "--pids-limit",
        "9",
    ];
    app.docker(["update"].into_iter().chain(args).chain([&*name])).succeeds();
    assert_eq!((read("memory.max"), read("memory.swap.max")), ("134217728".into(), "134217728".into()));
    assert_eq!((read("cpu.max"), read("pids.max")), ("25000 100000".into(), "9".into()));
    assert!(read("cpu.weight").parse::<u32>().expect("a number") > 100);
    app.docker(["update", "--pids-limit", "-1", &name]).succeeds();
    assert_eq!(read("pids.max"), "max");
    app.docker(["restart", "-t", "0", &name]).succeeds();
    assert_eq!(read("memory.max"), "134217728");
}

#[test]
fn limits_that_cannot_be_kept_are_warned_of() {
    let app = appliance();
    if is_reference(app) || app.api().get("/info").is(200).json()["MemoryLimit"] == true {
        skip!("this machine's control groups limit memory");
    }
    let name = app.name("warned");
    let args = ["create", "--name", &name, "-m", "64m", "--cpu-shares", "10", &app.busybox(), "true"];
    app.docker(args).succeeds().says_on_stderr("Your kernel does not support memory limit capabilities");
    app.docker(["start", "--attach", &name]).succeeds();
    app.docker(["run", "--rm", "--cpus", "1", &app.busybox(), "true"])
        .exits(125)
        .says_on_stderr("NanoCPUs can not be set");
}

/// E16
#[test]
fn every_filter_of_ps_narrows() {
    let app = appliance();
    let image = app.image(Image::Configured);
    let one = created("filter-one", &["--expose", "81", "--expose", "7000-7002/udp", "--tmpfs", "/scratch"]);
    let two = app.name("filter-two");
    app.docker(["run", "--name", &two, "--network", "none", "-v", "/tmp:/from-host", &image, "true"])
        .succeeds();
    let shown = |filters: Value| -> Vec<String> {
        let list =
            app.api().get(&format!("/containers/json?all=1&filters={}", encoded(&filters))).is(200).json();
        let names = list.as_array().expect("a list").iter().map(|row| row["Names"][0].as_str().unwrap_or(""));
        let ours = [format!("/{}", &*one), format!("/{}", &*two)];
        names.filter(|name| ours.iter().any(|our| our == name)).map(str::to_owned).collect()
    };
    let (first, second) = (format!("/{}", &*one), format!("/{}", &*two));
    assert_eq!(shown(json!({})), [&*second, &*first]);
    for (filters, expected) in [
        (json!({ "expose": ["81"] }), &first),
        (json!({ "expose": ["7001/udp"] }), &first),
        (json!({ "expose": ["80-82/tcp"] }), &first),
        (json!({ "network": ["none"] }), &second),
        (json!({ "volume": ["/from-host"] }), &second),
        (json!({ "volume": ["/tmp"] }), &second),
        (json!({ "status": ["created", "paused"] }), &first),
        (json!({ "ancestor": [image] }), &second),
        (json!({ "since": [*one] }), &second),
        (json!({ "before": [*two] }), &first),
        (json!({ "name": [format!("^/?{}$", &*one)] }), &first),
        (json!({ "id": [app.inspect(&two)["Id"].as_str().map(|id| &id[..20])] }), &second),
    ] {
        assert_eq!(shown(filters.clone()), [&**expected], "{filters}");
    }
    assert_eq!(shown(json!({ "is-task": ["true"] })), [""; 0]);
    assert_eq!(shown(json!({ "is-task": ["false"], "isolation": ["default"] })).len(), 2);
    assert_eq!(shown(json!({ "publish": ["80"] })), [""; 0]);
    assert_eq!(shown(json!({ "health": ["healthy"] })), [""; 0]);
    assert_eq!(shown(json!({ "health": ["none"] })).len(), 2);
    for (key, value) in [("status", "odd"), ("health", "odd"), ("is-task", "odd"), ("exited", "odd")] {
        let filters = encoded(&json!({ key: [value] }));
        let answer = app.api().get(&format!("/containers/json?filters={filters}"));
        if !is_reference(app) {
            answer.refuses(400, &format!("invalid filter '{key}=odd'"));
        }
    }
    let missing = encoded(&json!({ "before": ["no-such-container"] }));
    app.api().get(&format!("/containers/json?filters={missing}")).refuses(404, "No such container");
}
