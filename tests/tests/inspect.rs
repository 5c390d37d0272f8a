//! `docker inspect`.

use crate::{appliance, is_reference};
use pinnace_tests::images::Image;
use serde_json::{Value, json};

/// E2, E3, E4
#[test]
fn a_running_container_is_described() {
    let app = appliance();
    let (name, image) = (app.name("inspect"), app.busybox());
    let id = app.docker(["run", "--detach", "--name", &name, &image, "sleep", "600"]).succeeds().word();
    let answer = app.inspect(&name);
    assert_eq!(answer["Id"], id.as_str());
    assert_eq!(answer["Name"], format!("/{}", &*name));
    assert_eq!((&answer["Path"], &answer["Args"]), (&json!("sleep"), &json!(["600"])));
    assert_eq!(answer["Platform"], "linux");
    assert_eq!(answer["RestartCount"], 0);
    assert!(answer["Image"].as_str().is_some_and(|image| image.starts_with("sha256:")), "{answer}");
    let state = &answer["State"];
    assert_eq!(
        (&state["Status"], &state["Running"], &state["Paused"]),
        (&json!("running"), &json!(true), &json!(false))
    );
    assert!(state["Pid"].as_u64().is_some_and(|pid| pid > 1), "{state}");
    assert_eq!(state["FinishedAt"], "0001-01-01T00:00:00Z");
    assert!(
        state["StartedAt"].as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')),
        "{state}"
    );
}

/// E2, E3: never is the year 1, which clients read as such.
#[test]
fn a_created_container_never_started() {
    let app = appliance();
    let name = app.name("inspect-created");
    app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds();
    let state = app.inspect(&name)["State"].clone();
    assert_eq!(
        (&state["Status"], &state["Pid"], &state["ExitCode"]),
        (&json!("created"), &json!(0), &json!(0))
    );
    assert_eq!(state["StartedAt"], "0001-01-01T00:00:00Z");
    assert!(state["Health"].is_null());
}

/// E2
#[test]
fn an_ended_container_keeps_its_end() {
    let app = appliance();
    let name = app.name("inspect-ended");
    app.docker(["run", "--name", &name, &app.busybox(), "sh", "-c", "exit 19"]).exits(19);
    let state = app.inspect(&name)["State"].clone();
    assert_eq!(
        (&state["Status"], &state["Running"], &state["ExitCode"]),
        (&json!("exited"), &json!(false), &json!(19))
    );
    assert_eq!((&state["Pid"], &state["OOMKilled"], &state["Error"]), (&json!(0), &json!(false), &json!("")));
    let (started, finished) = (state["StartedAt"].as_str(), state["FinishedAt"].as_str());
    assert!(started < finished, "{state}");
}

