//! `docker inspect`.

use crate::{appliance, is_reference};
use pinnace_tests::images::Image;
use serde_json::{Value, json};

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
    let env: Vec<&str> = config["Env"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(env.contains(&"SIZE=9") && env.contains(&"COLOUR=green") && !env.contains(&"SIZE=7"), "{env:?}");
}

#[test]
fn host_configuration_has_its_defaults() {
    let app = appliance();
    let name = app.name("inspect-host");
    app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds();
    let host = app.inspect(&name)["HostConfig"].clone();
    assert_eq!(host["LogConfig"]["Type"], "json-file", "docker-py reads output only from json-file (E6)");
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

#[test]
fn containers_are_found_by_name_id_and_prefix() {
    let app = appliance();
    let name = app.name("inspect-find");
    let id = app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds().word();
    for form in [&*name, &id, &id[..12], &id[..6]] {
        let path = format!("/containers/{form}/json");
        assert_eq!(app.api().get(&path).is(200).json()["Id"], id.as_str(), "{form}");
    }
    app.docker(["inspect", "no-such-thing"]).says_on_stderr("o such object: no-such-thing").exits(1);
}

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
