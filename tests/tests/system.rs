//! `/_ping`, `/version`, `/info`, and what every answer has in common.

use crate::{appliance, is_reference};
use pinnace_tests::api::{Body, Client};
use pinnace_tests::skip;
use serde_json::json;

/// The newest API version the engine offers, as (1, minor).
fn newest(api: &Client) -> u32 {
    let head = api.get("/_ping").is(200).head;
    let version = head.header("Api-Version").expect("ping tells the API version").to_owned();
    version.strip_prefix("1.").and_then(|minor| minor.parse().ok()).expect("version is 1.NN")
}

/// A1; the connection is used again, so a body behind HEAD would be taken for the next answer.
#[test]
fn ping_answers_get_and_head_with_and_without_a_version() {
    let mut connection = appliance().api().connect();
    for path in ["/_ping", "/v1.24/_ping", "/v1.41/_ping"] {
        assert_eq!(connection.call("GET", path, Body::Empty).is(200).text(), "OK");
        connection.call("HEAD", path, Body::Empty).is(200);
    }
}

/// A2, A9: clients negotiate with these.
#[test]
fn ping_tells_what_clients_negotiate_with() {
    let app = appliance();
    let newest = if is_reference(app) { "1.41" } else { "1.55" };
    for method in ["GET", "HEAD"] {
        let head = app.api().call(method, "/_ping", Body::Empty).is(200).head;
        for (name, value) in [
            ("Api-Version", newest),
            ("Ostype", "linux"),
            ("Docker-Experimental", "false"),
            ("Cache-Control", "no-cache, no-store, must-revalidate"),
            ("Pragma", "no-cache"),
        ] {
            assert_eq!(head.header(name), Some(value), "{method}: {name}");
        }
        assert!(matches!(head.header("Builder-Version"), Some("1" | "2")), "{method}");
        if !is_reference(app) {
            assert_eq!(head.header("Swarm"), Some("inactive"));
        }
    }
    // The older of the two versions is spoken.
    let spoken = app.docker(["version", "--format", "{{.Client.APIVersion}}"]).succeeds().word();
    let minor = |version: &str| version.strip_prefix("1.").and_then(|minor| minor.parse::<u32>().ok());
    assert!(minor(&spoken).is_some() && minor(&spoken) <= minor(newest), "{spoken}");
}

/// A3
#[test]
fn every_answer_says_who_speaks() {
    let app = appliance();
    for path in ["/version", "/containers/no-such-container/json", "/no-such-path"] {
        if is_reference(app) && path == "/no-such-path" {
            continue;
        }
        let head = app.api().get(path).head;
        let server = head.header("Server").unwrap_or_default().to_owned();
        assert!(
            server.starts_with("Docker/") && server.ends_with(" (linux)"),
            "{path}: Server is {server:?}"
        );
        assert!(head.header("Api-Version").is_some(), "{path} has no Api-Version");
        assert_eq!(head.header("Ostype"), Some("linux"), "{path}");
    }
}

/// A5, A8
#[test]
fn all_versions_since_1_24_are_served() {
    let api = appliance().api();
    for minor in 24..=newest(&api) {
        api.get(&format!("/v1.{minor}/version")).is(200);
        api.get(&format!("/v1.{minor}/containers/json")).is(200);
    }
    // What is no version is a path.
    api.get("/v/version").is(404);
    api.get("/vx.y/version").is(404);
}

/// A8: a client that pins 1.24 lives its whole loop.
#[test]
fn the_oldest_version_runs_a_container() {
    let app = appliance();
    let (api, name) = (app.api(), app.name("oldest"));
    let at = |verb: &str| format!("/v1.24/containers/{}/{verb}", &*name);
    let body = json!({ "Image": app.busybox(), "Cmd": ["sh", "-c", "echo old; exit 3"] });
    api.post_json(&format!("/v1.24/containers/create?name={}", &*name), body).is(201);
    api.post(&at("start")).is(204);
    assert_eq!(api.post(&at("wait")).is(200).json()["StatusCode"], 3);
    assert!(api.get(&at("logs?stdout=1")).is(200).text().ends_with("old\n"));
    assert_eq!(api.get(&at("json")).is(200).json()["State"]["ExitCode"], 3);
    api.delete(&format!("/v1.24/containers/{}", &*name)).is(204);
}

/// A10
#[test]
fn an_endpoint_can_be_newer_than_the_client() {
    let api = appliance().api();
    let told = |endpoint: &str, minor: u32| format!("{endpoint} requires minimum API version 1.{minor}");
    api.get("/v1.24/system/df").refuses(400, &told("GET /system/df", 25));
    api.post("/v1.24/containers/prune").refuses(400, &told("POST /containers/prune", 25));
    api.post("/v1.24/images/prune").refuses(400, &told("POST /images/prune", 25));
    api.get("/v1.25/system/df").is(200);
}

