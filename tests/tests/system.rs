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

#[test]
fn ping_answers_get_and_head_with_and_without_a_version() {
    let api = appliance().api();
    for path in ["/_ping", "/v1.24/_ping", "/v1.41/_ping"] {
        let get = api.get(path).is(200);
        assert_eq!(get.text(), "OK");
        let head = api.call("HEAD", path, Body::Empty).is(200).head;
        for (name, value) in [("Ostype", "linux"), ("Docker-Experimental", "false"), ("Pragma", "no-cache")] {
            assert_eq!(get.head.header(name), Some(value), "GET {path}: {name}");
            assert_eq!(head.header(name), Some(value), "HEAD {path}: {name}");
        }
        assert_eq!(head.header("Cache-Control"), Some("no-cache, no-store, must-revalidate"));
    }
}

#[test]
fn ping_tells_what_clients_negotiate_with() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has an older version");
    }
    let head = app.api().get("/_ping").is(200).head;
    assert_eq!(head.header("Api-Version"), Some("1.55"));
    assert_eq!(head.header("Swarm"), Some("inactive"));
    assert!(matches!(head.header("Builder-Version"), None | Some("1" | "2")));
}

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
    }
}

#[test]
fn all_versions_since_1_24_are_served() {
    let api = appliance().api();
    for minor in 24..=newest(&api) {
        api.get(&format!("/v1.{minor}/version")).is(200);
        api.get(&format!("/v1.{minor}/containers/json")).is(200);
    }
}

#[test]
fn versions_outside_the_range_are_refused() {
    let app = appliance();
    let api = app.api();
    let too_new =
        format!("client version 1.99 is too new. Maximum supported API version is 1.{}", newest(&api));
    api.get("/v1.99/version").refuses(400, &too_new);
    if !is_reference(app) {
        api.get("/v1.23/version").is(400);
        let too_old = "client version 1.12 is too old. Minimum supported API version is 1.24";
        assert!(api.get("/v1.12/version").is(400).text().contains(too_old));
    }
}

#[test]
fn unknown_paths_and_wrong_methods_are_not_found() {
    let api = appliance().api();
    api.get("/no-such-path").refuses(404, "page not found");
    api.get("/v1.41/no/such/path").refuses(404, "page not found");
    api.delete("/version").refuses(404, "page not found");
    api.post("/containers/json").refuses(404, "page not found");
}

#[test]
fn errors_are_one_json_object_with_a_newline() {
    let answer = appliance().api().get("/containers/no-such-container/json");
    let answer = answer.refuses(404, "No such container: no-such-container");
    assert_eq!(answer.text(), "{\"message\":\"No such container: no-such-container\"}\n");
}

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
    post("application/json", "{").refuses(400, "invalid JSON:");
    post("application/json", "{} {}").refuses(400, "unexpected content after JSON");
    post("application/json", "").refuses(400, "invalid JSON: EOF");
    post("application/json", "{}").refuses(400, "config cannot be empty in order to create a container");
}

#[test]
fn one_connection_serves_many_requests() {
    let app = appliance();
    let mut connection = app.api().connect();
    for _ in 0..3 {
        connection.call("GET", "/version", Body::Empty).is(200);
        connection.call("GET", "/no-such-path", Body::Empty).is(404);
        connection.call("HEAD", "/_ping", Body::Empty).is(200);
        connection
            .call("POST", "/containers/create?name=x", Body::Json(&json!({ "Image": "no/such" })))
            .is(404);
    }
}

#[test]
fn any_host_header_will_do() {
    let mut connection = appliance().api().connect();
    connection.send_raw(b"GET /_ping HTTP/1.1\r\nHost: api.moby.localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(connection.head().status, 200);
}

#[test]
fn version_lists_the_engine_as_a_component() {
    let api = appliance().api();
    let version = api.get("/version").is(200).json();
    let keys =
        ["Version", "ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Os", "Arch", "KernelVersion"];
    for key in keys {
        assert!(version[key].is_string(), "{key} in {version}");
    }
    assert_eq!(version["ApiVersion"], format!("1.{}", newest(&api)));
    let engine = &version["Components"][0];
    assert_eq!(engine["Name"], "Engine");
    let details = engine["Details"].as_object().expect("Details is an object");
    assert!(details.values().all(|value| value.is_string()), "{details:?}");
}

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
    let words =
        ["ID", "Name", "ServerVersion", "OperatingSystem", "KernelVersion", "DockerRootDir", "Driver"];
    for key in words {
        assert!(info[key].as_str().is_some_and(|word| !word.is_empty()), "{key} in {info}");
    }
    assert_eq!(info["OSType"], "linux");
    assert_eq!(info["Architecture"], std::env::consts::ARCH);
    assert_eq!(info["IndexServerAddress"], "https://index.docker.io/v1/");
    assert_eq!(info["Swarm"]["LocalNodeState"], "inactive");
    assert_eq!(info["Plugins"]["Volume"], json!(["local"]));
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

#[test]
fn swarm_is_declined_in_dockers_words() {
    let app = appliance();
    app.api().get("/services").refuses(503, "This node is not a swarm manager.");
    app.docker(["node", "ls"]).says_on_stderr("This node is not a swarm manager.").exits(1);
}
