//! The verbs of Compose and the fields of its services, each seen from inside the containers.

use crate::appliance;
use crate::compose::{Project, program};
use pinnace_tests::{Backend, skip};
use serde_json::json;

fn project(stem: &str, text: &str) -> Option<Project<'static>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Some(Project::of(appliance(), program()?, stem, folder, text))
}

fn write(project: &Project<'_>, name: &str, text: &str) {
    std::fs::write(project.folder.path().join(name), text).expect("the folder is ours");
}

/// What a script prints in a service's container.
fn sh(project: &Project<'_>, service: &str, script: &str) -> String {
    project.run(&["exec", "-T", service, "sh", "-c", script]).succeeds().word()
}

const LIFE: &str = r#"
services:
  counts:
    image: ${IMAGE}
    init: true
    command: sh -c 'n=0; while :; do n=$$((n+1)); echo "line $$n"; sleep 0.1; done'
  ends:
    image: ${IMAGE}
    command: sh -c 'echo over; exit 3'
    profiles: [once]
"#;

#[test]
fn a_service_is_followed_stopped_and_made_anew() {
    let Some(project) = project("verbs-life", LIFE) else {
        skip!("there is no docker-compose for these tests")
    };
    let app = project.app;
    let mut events = project.beside(&["events", "--json"]);
    project.run(&["up", "--detach"]).succeeds();
    let state = || app.inspect(&project.id("counts"))["State"]["Status"].clone();
    let mut log = project.beside(&["logs", "--follow", "--no-log-prefix", "--tail", "1", "counts"]);
    log.reads_until("line ");
    log.reads_until("line ");
    project.run(&["top", "counts"]).succeeds().mentions("sleep 0.1");
    for (verb, after) in [
        (&["pause"][..], "paused"),
        (&["unpause"], "running"),
        (&["stop", "--timeout", "0"], "exited"),
        (&["start"], "running"),
        (&["restart", "--timeout", "0"], "running"),
        (&["kill", "--signal", "KILL"], "exited"),
        (&["start"], "running"),
    ] {
        project.run(verb).succeeds();
        assert_eq!(state(), after, "after {verb:?}");
    }
    let before = project.id("counts");
    project.run(&["up", "--detach", "--timeout", "0"]).succeeds();
    assert_eq!(project.id("counts"), before, "nothing has changed");
    project.run(&["up", "--detach", "--force-recreate", "--timeout", "0"]).succeeds();
    assert_ne!(project.id("counts"), before);
    project.run(&["run", "--rm", "ends"]).prints("over\n").exits(3);
    project.run(&["--profile", "once", "up", "--exit-code-from", "ends", "--timeout", "0"]).exits(3);
    for action in ["create", "start", "pause", "unpause", "kill", "die", "stop", "restart", "destroy"] {
        events.reads_until(&format!("\"action\":\"{action}\""));
    }
    events.kill();
    project.run(&["--profile", "once", "down", "--timeout", "0"]).succeeds();
    assert_eq!(project.left(), "");
}

const FIELDS: &str = r#"
services:
  base:
    extends: { file: common.yaml, service: common }
    hostname: ${HOST_WORD:-nobody}
    domainname: example.org
    tmpfs: ["/scratch:size=1m,mode=1777"]
    ulimits: { nofile: { soft: 100, hard: 200 } }
    cap_add: [NET_ADMIN]
    cap_drop: [MKNOD]
    extra_hosts: ["elsewhere:192.0.2.7"]
    dns_search: [lan.example]
    sysctls: { net.core.somaxconn: 99 }
    user: "1000:1000"
    group_add: [audio]
    working_dir: /tmp
    stop_signal: SIGUSR1
    stop_grace_period: 7s
    shm_size: 2m
    labels: { org.example.kind: trial }
    logging: { driver: json-file, options: { max-size: 1m, max-file: "2" } }
    deploy: { resources: { limits: { memory: 64m, pids: 50 } } }
    configs: [{ source: motd, target: /motd, mode: 0440, uid: "1000", gid: "1000" }]
    secrets: [{ source: token, target: token }]
    networks: { default: { aliases: [ground], ipv4_address: 10.213.7.9 }, shared: {} }
    volumes: ["kept:/kept", { type: tmpfs, target: /memory, tmpfs: { size: 4096 } }]
  beside:
    image: ${IMAGE}
    init: true
    command: sleep 600
    network_mode: service:base
    pid: service:base
    depends_on: [base]
  linked:
    image: ${IMAGE}
    init: true
    command: sleep 600
    links: ["base:other-name"]
    deploy: { replicas: 2 }
    restart: on-failure:3
    read_only: true
configs: { motd: { content: "Welcome, ${HOST_WORD}\n" } }
secrets: { token: { environment: TOKEN_OF_THE_TEST } }
networks:
  default: { ipam: { config: [{ subnet: 10.213.7.0/24 }] } }
  shared: { external: true, name: "${SHARED}" }
volumes: { kept: { external: true, name: "${SHARED}" } }
"#;

const COMMON: &str = r#"
services:
  common:
    image: ${IMAGE}
    init: true
    environment: { FROM_COMMON: "yes", FROM_ENV: "${HOST_WORD}" }
    env_file: [more.env]
    command: sleep 600
"#;