/// A6, A7, A13
#[test]
fn versions_outside_the_range_are_refused() {
    let app = appliance();
    let api = app.api();
    let too_new =
        format!("client version 1.99 is too new. Maximum supported API version is 1.{}", newest(&api));
    api.get("/v1.99/version").refuses(400, &too_new);
    if !is_reference(app) {
        api.get("/v1.23/version").is(400);
        let too_old = "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your \
                       client to a newer version\n";
        let answer = api.get("/v1.12/version").is(400);
        assert_eq!(answer.text(), too_old);
        assert_eq!(answer.head.header("Content-Type"), Some("text/plain; charset=utf-8"));
    }
}

/// A11
#[test]
fn unknown_paths_and_wrong_methods_are_not_found() {
    let api = appliance().api();
    api.get("/no-such-path").refuses(404, "page not found");
    api.get("/v1.41/no/such/path").refuses(404, "page not found");
    api.delete("/version").refuses(404, "page not found");
    api.post("/containers/json").refuses(404, "page not found");
}

/// A12: Go's clients compare the type as a whole, and show the raw body where it differs.
#[test]
fn errors_are_one_json_object_with_a_newline() {
    let answer = appliance().api().get("/containers/no-such-container/json");
    let answer = answer.refuses(404, "No such container: no-such-container");
    assert_eq!(answer.head.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.text(), "{\"message\":\"No such container: no-such-container\"}\n");
}

/// A14, as far as this engine can be brought to it.
#[test]
fn each_kind_of_error_has_its_status() {
    let app = appliance();
    let (api, name) = (app.api(), app.name("statuses"));
    let body = json!({ "Image": app.busybox(), "Cmd": ["true"] });
    let create = |name: &str| api.post_json(&format!("/containers/create?name={name}"), body.clone());
    create(&name).is(201);
    create("-").refuses(400, "Invalid container name");
    api.get("/containers/no-such/json").refuses(404, "No such container");
    create(&name).refuses(409, "Conflict.");
    api.post(&format!("/containers/{}/kill", &*name)).refuses(409, "is not running");
    api.post(&format!("/containers/{}/stop", &*name)).is(304);
    let other = app.name("status-500");
    app.docker(["run", "--detach", "--name", &other, &app.busybox(), "sleep", "600"]).succeeds();
    let path = format!("/containers/{}/top?ps_args=-o+comm", &*other);
    api.get(&path).refuses(500, "Couldn't find PID field in ps output");
    api.get("/swarm").refuses(503, "This node is not a swarm manager.");
    if !is_reference(app) {
        api.post("/plugins/create?name=x").refuses(501, "not supported");
    }
}

/// A16, A17
#[test]
fn nonsense_bodies_are_refused_kindly() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has older words");
    }
    let post =
        |kind, body: &str| app.api().call("POST", "/containers/create", Body::Bytes(kind, body.as_bytes()));
    post("text/plain", "{}")
        .refuses(400, "unsupported Content-Type header (text/plain): must be 'application/json'");
    post("application/x-www-form-urlencoded", "{}").refuses(400, "unsupported Content-Type header");
    post("", "{}").refuses(400, "malformed Content-Type header (): mime: no media type");
    post("application/json; charset=utf-8", "{}").refuses(400, "config cannot be empty");
    // Nothing is sent, so nothing must be said of it.
    let name = app.name("no-body");
    app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds();
    app.api().post(&format!("/containers/{}/start", &*name)).is(204);
    post("application/json", "{").refuses(400, "invalid JSON:");
    post("application/json", "{} {}").refuses(400, "unexpected content after JSON");
    post("application/json", "").refuses(400, "invalid JSON: EOF");
    post("application/json", "{}").refuses(400, "config cannot be empty in order to create a container");
}

/// A24: also behind a stream.
#[test]
fn one_connection_serves_many_requests() {
    let app = appliance();
    let mut connection = app.api().connect();
    let name = app.name("keep-alive");
    app.docker(["run", "--name", &name, &app.busybox(), "echo", "words"]).succeeds();
    for _ in 0..3 {
        connection.call("GET", "/version", Body::Empty).is(200);
        let path = format!("/containers/{}/logs?stdout=1&follow=1", &*name);
        let logs = connection.call("GET", &path, Body::Empty).is(200);
        assert_eq!(logs.head.header("Transfer-Encoding"), Some("chunked"));
        assert!(logs.text().ends_with("words\n"));
        connection.call("GET", "/no-such-path", Body::Empty).is(404);
        connection.call("HEAD", "/_ping", Body::Empty).is(200);
        connection
            .call("POST", "/containers/create?name=x", Body::Json(&json!({ "Image": "no/such" })))
            .is(404);
    }
}

