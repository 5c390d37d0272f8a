//! What `POST /containers/create` takes, fills in and refuses, byte by byte.

use crate::{appliance, is_reference};
use pinnace_tests::api::{Body, Response};
use pinnace_tests::images::{Image, architecture, busybox};
use pinnace_tests::{ContainerName, skip};
use serde_json::{Value, json};

/// Creates from busybox with `body` on top, at a version (`/v1.43`) or none.
fn create_at(version: &str, name: &str, body: &Value) -> Response {
    let app = appliance();
    let mut whole = json!({ "Image": app.busybox(), "Cmd": ["true"] });
    for (key, value) in body.as_object().expect("a body is an object") {
        whole[key] = value.clone();
    }
    app.api().post_json(&format!("{version}/containers/create?name={name}"), whole)
}

fn created(stem: &str, body: Value) -> ContainerName {
    let name = appliance().name(stem);
    create_at("", &name, &body).is(201);
    name
}

#[track_caller]
fn refused(body: Value, text: &str) {
    create_at("", "", &body).refuses(400, text);
}

/// D1: nothing is warned of, and the list is there.
#[test]
fn the_answer_is_an_id_and_a_list_of_warnings() {
    let app = appliance();
    let name = app.name("create-answer");
    let answer = create_at("", &name, &json!({})).is(201).json();
    let id = answer["Id"].as_str().expect("an id");
    assert!(id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    assert_eq!(answer, json!({ "Id": id, "Warnings": [] }));
}

/// D2: clients pull on this status, and show this text.
#[test]
fn a_missing_image_is_not_found() {
    let app = appliance();
    for (image, told) in [
        ("no-such-image", "No such image: no-such-image:latest"),
        ("no-such-image:tag", "No such image: no-such-image:tag"),
        ("docker.io/library/no-such-image", "No such image: no-such-image:latest"),
        ("localhost:1/no/such", "No such image: localhost:1/no/such:latest"),
    ] {
        let answer = create_at("", "", &json!({ "Image": image })).is(404).json();
        assert_eq!(answer["message"], told);
    }
    app.docker(["create", "--pull", "never", "no-such-image"])
        .says_on_stderr("No such image: no-such-image:latest")
        .exits(1);
}

/// D3
#[test]
fn the_platform_must_fit() {
    let app = appliance();
    let other = if architecture() == "amd64" { "arm64" } else { "amd64" };
    let name = app.name("platform");
    let create = |image: &str, platform: &str| {
        let path = format!("/containers/create?name={}&platform={platform}", &*name);
        app.api().post_json(&path, json!({ "Image": image, "Cmd": ["true"] }))
    };
    let image = app.busybox();
    let wrong = format!("linux/{other}");
    let answer = create(&image, &wrong).refuses(404, "was found but its platform (linux/");
    let shown = if other == "arm64" { format!("{wrong}/v8") } else { wrong.clone() };
    let told = format!("does not match the specified platform ({shown})");
    assert!(answer.text().contains(&told), "{}", answer.text());
    create(&image, "no/such/platform/at/all").is(400);
    create(&image, &format!("linux/{}", architecture())).is(201);
    // Nobody asked: a foreign image is taken, with a warning.
    let stem = app.name("foreign-image").to_string();
    let recipe = busybox().architecture(other);
    let foreign = app.registry().publish(&stem, &recipe).reference;
    app.docker(["pull", "--quiet", "--platform", &wrong, &foreign]).succeeds();
    let container = app.name("foreign");
    let answer = create_at("", &container, &json!({ "Image": foreign })).is(201).json();
    let warning = answer["Warnings"][0].as_str().unwrap_or_default();
    assert!(warning.starts_with(&format!("The requested image's platform (linux/{other}")), "{answer}");
    assert!(warning.ends_with("and no specific platform was requested"), "{answer}");
    app.docker(["rm", &container]).succeeds();
    let path = format!("/containers/create?name={}&platform={wrong}", &*container);
    let quiet = app.api().post_json(&path, json!({ "Image": foreign, "Cmd": ["true"] })).is(201).json();
    assert_eq!(quiet["Warnings"], json!([]));
}

/// D4
#[test]
fn an_image_has_many_names() {
    let app = appliance();
    let image = app.image(Image::DockerTypes);
    let found = app.api().get(&format!("/images/{image}/json")).is(200).json();
    let id = found["Id"].as_str().expect("an id").to_owned();
    let digest = found["RepoDigests"][0].as_str().expect("a digest").to_owned();
    let bare = image.trim_end_matches(":latest");
    let hex = &id["sha256:".len()..];
    for form in [&image, bare, &format!("{bare}:latest"), &digest, &id, hex, &hex[..12]] {
        let name = created("image-forms", json!({ "Image": form }));
        let shown = app.inspect(&name);
        assert_eq!((&shown["Image"], &shown["Config"]["Image"]), (&json!(id), &json!(form)));
    }
}

/// D6, D7: what the request leaves out comes from the image.
#[test]
fn the_image_fills_in_what_the_request_leaves_out() {
    let app = appliance();
    let stem = app.name("merge-image").to_string();
    let recipe = busybox().config(json!({
        "Entrypoint": ["echo"], "Cmd": ["image"], "User": "guest", "WorkingDir": "/image", "StopSignal": "SIGINT",
        "Env": ["A=image", "B=image"], "Labels": { "a": "image", "b": "image" },
        "ExposedPorts": { "80/tcp": {} },
        "Healthcheck": { "Test": ["CMD", "true"], "Interval": 7_000_000_000_u64, "Retries": 9 },
    }));
    let image = app.registry().publish(&stem, &recipe).reference;
    app.docker(["pull", "--quiet", &image]).succeeds();
    let config = |body: Value| {
        let mut body = body;
        body["Image"] = json!(image);
        let name = app.name("merge");
        app.api().post_json(&format!("/containers/create?name={}", &*name), body).is(201);
        app.inspect(&name)["Config"].clone()
    };
    let all = config(json!({}));
    for (key, value) in [("User", "guest"), ("WorkingDir", "/image"), ("StopSignal", "SIGINT")] {
        assert_eq!(all[key], value, "{key}");
    }
    assert_eq!((&all["Entrypoint"], &all["Cmd"]), (&json!(["echo"]), &json!(["image"])));
    let own = config(json!({
        "User": "0", "WorkingDir": "/own", "StopSignal": "SIGUSR2", "Env": ["B=own", "C=own"],
        "Labels": { "b": "own", "c": "own" }, "ExposedPorts": { "81/udp": {} },
        "Healthcheck": { "Retries": 2 },
    }));
    for (key, value) in [("User", "0"), ("WorkingDir", "/own"), ("StopSignal", "SIGUSR2")] {
        assert_eq!(own[key], value, "{key}");
    }
    assert_eq!(own["Env"], json!(["B=own", "C=own", "A=image"]));
    assert_eq!(own["Labels"], json!({ "a": "image", "b": "own", "c": "own" }));
    assert_eq!(own["ExposedPorts"], json!({ "80/tcp": {}, "81/udp": {} }));
    let health = json!({ "Test": ["CMD", "true"], "Interval": 7_000_000_000_u64, "Retries": 2 });
    assert_eq!(own["Healthcheck"], health);
    // The four ways to give an entrypoint and a command.
    for (body, entrypoint, cmd) in [
        (json!({ "Cmd": ["own"] }), json!(["echo"]), json!(["own"])),
        (json!({ "Entrypoint": ["ls"] }), json!(["ls"]), Value::Null),
        (json!({ "Entrypoint": ["ls"], "Cmd": ["/"] }), json!(["ls"]), json!(["/"])),
        (json!({ "Entrypoint": [""], "Cmd": ["ls"] }), Value::Null, json!(["ls"])),
    ] {
        let shown = config(body.clone());
        assert_eq!((&shown["Entrypoint"], &shown["Cmd"]), (&entrypoint, &cmd), "{body}");
    }
    let body = json!({ "Image": image, "Entrypoint": [""] });
    app.api().post_json("/containers/create", body).refuses(400, "no command specified");
}

/// D8
#[test]
fn a_command_may_be_one_word() {
    let app = appliance();
    let name = created("one-word", json!({ "Entrypoint": "echo", "Cmd": "a b" }));
    let config = app.inspect(&name)["Config"].clone();
    assert_eq!((&config["Entrypoint"], &config["Cmd"]), (&json!(["echo"]), &json!(["a b"])));
    app.docker(["start", "--attach", &name]).prints("a b\n").succeeds();
}

/// D5, D9
#[test]
fn nothing_to_run_is_told() {
    let app = appliance();
    let post = |body| app.api().post_json("/containers/create", body);
    post(json!({})).refuses(400, "config cannot be empty in order to create a container");
    post(json!({ "HostConfig": { "Privileged": true } })).refuses(400, "config cannot be empty");
    let name = app.name("no-command-image").to_string();
    let image = app.registry().publish(&name, &busybox().config(json!({}))).reference;
    app.docker(["pull", "--quiet", &image]).succeeds();
    post(json!({ "Image": image })).refuses(400, "no command specified");
    post(json!({ "Image": image, "Cmd": [], "Entrypoint": [] })).refuses(400, "no command specified");
}

/// D10
#[test]
fn variables_have_names_and_can_be_taken_out() {
    let app = appliance();
    for bad in ["", "=", "=x"] {
        let answer = create_at("", "", &json!({ "Env": [bad] })).is(400).json();
        assert_eq!(answer["message"], format!("invalid environment variable: {bad}"));
    }
    let image = app.image(Image::Configured);
    let name = created(
        "unset",
        json!({ "Image": image, "Env": ["COLOUR", "NEW"], "Entrypoint": ["env"], "Cmd": [] }),
    );
    let outcome = app.docker(["start", "--attach", &name]).succeeds();
    outcome.mentions("SIZE=7\n").never_mentions("COLOUR").never_mentions("NEW");
}

/// D11
#[test]
fn names_follow_dockers_rule() {
    for bad in ["a", "-ab", "_ab", "a%20b", "%C3%A4b", "a/b"] {
        let shown = bad.replace("%20", " ").replace("%C3%A4", "ä");
        let told = format!("Invalid container name ({shown}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
        let answer = create_at("", bad, &json!({})).is(400).json();
        assert_eq!(answer["message"], told);
    }
    let name = appliance().name("0_a.b-c");
    create_at("", &format!("/{}", &*name), &json!({})).is(201);
    assert_eq!(appliance().inspect(&name)["Name"], format!("/{}", &*name));
}

/// D14
#[test]
fn the_host_name_is_the_ids_unless_given() {
    let app = appliance();
    let name = created("hostname", json!({}));
    let inspect = app.inspect(&name);
    assert_eq!(inspect["Config"]["Hostname"].as_str(), inspect["Id"].as_str().map(|id| &id[..12]));
    let long = "h".repeat(65);
    refused(json!({ "Hostname": long }), &format!("hostname \"{long}\" is too long (maximum 64 bytes)"));
    create_at("", &app.name("hostname-64"), &json!({ "Hostname": "h".repeat(64) })).is(201);
    let image = app.busybox();
    let machine = app.api().get("/info").is(200).json()["Name"].clone();
    app.docker(["run", "--rm", "--network", "host", &image, "hostname"])
        .prints(&format!("{}\n", machine.as_str().unwrap_or_default()));
}

/// D15, D16
#[test]
fn restart_policies_are_checked() {
    let policy = |name: &str, retries: i64| json!({ "HostConfig": { "RestartPolicy": { "Name": name, "MaximumRetryCount": retries } } });
    refused(policy("something", 0), "invalid restart policy: unknown policy 'something'");
    let only = "invalid restart policy: maximum retry count can only be used with 'on-failure'";
    refused(policy("always", 1), only);
    refused(policy("no", 1), only);
    refused(policy("unless-stopped", -1), &format!("{only} and cannot be negative"));
    refused(policy("on-failure", -1), "invalid restart policy: maximum retry count cannot be negative");
    for name in ["always", "unless-stopped", "on-failure"] {
        let mut body = policy(name, 0);
        body["HostConfig"]["AutoRemove"] = json!(true);
        refused(body, "can't create 'AutoRemove' container with restart policy");
    }
    let mut body = policy("no", 0);
    body["HostConfig"]["AutoRemove"] = json!(true);
    create_at("", &appliance().name("auto-remove"), &body).is(201);
}

/// What contradicts itself is refused whatever the machine can limit (D17, D18, D27).
#[test]
fn limits_that_make_no_sense_are_refused() {
    let host = |host: Value| json!({ "HostConfig": host });
    refused(host(json!({ "Memory": 6 * 1024 * 1024 - 1 })), "Minimum memory limit allowed is 6MB");
    refused(host(json!({ "Memory": 1 })), "Minimum memory limit allowed is 6MB");
    let both = "Conflicting options: Nano CPUs and CPU Period cannot both be set";
    refused(host(json!({ "NanoCpus": 1_000_000_000, "CpuPeriod": 100_000 })), both);
    let both = "Conflicting options: Nano CPUs and CPU Quota cannot both be set";
    refused(host(json!({ "NanoCpus": 1_000_000_000, "CpuQuota": 50_000 })), both);
    refused(host(json!({ "CpuShares": -1 })), "invalid CPU shares (-1): value must be a positive integer");
    refused(
        host(json!({ "Isolation": "hyperv" })),
        "invalid isolation (hyperv): linux only supports 'default'",
    );
    create_at("", &appliance().name("isolation"), &host(json!({ "Isolation": "default" }))).is(201);
}

/// What only a machine with control groups can say (D17, D18, D19).
#[test]
fn limits_of_the_machine_are_told() {
    let app = appliance();
    let info = app.api().get("/info").is(200).json();
    if is_reference(app)
        || info["MemoryLimit"] != true
        || info["CpuCfsQuota"] != true
        || info["CPUSet"] != true
    {
        skip!("this machine's control groups limit neither memory nor CPUs");
    }
    let host = |host: Value| json!({ "HostConfig": host });
    let memory = 8 << 20;
    refused(
        host(json!({ "Memory": memory, "MemorySwap": memory - 1 })),
        "Minimum memoryswap limit should be larger than memory limit, see usage",
    );
    let name = created("swap", host(json!({ "Memory": memory })));
    assert_eq!(app.inspect(&name)["HostConfig"]["MemorySwap"], 2 * memory);
    let name = created("swap-free", host(json!({ "Memory": memory, "MemorySwap": -1 })));
    assert_eq!(app.inspect(&name)["HostConfig"]["MemorySwap"], -1);
    let cpus = info["NCPU"].as_i64().expect("a number");
    let told = format!("range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available");
    refused(host(json!({ "NanoCpus": (cpus + 1) * 1_000_000_000 })), &told);
    refused(
        host(json!({ "CpusetCpus": "977" })),
        "Requested CPUs are not available - requested 977, available: 0",
    );
}

/// D20, D34: the command line sends all of these, empty.
#[test]
fn what_the_command_line_always_sends_is_taken() {
    let app = appliance();
    let body = json!({
        "Domainname": "", "NetworkDisabled": false, "OnBuild": null, "ArgsEscaped": false, "Shell": null,
        "HostConfig": {
            "ConsoleSize": [0, 0], "ContainerIDFile": "", "Cgroup": "", "Isolation": "", "CpuCount": 0, "CpuPercent": 0,
            "IOMaximumIOps": 0, "IOMaximumBandwidth": 0, "VolumeDriver": "", "MemorySwappiness": -1, "PidsLimit": 0,
            "KernelMemory": 0, "OomKillDisable": false, "Links": null, "Mounts": [], "VolumesFrom": null,
            "PortBindings": {}, "PublishAllPorts": false, "StorageOpt": null, "UsernsMode": "", "CgroupParent": "",
        },
        "NetworkingConfig": { "EndpointsConfig": { "default": { "IPAMConfig": null, "Links": null, "Aliases": null } } },
    });
    let name = app.name("cli-body");
    let answer = create_at("", &name, &body).is(201).json();
    assert_eq!(answer["Warnings"], json!([]));
    let host = app.inspect(&name)["HostConfig"].clone();
    assert_eq!((&host["MemorySwappiness"], &host["PidsLimit"]), (&Value::Null, &Value::Null), "{host}");
    create_at("", &app.name("no-pids"), &json!({ "HostConfig": { "PidsLimit": -1 } })).is(201);
    let answer = create_at("", &app.name("no-oom"), &json!({ "HostConfig": { "OomKillDisable": true } }))
        .is(201)
        .json();
    let warning = "Your kernel does not support OomKillDisable. OomKillDisable discarded.";
    assert_eq!(answer["Warnings"], json!([warning]));
}

/// D21: dockerd's defaults are shown, not the request's silence.
#[test]
fn defaults_are_written_down() {
    let app = appliance();
    let name = created("defaults", json!({ "HostConfig": { "NetworkMode": "default" } }));
    let host = app.inspect(&name)["HostConfig"].clone();
    let expected = json!({
        "ShmSize": 67_108_864, "IpcMode": "private", "CgroupnsMode": "private", "NetworkMode": "bridge",
        "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 }, "LogConfig": { "Type": "json-file", "Config": {} },
        "Runtime": "runc",
        "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&host[key], value, "{key}");
    }
    let masked = host["MaskedPaths"].as_array().expect("a list");
    assert!(masked.contains(&json!("/proc/kcore")) && masked.len() >= 11, "{masked:?}");
}

/// D22: the command line names every container's first network `default`.
#[test]
fn the_default_network_is_the_bridge() {
    let app = appliance();
    for key in ["default", "bridge"] {
        let body = json!({ "NetworkingConfig": { "EndpointsConfig": { key: {} } } });
        let name = created("default-network", body);
        let inspect = app.inspect(&name);
        let networks = inspect["NetworkSettings"]["Networks"].as_object().expect("an object");
        assert_eq!(networks.keys().collect::<Vec<_>>(), ["bridge"], "{key}");
        assert_eq!(inspect["HostConfig"]["NetworkMode"], "bridge");
    }
    let two = json!({ "NetworkingConfig": { "EndpointsConfig": { "bridge": {}, "other": {} } } });
    create_at("/v1.43", "", &two)
        .refuses(400, "Container cannot be created with multiple network endpoints: bridge, other");
}

/// D24: from 1.52 on a container has no MAC address of its own, only its endpoints have.
#[test]
fn the_mac_address_of_a_container_is_from_older_versions() {
    let app = appliance();
    const OWN: &str = "02:00:00:00:00:21";
    let body = |mode: &str| json!({ "MacAddress": OWN, "HostConfig": { "NetworkMode": mode } });
    let moved = |version: &str, body: &Value| {
        let name = app.name("mac");
        let answer = create_at(version, &name, body).is(201).json();
        let shown = app.inspect(&name)["NetworkSettings"]["Networks"]["bridge"]["MacAddress"].clone();
        (answer["Warnings"][0].as_str().unwrap_or_default().to_owned(), shown)
    };
    let deprecated = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig \
                      instead.";
    assert_eq!(moved("", &body("bridge")), (String::new(), json!("")));
    assert_eq!(moved("/v1.43", &body("bridge")), (String::new(), json!(OWN)));
    assert_eq!(moved("/v1.51", &body("bridge")), (deprecated.to_owned(), json!(OWN)));
    assert_eq!(moved("/v1.51", &body("none")).0, deprecated);
    create_at("/v1.43", "", &body("host"))
        .refuses(400, "conflicting options: mac-address and the network mode");
    let mut other = body("bridge");
    other["NetworkingConfig"] =
        json!({ "EndpointsConfig": { "bridge": { "MacAddress": "02:00:00:00:00:22" } } });
    create_at("/v1.51", "", &other).refuses(400, "the container-wide MAC address must match");
    let name = app.name("mac-cli");
    let script = ["cat", "/sys/class/net/eth0/address"];
    let args = ["run", "--name", &name, "--mac-address", OWN, &app.busybox()];
    app.docker(args.into_iter().chain(script)).prints(&format!("{OWN}\n")).succeeds();
    let bad = json!({ "NetworkingConfig": { "EndpointsConfig": { "default": { "MacAddress": "02:00" } } } });
    create_at("", "", &bad).refuses(400, "address 02:00: invalid MAC address");
}

/// D22, D23: a client makes a container anew from what inspect shows, as Watchtower and Portainer do.
#[test]
fn what_inspect_shows_of_a_network_can_be_sent_back() {
    let app = appliance();
    let (old, new) = (app.name("recreate-old"), app.name("recreate-new"));
    app.docker(["run", "--detach", "--name", &old, &app.busybox(), "sleep", "600"]).succeeds();
    let shown = app.inspect(&old);
    app.docker(["stop", "-t", "0", &old]).succeeds();
    let mut body = shown["Config"].clone();
    body["HostConfig"] = shown["HostConfig"].clone();
    body["NetworkingConfig"] = json!({ "EndpointsConfig": shown["NetworkSettings"]["Networks"] });
    app.api().post_json(&format!("/containers/create?name={}", &*new), body).is(201);
    app.docker(["start", &new]).succeeds();
    let again = app.inspect(&new)["NetworkSettings"]["Networks"]["bridge"].clone();
    assert_eq!(again["MacAddress"], shown["NetworkSettings"]["Networks"]["bridge"]["MacAddress"]);
    assert_ne!(again["EndpointID"], shown["NetworkSettings"]["Networks"]["bridge"]["EndpointID"]);
}

/// D25
#[test]
fn whose_network_it_is_excludes_other_options() {
    let refused = |mode: &str, mut body: Value, text: &str| {
        let mut host = body["HostConfig"].take();
        host["NetworkMode"] = json!(mode);
        body["HostConfig"] = host;
        let answer = create_at("", "", &body).is(400).json();
        assert_eq!(answer["message"], format!("conflicting options: {text}"));
    };
    let joined = |body: Value, text: &str| refused("container:other", body, text);
    let host = |host: Value| json!({ "HostConfig": host });
    joined(json!({ "Hostname": "own" }), "hostname and the network mode");
    joined(host(json!({ "Dns": ["9.9.9.9"] })), "dns and the network mode");
    joined(host(json!({ "ExtraHosts": ["a:10.0.0.1"] })), "custom host-to-IP mapping and the network mode");
    let publishing = "port publishing and the container type network mode";
    joined(host(json!({ "PortBindings": { "80/tcp": [{ "HostPort": "80" }] } })), publishing);
    joined(host(json!({ "PublishAllPorts": true })), publishing);
    joined(json!({ "ExposedPorts": { "80/tcp": {} } }), "port exposing and the container type network mode");
    let links = host(json!({ "Links": ["a:b"] }));
    let undefined = "can't be used with links. This would result in undefined behavior";
    joined(links.clone(), &format!("container type network {undefined}"));
    refused("host", links, &format!("host type networking {undefined}"));
    let uts = json!({ "Hostname": "own", "HostConfig": { "UTSMode": "host" } });
    refused("bridge", uts, "hostname and the UTS mode");
    let mac =
        json!({ "MacAddress": "02:00:00:00:00:01", "HostConfig": { "NetworkMode": "container:other" } });
    create_at("/v1.43", "", &mac).refuses(400, "conflicting options: mac-address and the network mode");
    let nobody = json!({ "HostConfig": { "NetworkMode": "container:" } });
    create_at("", "", &nobody)
        .refuses(400, "Invalid network mode: invalid container format container:<name|id>");
}

/// D26
#[test]
fn unknown_modes_are_refused() {
    for (field, name) in
        [("IpcMode", "IPC"), ("PidMode", "PID"), ("UTSMode", "UTS"), ("CgroupnsMode", "cgroup namespace")]
    {
        refused(json!({ "HostConfig": { field: "odd" } }), &format!("invalid {name} mode: odd"));
    }
}

/// D28
#[test]
fn ports_are_numbers() {
    let told = "invalid JSON: invalid port '19039;1230': invalid syntax";
    refused(json!({ "ExposedPorts": { "19039;1230": {} } }), told);
    refused(json!({ "HostConfig": { "PortBindings": { "19039;1230": [] } } }), told);
    refused(json!({ "ExposedPorts": { "70000/tcp": {} } }), "invalid port '70000': value out of range");
    let name = created("ports", json!({ "ExposedPorts": { "80": {}, "81/UDP": {} } }));
    assert_eq!(appliance().inspect(&name)["Config"]["ExposedPorts"], json!({ "80/tcp": {}, "81/udp": {} }));
}

/// D29
#[test]
fn the_working_folder_is_absolute_and_clean() {
    for bad in ["a", "./a", "a/b"] {
        let told = format!("the working directory '{bad}' is invalid, it needs to be an absolute path");
        refused(json!({ "WorkingDir": bad }), &told);
    }
    for (asked, shown) in [("/a/../b/.", "/b"), ("/a//b/", "/a/b"), ("/", "/")] {
        let name = created("folder", json!({ "WorkingDir": asked }));
        assert_eq!(appliance().inspect(&name)["Config"]["WorkingDir"], shown, "{asked}");
    }
}

/// D30, D31
#[test]
fn options_of_security_are_checked() {
    let app = appliance();
    let host = |host: Value| json!({ "HostConfig": host });
    let unknown = create_at("", "", &host(json!({ "SecurityOpt": ["x=y"] })));
    assert!(matches!(unknown.head.status, 400 | 500), "{}", unknown.head.status);
    assert!(unknown.text().contains("invalid --security-opt 2: \\\"x=y\\\""), "{}", unknown.text());
    let told = "invalid CapAdd: unknown capability: \"CAP_NO_SUCH\"";
    refused(host(json!({ "CapAdd": ["NO_SUCH"] })), told);
    refused(
        host(json!({ "CapDrop": ["cap_no_such"] })),
        "invalid CapDrop: unknown capability: \"CAP_NO_SUCH\"",
    );
    refused(host(json!({ "Runtime": "kata" })), "unknown or invalid runtime name: kata");
    refused(host(json!({ "ShmSize": -1 })), "SHM size can not be less than 0");
    for score in [-1001, 1001] {
        let told = format!("Invalid value {score}, range for oom score adj is [-1000, 1000]");
        refused(host(json!({ "OomScoreAdj": score })), &told);
    }
    create_at("", &app.name("score"), &host(json!({ "OomScoreAdj": 1000, "CapAdd": ["net_admin"] }))).is(201);
}

/// A17, A18: a body is read as Go reads JSON.
#[test]
fn unknown_fields_and_nulls_are_nothing() {
    let app = appliance();
    let body = json!({
        "NoSuchField": { "a": [1, 2] }, "Env": null, "Labels": null, "ExposedPorts": null, "Volumes": null,
        "Entrypoint": null, "Healthcheck": null, "User": null, "Tty": null, "StopTimeout": null,
        "HostConfig": { "Binds": null, "RestartPolicy": null, "LogConfig": null, "Memory": null, "CapAdd": null },
        "NetworkingConfig": null,
    });
    let name = created("nulls", body);
    let config = app.inspect(&name)["Config"].clone();
    assert_eq!((&config["Labels"], &config["Tty"], &config["User"]), (&json!({}), &json!(false), &json!("")));
    created("null-host", json!({ "HostConfig": null }));
    let bytes = |text: &str| {
        let body = Body::Bytes("application/json", text.as_bytes());
        app.api().call("POST", "/containers/create", body)
    };
    bytes("{\"Image\":").refuses(400, "invalid JSON: ");
    bytes("{\"Env\":\"text\"}").refuses(400, "invalid JSON: ");
    bytes("null").refuses(400, "config cannot be empty");
}

/// A19: as Go reads them; what is written has one case.
#[test]
fn names_of_fields_are_read_in_any_case() {
    let app = appliance();
    let name = app.name("any-case");
    let body = json!({
        "image": app.busybox(), "CMD": ["true"], "labels": { "Kind": "x" }, "hostconfig": { "autoremove": true },
    });
    app.api().post_json(&format!("/containers/create?name={}", &*name), body).is(201);
    let shown = app.inspect(&name);
    assert_eq!(
        (&shown["Config"]["Cmd"], &shown["Config"]["Labels"]),
        (&json!(["true"]), &json!({ "Kind": "x" }))
    );
    assert_eq!(shown["HostConfig"]["AutoRemove"], true);
    let update = json!({ "restartpolicy": { "name": "no" } });
    app.api().post_json(&format!("/containers/{}/update", &*name), update).is(200);
    let refused = json!({ "Image": app.busybox(), "Cmd": ["true"], "hostconfig": { "volumesfrom": ["x"] } });
    let answer = app.api().post_json("/containers/create", refused);
    assert_ne!(answer.head.status, 201, "{}", answer.text());
}

/// A23: `<`, `>` and `&` stay as they are.
#[test]
fn json_is_not_escaped_for_html() {
    let name = created("literal", json!({ "Env": ["WORDS=<a> & <b>"] }));
    let text = appliance().api().get(&format!("/containers/{}/json", &*name)).is(200).text();
    assert!(text.contains("\"WORDS=<a> & <b>\"") && text.ends_with("}\n"), "{text}");
}

/// D13
#[test]
fn made_up_names_are_an_adjective_and_a_surname() {
    let app = appliance();
    for _ in 0..5 {
        let id = create_at("", "", &json!({})).is(201).json()["Id"].as_str().expect("an id").to_owned();
        let name = app.inspect(&id)["Name"].as_str().expect("a name").to_owned();
        app.docker(["rm", &id]).succeeds();
        let words: Vec<&str> = name.trim_start_matches('/').split('_').collect();
        let is_word = |word: &&str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        assert!(name.starts_with('/') && words.len() == 2 && words.iter().all(is_word), "{name}");
        assert!(
            words[0].bytes().all(|b| b.is_ascii_lowercase()) && !name.contains("boring_wozniak"),
            "{name}"
        );
    }
}