#[test]
fn what_a_service_asks_for_is_what_its_container_has() {
    let Some(project) = project("verbs-fields", FIELDS) else {
        skip!("there is no docker-compose for these tests")
    };
    let (app, shared) = (project.app, project.name.clone() + "-shared");
    write(&project, "common.yaml", COMMON);
    write(&project, "more.env", "MORE=of this\n");
    write(&project, ".env", &format!("HOST_WORD=sloop\nSHARED={shared}\nTOKEN_OF_THE_TEST=mellon\n"));
    project.run(&["up", "--detach"]).fails().says_on_stderr(&shared);
    app.docker(["network", "create", &shared]).succeeds();
    app.docker(["volume", "create", &shared]).succeeds();
    app.docker(["run", "--rm", "-v", &format!("{shared}:/kept"), &app.busybox(), "touch", "/kept/before"])
        .succeeds();
    project.run(&["up", "--detach", "--wait"]).succeeds();
    let base = |script: &str| sh(&project, "base", script);
    assert_eq!(
        base("hostname; pwd; id -u; id -G; cat /motd /run/secrets/token"),
        "sloop\n/tmp\n1000\n1000 29\nWelcome, sloop\nmellon"
    );
    assert_eq!(
        base("echo $FROM_COMMON $FROM_ENV $MORE; ls /kept; grep elsewhere /etc/hosts"),
        "yes sloop of this\nbefore\n192.0.2.7\telsewhere"
    );
    assert_eq!(base("ulimit -Sn; ulimit -Hn; cat /proc/sys/net/core/somaxconn"), "100\n200\n99");
    assert_eq!(
        base("grep -E ' (/scratch|/memory) ' /proc/mounts | grep -oE 'size=[0-9]+k' | tr '\\n' ' '"),
        "size=1024k size=4k"
    );
    assert_eq!(
        base("grep search /etc/resolv.conf; ip -4 address | grep -c 10.213.7.9; stat -c %a:%u /motd"),
        "search lan.example\n1\n440:1000"
    );
    let shown = app.inspect(&project.id("base"));
    let (config, host) = (&shown["Config"], &shown["HostConfig"]);
    assert_eq!(config["Labels"]["org.example.kind"], "trial");
    assert_eq!(
        (&config["StopSignal"], &config["StopTimeout"], &host["ShmSize"]),
        (&json!("SIGUSR1"), &json!(7), &json!(2 << 20))
    );
    assert_eq!((&host["CapAdd"], &host["CapDrop"]), (&json!(["CAP_NET_ADMIN"]), &json!(["CAP_MKNOD"])));
    // Where there are no control groups for it, the limit is warned of and left out.
    if app.backend == Backend::Qemu {
        assert_eq!((&host["Memory"], &host["PidsLimit"]), (&json!(64 << 20), &json!(50)));
    }
    assert_eq!(
        host["LogConfig"],
        json!({ "Type": "json-file", "Config": { "max-size": "1m", "max-file": "2" } })
    );
    // `beside` has the network and the processes of `base`: alone it would see its init and its `sleep`.
    assert_eq!(
        sh(&project, "beside", "hostname; test $(ps | grep -c 'sleep [6]00') -ge 3 && echo both"),
        "sloop\nboth"
    );
    assert_eq!(
        sh(
            &project,
            "linked",
            "ping -c 1 -w 5 other-name | head -1; ping -c 1 -w 5 ground >/dev/null && echo named"
        ),
        "PING other-name (10.213.7.9): 56 data bytes\nnamed"
    );
    assert_eq!(project.run(&["ps", "-q", "linked"]).succeeds().lines().len(), 2);
    project.run(&["scale", "linked=1"]).succeeds();
    let policy = app.inspect(&project.id("linked"))["HostConfig"]["RestartPolicy"].clone();
    assert_eq!(policy, json!({ "Name": "on-failure", "MaximumRetryCount": 3 }));
    let label =
        app.inspect(&project.id("linked"))["Config"]["Labels"]["com.docker.compose.config-hash"].clone();
    let hash = project.run(&["config", "--hash", "linked"]).succeeds().word();
    assert!(label.as_str().is_some_and(|label| hash.ends_with(label)), "{label} {hash}");
    project.run(&["down", "--volumes", "--timeout", "0"]).succeeds();
    assert_eq!(project.left(), "");
    // What is external stays.
    app.docker(["network", "rm", &shared]).succeeds();
    app.docker(["volume", "rm", &shared]).succeeds();
}

const FILES: &str = r#"
services:
  page:
    image: ${IMAGE}
    init: true
    command: sh -c 'mkdir -p /site; exec sleep 600'
"#;

#[test]
fn files_go_in_and_out() {
    let Some(project) = project("verbs-files", FILES) else {
        skip!("there is no docker-compose for these tests")
    };
    std::fs::create_dir(project.folder.path().join("site")).expect("the folder is ours");
    write(&project, "site/index.html", "first");
    project.run(&["up", "--detach", "--wait"]).succeeds();
    let here = |name: &str| project.folder.path().join(name).to_str().expect("UTF-8").to_owned();
    project.run(&["cp", &here("site"), "page:/copied"]).succeeds();
    project.run(&["cp", "page:/copied/index.html", &here("back")]).succeeds();
    assert_eq!(std::fs::read_to_string(here("back")).expect("a file"), "first");
    project.run(&["down", "--timeout", "0"]).succeeds();
}