/// A28
#[test]
fn any_host_header_will_do() {
    for host in
        ["docker", "localhost", "api.moby.localhost", "%2Fvar%2Frun%2Fdocker.sock", "/run/docker.sock", ""]
    {
        let mut connection = appliance().api().connect();
        let request = format!("GET /_ping HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        connection.send_raw(request.as_bytes());
        assert_eq!(connection.head().status, 200, "{host}");
    }
}

/// A20: as clients of many languages write yes and no.
#[test]
fn flags_are_dockers_booleans() {
    let app = appliance();
    let name = app.name("flags");
    app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds();
    let listed = |flag: &str| {
        let path = format!("/containers/json?filters=%7B%22name%22%3A%5B%22{}%22%5D%7D{flag}", &*name);
        app.api().get(&path).is(200).json() != json!([])
    };
    for no in [
        "",
        "&all",
        "&all=",
        "&all=0",
        "&all=no",
        "&all=No",
        "&all=false",
        "&all=False",
        "&all=FALSE",
        "&all=none",
        "&all=%20none%20",
    ] {
        assert!(!listed(no), "{no:?}");
    }
    for yes in ["&all=1", "&all=true", "&all=True", "&all=yes", "&all=on", "&all=2", "&all=x"] {
        assert!(listed(yes), "{yes:?}");
    }
}

/// A21: the names of images are in paths as they are, or percent-encoded.
#[test]
fn names_in_paths_hold_slashes_colons_and_signs() {
    let app = appliance();
    let image = app.busybox();
    let api = app.api();
    let found = api.get(&format!("/images/{image}/json")).is(200).json();
    let digest = found["RepoDigests"][0].as_str().expect("a digest").to_owned();
    assert!(image.contains('/') && image.contains(':') && digest.contains('@'), "{image} {digest}");
    for name in [&image, &digest] {
        let encoded = name.replace('/', "%2F").replace(':', "%3A").replace('@', "%40");
        for form in [name, &encoded] {
            assert_eq!(api.get(&format!("/images/{form}/json")).is(200).json()["Id"], found["Id"], "{form}");
            api.get(&format!("/v1.44/images/{form}/history")).is(200);
        }
    }
}

/// B1, B2
#[test]
fn version_lists_the_engine_as_a_component() {
    let api = appliance().api();
    let answer = api.get("/version").is(200);
    let version = answer.json();
    let shared =
        ["ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Os", "Arch", "BuildTime", "KernelVersion"];
    for key in shared.iter().chain(&["Version"]) {
        assert!(version[key].is_string(), "{key} in {version}");
    }
    assert_eq!(version["ApiVersion"], format!("1.{}", newest(&api)));
    assert!(version["Platform"]["Name"].is_string(), "{version}");
    let engine = &version["Components"][0];
    assert_eq!((&engine["Name"], &engine["Version"]), (&json!("Engine"), &version["Version"]));
    for key in shared {
        assert_eq!(engine["Details"][key], version[key], "{key}");
    }
    assert_eq!(engine["Details"]["Experimental"], "false");
    assert!(!answer.text().to_lowercase().contains("podman"));
}

/// B8: clients take both for a sign of life.
#[test]
fn info_and_version_come_quickly() {
    let api = appliance().api();
    for path in ["/info", "/version"] {
        let best = (0..3).map(|_| {
            let start = std::time::Instant::now();
            api.get(path).is(200);
            start.elapsed()
        });
        assert!(best.min() < Some(std::time::Duration::from_secs(1)), "{path}");
    }
}

/// B3, B4, B5
#[test]
fn info_has_what_clients_read() {
    let app = appliance();
    let info = app.api().get("/info").is(200).json();
    let numbers = [
        "Containers",
        "ContainersRunning",
        "ContainersPaused",
        "ContainersStopped",
        "Images",
        "NCPU",
        "MemTotal",
    ];
    for key in numbers {
        assert!(info[key].is_u64(), "{key} in {info}");
    }
    let words = [
        "ID",
        "Name",
        "ServerVersion",
        "OperatingSystem",
        "KernelVersion",
        "DockerRootDir",
        "Driver",
        "LoggingDriver",
        "CgroupDriver",
        "DefaultRuntime",
        "InitBinary",
    ];
    for key in words {
        assert!(info[key].as_str().is_some_and(|word| !word.is_empty()), "{key} in {info}");
    }
    assert_eq!(info["OSType"], "linux");
    assert_eq!(info["Architecture"], std::env::consts::ARCH);
    assert_eq!(info["IndexServerAddress"], "https://index.docker.io/v1/");
    assert_eq!(info["Swarm"]["LocalNodeState"], "inactive");
    assert_eq!(info["Swarm"]["ControlAvailable"], false);
    let registries = &info["RegistryConfig"];
    let insecure = registries["InsecureRegistryCIDRs"].as_array().expect("a list");
    assert!(insecure.contains(&json!("127.0.0.0/8")) && insecure.contains(&json!("::1/128")), "{registries}");
    let hub = json!({ "Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true });
    assert_eq!(registries["IndexConfigs"]["docker.io"], hub);
    assert_eq!(info["Plugins"]["Volume"], json!(["local"]));
    let networks = info["Plugins"]["Network"].as_array().expect("a list");
    assert!(["bridge", "host", "null"].iter().all(|name| networks.contains(&json!(name))), "{networks:?}");
    assert!(
        info["Plugins"]["Log"].as_array().is_some_and(|logs| logs.contains(&json!("json-file"))),
        "{info}"
    );
    assert!(info["Runtimes"]["runc"]["path"].is_string(), "{info}");
    assert!(info["Warnings"].is_null() || info["Warnings"].is_array(), "{info}");
    let status = info["DriverStatus"].as_array().expect("a list of pairs");
    assert!(status.iter().all(|pair| pair.as_array().is_some_and(|pair| pair.len() == 2)), "{status:?}");
    // Without this word the command line knows that there is no store of containerd's.
    assert!(!status.iter().any(|pair| pair[0] == "driver-type") && info["Containerd"].is_null(), "{info}");
    if !is_reference(app) {
        assert_eq!(info["CgroupVersion"], "2");
        assert_eq!(info["SecurityOptions"], json!(["name=seccomp,profile=builtin", "name=cgroupns"]));
    }
}

#[test]
fn the_command_line_shows_both() {
    let app = appliance();
    app.docker(["version"]).mentions("Server:").mentions("API version:").succeeds();
    app.docker(["version", "--format", "{{.Server.Os}}"]).prints("linux\n").succeeds();
    app.docker(["info"]).mentions("Storage Driver:").never_mentions("ERROR").succeeds();
}

/// A26
#[test]
fn swarm_is_declined_in_dockers_words() {
    let app = appliance();
    let told = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this \
                node to swarm and try again.";
    let api = app.api();
    for path in ["/swarm", "/services", "/tasks", "/nodes", "/secrets", "/configs", "/nodes/x", "/services/x"]
    {
        assert_eq!(api.get(path).is(503).json()["message"], told, "{path}");
    }
    api.post("/swarm/leave").refuses(503, "This node is not part of a swarm");
    app.docker(["node", "ls"]).says_on_stderr(told).exits(1);
    app.docker(["swarm", "leave"]).says_on_stderr("This node is not part of a swarm").exits(1);
}

/// A27
#[test]
fn there_are_no_plugins() {
    let app = appliance();
    assert_eq!(app.api().get("/plugins").is(200).json(), json!([]));
    app.docker(["plugin", "ls", "--quiet"]).prints("").succeeds();
}

/// A24: what was begun for a client that leaves is done all the same.
#[test]
fn a_client_that_leaves_does_not_stop_a_restart() {
    let app = appliance();
    let name = app.name("left");
    let script = "trap 'sleep 1; exit 0' TERM; echo up; while :; do usleep 20000; done";
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sh", "-c", script]).succeeds();
    pinnace_tests::eventually("it is up", app.patience(), || {
        app.docker(["logs", &name]).text().contains("up").then_some(())
    });
    let before = app.inspect(&name)["State"]["StartedAt"].clone();
    let mut connection = app.api().connect();
    connection.send("POST", &format!("/containers/{}/restart?t=30", &*name), &[], Body::Empty);
    std::thread::sleep(std::time::Duration::from_millis(200));
    drop(connection);
    pinnace_tests::eventually("it runs again", app.patience(), || {
        let state = app.inspect(&name)["State"].clone();
        (state["Status"] == "running" && state["StartedAt"] != before).then_some(())
    });
}

/// A24: what a client leaves ends; `/info` counts what the engine has open.
#[test]
fn streams_of_clients_that_left_end() {
    let app = appliance();
    let open = || app.api().get("/info").is(200).json()["NEventsListener"].as_u64().expect("a number");
    let streams: Vec<_> = (0..100).map(|_| app.api().stream("GET", "/events")).collect();
    assert!(open() >= 100);
    drop(streams);
    // Other tests listen, too, but not so many.
    pinnace_tests::eventually("nobody is told any more", app.patience(), || (open() < 50).then_some(()));
}

#[test]
fn what_is_not_built_yet_says_so() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has all of it");
    }
    for (method, path) in
        [("POST", "/plugins/create"), ("GET", "/plugins/privileges"), ("POST", "/plugins/pull")]
    {
        let answer = app.api().call(method, &format!("{path}?name=x&remote=x"), Body::Empty).is(501).json();
        assert_eq!(
            answer["message"],
            format!("{method} {path} is not supported by this release of Pinnace yet")
        );
    }
}