/// D6, E5
#[test]
fn the_configuration_is_echoed() {
    let app = appliance();
    let (name, image) = (app.name("inspect-config"), app.image(Image::Configured));
    let args =
        ["create", "-i", "--name", &name, "--label", "mine=yes", "-e", "SIZE=9", "-w", "/w", &image, "word"];
    app.docker(args).succeeds();
    let config = app.inspect(&name)["Config"].clone();
    assert_eq!(config["Image"], image.as_str());
    assert_eq!((&config["Entrypoint"], &config["Cmd"]), (&json!(["echo", "entry:"]), &json!(["word"])));
    assert_eq!((&config["User"], &config["WorkingDir"]), (&json!("guest"), &json!("/w")));
    assert_eq!(
        (&config["OpenStdin"], &config["StdinOnce"], &config["Tty"]),
        (&json!(true), &json!(true), &json!(false))
    );
    assert_eq!(config["Labels"], json!({ "mine": "yes", "org.example.kind": "configured" }));
    assert_eq!(config["StopSignal"], "SIGUSR1");
    for (key, value) in
        [("Domainname", json!("")), ("AttachStdin", json!(true)), ("AttachStderr", json!(true))]
    {
        assert_eq!(config[key], value, "{key}");
    }
    assert_eq!((&config["Volumes"], &config["ExposedPorts"]), (&Value::Null, &json!({ "8080/tcp": {} })));
    let env: Vec<&str> = config["Env"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(env.contains(&"SIZE=9") && env.contains(&"COLOUR=green") && !env.contains(&"SIZE=7"), "{env:?}");
}

/// D21, E6: docker-py reads output only from json-file and journald.
#[test]
fn host_configuration_has_its_defaults() {
    let app = appliance();
    let name = app.name("inspect-host");
    app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds();
    let host = app.inspect(&name)["HostConfig"].clone();
    assert_eq!(host["LogConfig"]["Type"], "json-file");
    assert_eq!(host["ShmSize"], 67_108_864);
    assert_eq!(host["RestartPolicy"]["Name"], "no");
    assert_eq!(host["Runtime"], "runc");
    assert_eq!((&host["Privileged"], &host["AutoRemove"]), (&json!(false), &json!(false)));
    if !is_reference(app) {
        assert_eq!((&host["IpcMode"], &host["CgroupnsMode"]), (&json!("private"), &json!("private")));
        assert_eq!(host["NetworkMode"], "bridge");
        assert_eq!(
            host["ReadonlyPaths"],
            json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"])
        );
        assert!(
            host["MaskedPaths"].as_array().is_some_and(|paths| paths.contains(&json!("/proc/kcore"))),
            "{host}"
        );
    }
}

/// E8
#[test]
fn the_network_is_described() {
    let app = appliance();
    let name = app.name("inspect-network");
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    let settings = app.inspect(&name)["NetworkSettings"].clone();
    assert_eq!(settings["Ports"], json!({}));
    let bridge = &settings["Networks"]["bridge"];
    assert_eq!(bridge["IPPrefixLen"], 16);
    assert_eq!(bridge["Gateway"], "172.17.0.1");
    assert!(bridge["IPAddress"].as_str().is_some_and(|address| address.starts_with("172.17.")), "{settings}");
    assert_eq!(bridge["MacAddress"].as_str().map(str::len), Some(17));
    for key in ["NetworkID", "EndpointID"] {
        assert_eq!(bridge[key].as_str().map(str::len), Some(64), "{key}");
    }
}

/// E1
#[test]
fn containers_are_found_by_name_id_and_prefix() {
    let app = appliance();
    let name = app.name("inspect-find");
    let id = app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds().word();
    for form in [&*name, &id, &id[..12], &id[..6]] {
        let path = format!("/containers/{form}/json");
        assert_eq!(app.api().get(&path).is(200).json()["Id"], id.as_str(), "{form}");
    }
    for slash in ["%2F", "/"] {
        app.api().get(&format!("/containers/{slash}{}/json", &*name)).is(200);
    }
    app.api().get("/containers/no-such-thing/json").refuses(404, "No such container: no-such-thing");
    app.docker(["inspect", "no-such-thing"]).says_on_stderr("o such object: no-such-thing").exits(1);
}

/// E12
#[test]
fn sizes_are_told_on_request() {
    let app = appliance();
    let name = app.name("inspect-size");
    app.docker([
        "run",
        "--name",
        &name,
        &app.busybox(),
        "dd",
        "if=/dev/zero",
        "of=/file",
        "bs=1k",
        "count=64",
    ]);
    assert!(app.inspect(&name)["SizeRw"].is_null());
    let path = format!("/containers/{}/json?size=1", &*name);
    let answer = app.api().get(&path).is(200).json();
    assert!(answer["SizeRw"].as_u64().is_some_and(|size| size >= 65_536), "{}", answer["SizeRw"]);
    assert!(answer["SizeRootFs"].as_u64() > answer["SizeRw"].as_u64());
}

/// E1: of 17 ids two begin with the same digit.
#[test]
fn a_beginning_that_two_share_names_none() {
    let app = appliance();
    let (api, image) = (app.api(), app.busybox());
    let names: Vec<_> = (0..17).map(|_| app.name("alike")).collect();
    let ids: Vec<String> = names
        .iter()
        .map(|name| {
            let body = json!({ "Image": image, "Cmd": ["true"] });
            let answer = api.post_json(&format!("/containers/create?name={}", &**name), body).is(201).json();
            answer["Id"].as_str().expect("an id").to_owned()
        })
        .collect();
    let shared = |id: &&String| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1;
    let digit = &ids.iter().find(shared).expect("seventeen ids, sixteen digits")[..1];
    let told = format!("multiple IDs found with provided prefix: {digit}");
    api.get(&format!("/containers/{digit}/json")).refuses(400, &told);
    // A name goes before the beginning of an id.
    let (whole, beginning) = (&ids[0], &ids[0][..20]);
    let named = app.docker(["create", "--name", beginning, &image, "true"]).succeeds().word();
    assert_eq!(app.inspect(beginning)["Id"], named.as_str());
    assert_eq!(app.inspect(whole)["Id"], whole.as_str());
    app.docker(["rm", beginning]).succeeds();
}

/// E2, E15
#[test]
fn a_paused_container_runs_as_well() {
    let app = appliance();
    let name = app.name("inspect-paused");
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    app.docker(["pause", &name]).succeeds();
    let state = app.inspect(&name)["State"].clone();
    let shown = (&state["Status"], &state["Running"], &state["Paused"], &state["Restarting"], &state["Dead"]);
    assert_eq!(shown, (&json!("paused"), &json!(true), &json!(true), &json!(false), &json!(false)));
    assert!(state["Health"].is_null() && state["OOMKilled"] == false, "{state}");
    let row =
        app.docker(["ps", "--filter", &format!("name={}", &*name), "--format", "{{.State}} {{.Status}}"]);
    let row = row.succeeds().word();
    assert!(row.starts_with("paused Up ") && row.ends_with(" (Paused)"), "{row}");
    app.docker(["unpause", &name]).succeeds();
}

/// E3
#[test]
fn times_are_exact_and_of_no_zone() {
    let app = appliance();
    let name = app.name("inspect-times");
    app.docker(["run", "--name", &name, &app.busybox(), "true"]).succeeds();
    let inspect = app.inspect(&name);
    for time in [&inspect["Created"], &inspect["State"]["StartedAt"], &inspect["State"]["FinishedAt"]] {
        // 2026-11-21T17:48:36.123456789Z, with no zeros at the end of the fraction
        let text = time.as_str().expect("a time is text");
        let (date, fraction) =
            text.trim_end_matches('Z').split_once('.').unwrap_or((text.trim_end_matches('Z'), "0"));
        assert!(text.ends_with('Z') && date.len() == 19 && &date[10..11] == "T", "{text}");
        assert!(fraction.len() <= 9 && fraction.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
    }
    assert!(inspect["Created"].as_str() <= inspect["State"]["StartedAt"].as_str(), "{inspect}");
}

/// E4, E8, E9, E10, E11: what is there, each of its type, in older and newer versions.
#[test]
fn every_field_is_there() {
    let app = appliance();
    let name = app.name("inspect-fields");
    app.docker([
        "run",
        "--detach",
        "--name",
        &name,
        "-v",
        "/tmp:/from-host:ro",
        &app.busybox(),
        "sleep",
        "600",
    ])
    .succeeds();
    let at = |version: &str| app.api().get(&format!("{version}/containers/{}/json", &*name)).is(200).json();
    let (old, new) = (at("/v1.51"), at(""));
    let texts = [
        "Id",
        "Created",
        "Path",
        "Image",
        "Name",
        "Driver",
        "Platform",
        "MountLabel",
        "ProcessLabel",
        "AppArmorProfile",
        "LogPath",
        "ResolvConfPath",
        "HostnamePath",
        "HostsPath",
    ];
    for all in [&old, &new] {
        for key in texts {
            assert!(all[key].is_string(), "{key}");
        }
        assert!(all["Args"].is_array() && all["RestartCount"].is_u64(), "{all}");
        assert!(all.get("ExecIDs").is_some_and(|ids| ids.is_null() || ids.is_array()), "{all}");
        let settings = &all["NetworkSettings"];
        assert!(settings["SandboxID"].is_string() && settings["SandboxKey"].is_string(), "{settings}");
    }
    let mount = json!({
        "Type": "bind", "Source": "/tmp", "Destination": "/from-host", "Mode": "ro", "RW": false, "Propagation": "rprivate",
    });
    assert_eq!(new["Mounts"], json!([mount]));
    let (top, bridge) = (&old["NetworkSettings"], &old["NetworkSettings"]["Networks"]["bridge"]);
    for key in ["IPAddress", "IPPrefixLen", "Gateway", "MacAddress", "EndpointID"] {
        assert!(!bridge[key].is_null() && top[key] == bridge[key], "{key} in {top}");
    }
    assert!(top["Bridge"].is_string() && old["GraphDriver"]["Name"].is_string(), "{top}");
    if is_reference(app) {
        return;
    }
    for key in ["IPAddress", "IPPrefixLen", "Gateway", "MacAddress", "Bridge"] {
        assert!(new["NetworkSettings"][key].is_null(), "{key}");
    }
    assert!(
        new["GraphDriver"].is_null() && new["Storage"]["RootFS"]["Snapshot"]["Name"].is_string(),
        "{new}"
    );
    assert!(old["Storage"].is_null(), "{old}");
}

/// E8
#[test]
fn networks_are_told_before_the_first_start() {
    let app = appliance();
    let name = app.name("inspect-networks");
    app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds();
    let settings = app.inspect(&name)["NetworkSettings"].clone();
    let bridge = settings["Networks"]["bridge"].as_object().expect("an object").clone();
    for key in ["IPAMConfig", "Links", "Aliases", "DriverOpts", "DNSNames"] {
        assert!(bridge.contains_key(key), "{key}");
    }
    for key in ["EndpointID", "Gateway", "IPAddress", "MacAddress", "IPv6Gateway", "GlobalIPv6Address"] {
        assert_eq!(bridge[key], "", "{key}");
    }
    for key in ["IPPrefixLen", "GlobalIPv6PrefixLen", "GwPriority"] {
        assert_eq!(bridge[key], 0, "{key}");
    }
}

/// E7: testcontainers and others look the key up, and take its first entry.
#[test]
fn exposed_ports_have_keys_while_it_runs() {
    let app = appliance();
    let name = app.name("inspect-ports");
    let args = ["--expose", "80", "--expose", "53/udp", &app.busybox(), "sleep", "600"];
    app.docker(["create", "--name", &name].into_iter().chain(args)).succeeds();
    let ports = || app.inspect(&name)["NetworkSettings"]["Ports"].clone();
    assert_eq!(ports(), json!({}));
    app.docker(["start", &name]).succeeds();
    assert_eq!(ports(), json!({ "80/tcp": null, "53/udp": null }));
    app.docker(["port", &name]).prints("").succeeds();
    let row = app.docker(["ps", "--filter", &format!("name={}", &*name), "--format", "{{.Ports}}"]);
    row.prints("53/udp, 80/tcp\n").succeeds();
    app.docker(["stop", "-t", "0", &name]).succeeds();
    assert_eq!(ports(), json!({}));
}
