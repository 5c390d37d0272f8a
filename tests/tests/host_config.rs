//! Fields of `HostConfig` about devices, kernel parameters and other containers' processes.

use crate::{appliance, is_reference};
use pinnace_tests::skip;
use serde_json::json;

#[test]
fn a_device_comes_with_the_right_to_open_it() {
    let app = appliance();
    let image = app.busybox();
    let name = app.name("device");
    let args = ["run", "--name", &name, "--device", "/dev/full:/dev/brim:r", &image, "sh", "-c"];
    let script = "test -c /dev/brim && head -c 3 /dev/brim | wc -c";
    app.docker(args.into_iter().chain([script])).prints("3\n").succeeds();
    let shown = app.inspect(&name)["HostConfig"]["Devices"].clone();
    let expected =
        json!([{ "PathOnHost": "/dev/full", "PathInContainer": "/dev/brim", "CgroupPermissions": "r" }]);
    assert_eq!(shown, expected);
    // The command line makes 127 of "no such file or directory", whatever it is about.
    app.docker(["run", "--rm", "--device", "/dev/no-such", &image, "true"])
        .exits(127)
        .says_on_stderr("error gathering device information while adding custom device \"/dev/no-such\"");
}

#[test]
fn device_rules_open_what_was_made_inside() {
    let app = appliance();
    let image = app.busybox();
    // 1:11 is the kernel's log: any container may make the node, none may open it.
    let script = "mknod /tmp/kmsg c 1 11 && (exec 3< /tmp/kmsg) 2> /dev/null && echo open || echo shut";
    let run = |more: &[&str]| {
        let args = ["run", "--rm", "--cap-add", "SYSLOG"].into_iter().chain(more.iter().copied());
        app.docker(args.chain([image.as_str(), "sh", "-c", script])).succeeds().word()
    };
    assert_eq!(run(&[]), "shut");
    assert_eq!(run(&["--device-cgroup-rule", "c 1:11 r"]), "open");
    if !is_reference(app) {
        let body =
            json!({ "Image": image, "Cmd": ["true"], "HostConfig": { "DeviceCgroupRules": ["c 1:11 x"] } });
        app.api()
            .post_json("/containers/create", body)
            .refuses(400, "invalid device cgroup rule format: 'c 1:11 x'");
    }
}

/// D36
#[test]
fn there_is_no_driver_for_gpus() {
    let app = appliance();
    app.docker(["run", "--rm", "--gpus", "all", &app.busybox(), "true"])
        .exits(125)
        .says_on_stderr("could not select device driver \"\" with capabilities: [[gpu]]");
}

/// D33
#[test]
fn kernel_parameters_of_the_container_only() {
    let app = appliance();
    let image = app.busybox();
    let args =
        ["run", "--rm", "--sysctl", "net.core.somaxconn=77", "--sysctl", "kernel.shmmax=12345678", &image];
    let script = "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmax";
    app.docker(args.into_iter().chain(["sh", "-c", script])).prints("77\n12345678\n").succeeds();
    if is_reference(app) {
        skip!("the reference engine has other words");
    }
    let refused = |host: serde_json::Value, text: &str| {
        let name = app.name("sysctl");
        let body = json!({ "Image": image, "Cmd": ["true"], "HostConfig": host });
        app.api().post_json(&format!("/containers/create?name={}", &*name), body).is(201);
        app.docker(["start", &name]).fails().says_on_stderr(text);
    };
    refused(
        json!({ "Sysctls": { "vm.swappiness": "1" } }),
        "sysctl \"vm.swappiness\" is not in a separate kernel namespace",
    );
    let net = json!({ "Sysctls": { "net.core.somaxconn": "1" }, "NetworkMode": "host" });
    refused(net, "sysctl \"net.core.somaxconn\" not allowed in host network namespace");
}

/// P6
#[test]
fn processes_of_another_container_are_seen() {
    let app = appliance();
    let (other, image) = (app.name("pid-other"), app.busybox());
    app.docker(["run", "-d", "--name", &other, &image, "sleep", "4321"]).succeeds();
    let mode = format!("container:{}", &*other);
    let name = app.name("pid-joined");
    app.docker(["run", "--name", &name, "--pid", &mode, &image, "cat", "/proc/1/cmdline"])
        .mentions("sleep\u{0}4321")
        .succeeds();
    let id = app.inspect(&other)["Id"].as_str().map(|id| format!("container:{id}"));
    assert_eq!(app.inspect(&name)["HostConfig"]["PidMode"].as_str(), id.as_deref());
    app.docker(["stop", "-t", "0", &other]).succeeds();
    // dockerd makes a failure of its own of what is wrong with the other.
    let start = format!("/containers/{}/start", &*name);
    let id = app.inspect(&other)["Id"].as_str().expect("an id").to_owned();
    app.api()
        .post(&start)
        .refuses(500, &format!("failed to join PID namespace: container {id} is not running"));
    let state = app.inspect(&name)["State"].clone();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(128)), "{state}");
}

/// P6
#[test]
fn memory_of_another_container_is_shared() {
    let app = appliance();
    let image = app.busybox();
    let (donor, private) = (app.name("ipc-donor"), app.name("ipc-private"));
    app.docker(["run", "-d", "--name", &donor, "--ipc", "shareable", &image, "sleep", "600"]).succeeds();
    app.docker(["run", "-d", "--name", &private, &image, "sleep", "600"]).succeeds();
    assert_eq!(app.inspect(&donor)["HostConfig"]["IpcMode"], "shareable");
    assert_eq!(app.inspect(&private)["HostConfig"]["IpcMode"], "private");
    app.docker(["exec", &donor, "sh", "-c", "echo shared > /dev/shm/file; readlink /proc/self/ns/ipc"])
        .succeeds();
    let namespace = app.docker(["exec", &donor, "readlink", "/proc/self/ns/ipc"]).succeeds().text();
    let mode = format!("container:{}", &*donor);
    let name = app.name("ipc-joined");
    let script = "cat /dev/shm/file; echo back > /dev/shm/back; readlink /proc/self/ns/ipc";
    app.docker(["run", "--name", &name, "--ipc", &mode, &image, "sh", "-c", script])
        .prints(&format!("shared\n{namespace}"))
        .succeeds();
    app.docker(["exec", &donor, "cat", "/dev/shm/back"]).prints("back\n");
    // By its id, so that it may be renamed.
    let id = app.inspect(&donor)["Id"].as_str().map(|id| format!("container:{id}"));
    assert_eq!(app.inspect(&name)["HostConfig"]["IpcMode"].as_str(), id.as_deref());
    let refused = |mode: &str, status: u16, text: &str| {
        let name = app.name("ipc-refused");
        let body = json!({ "Image": image, "Cmd": ["true"], "HostConfig": { "IpcMode": mode } });
        app.api().post_json(&format!("/containers/create?name={}", &*name), body).is(201);
        app.api().post(&format!("/containers/{}/start", &*name)).refuses(status, text);
    };
    if is_reference(app) {
        skip!("the reference engine has other words");
    }
    refused(
        &format!("container:{}", &*private),
        400,
        "non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
    );
    app.docker(["stop", "-t", "0", &donor]).succeeds();
    refused(&mode, 409, "is not running");
}

/// P6: each mode changes what it says and nothing else.
#[test]
fn namespaces_of_the_machine_are_shared_on_request() {
    let app = appliance();
    let image = app.busybox();
    let run = |options: &[&str], script: &str| {
        let args = ["run", "--rm"].into_iter().chain(options.iter().copied());
        app.docker(args.chain([image.as_str(), "sh", "-c", script])).succeeds().text()
    };
    for (option, kind) in [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup")] {
        let script = format!("readlink /proc/self/ns/{kind}");
        let machine = run(&[option, "host"], &script);
        assert_eq!(machine, run(&[option, "host"], &script), "{option}");
        assert_ne!(machine, run(&[], &script), "{option}");
    }
    // One who sees the machine's control groups sees where in them it is.
    let place = run(&["--cgroupns", "host"], "tail -1 /proc/self/cgroup");
    assert!(place.starts_with("0::/") && place.trim().len() > "0::/".len() + 64, "{place}");
    let own = run(&["--uts", "host"], "hostname");
    assert_eq!(own, run(&["--uts", "host"], "cat /proc/sys/kernel/hostname"));
    // What is written to the machine's memory file system is there for the next.
    run(&["--ipc", "host"], "echo machine > /dev/shm/of-the-test");
    assert_eq!(run(&["--ipc", "host"], "cat /dev/shm/of-the-test; rm /dev/shm/of-the-test"), "machine\n");
    assert_eq!(run(&["--ipc", "none"], "ls -A /dev/shm; mount | grep -c /dev/shm || true"), "0\n");
    assert_eq!(run(&["--userns", "host"], "cat /proc/self/uid_map | tr -s ' '"), " 0 0 4294967295\n");
}

#[test]
fn a_control_group_stands_below_the_parent_that_was_named() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine is not to make control groups on this host");
    }
    let image = app.busybox();
    let stands = |parent: &str, at: &str| {
        let name = app.name("below");
        let words = ["run", "-d", "--name", &name, "--cgroupns", "host", "--cgroup-parent", parent];
        let id = app.docker(words.into_iter().chain([image.as_str(), "sleep", "1000"])).succeeds().word();
        let expected = format!("0::{at}/{id}\n");
        for process in ["1", "self"] {
            let shown = app.docker(["exec", &name, "tail", "-1", &format!("/proc/{process}/cgroup")]);
            assert_eq!(shown.succeeds().text(), expected, "{parent}");
        }
        assert!(app.docker(["top", &name]).succeeds().text().contains("sleep 1000"));
        app.docker(["pause", &name]).succeeds();
        app.docker(["unpause", &name]).succeeds();
        assert_eq!(app.inspect(&name)["HostConfig"]["CgroupParent"], parent);
        app.docker(["restart", "-t", "0", &name]).succeeds();
        let shown = app.docker(["exec", &name, "tail", "-1", "/proc/1/cgroup"]).succeeds().text();
        assert_eq!(shown, expected, "{parent}");
    };
    // Relative is below the root as well, and nothing leads out of the tree.
    stands("of-the-test", "/of-the-test");
    stands("/../of-the-test/../of-the-test/below", "/of-the-test/below");

    let body = json!({ "Image": image, "Cmd": ["true"], "HostConfig": { "CgroupParent": "/pinnace/x" } });
    let text = "invalid cgroup parent /pinnace/x: it holds the machine's own processes";
    app.api().post_json("/containers/create", body).refuses(400, text);
}

#[test]
fn modes_that_do_not_exist_are_refused() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has other words");
    }
    let refused = |host: serde_json::Value, status: u16, text: &str| {
        let body = json!({ "Image": app.busybox(), "Cmd": ["true"], "HostConfig": host });
        app.api().post_json("/containers/create", body).refuses(status, text);
    };
    // D26
    refused(json!({ "IpcMode": "shared" }), 400, "invalid IPC mode: shared");
    refused(json!({ "IpcMode": "container:" }), 400, "invalid IPC mode: container:");
    refused(json!({ "PidMode": "private" }), 400, "invalid PID mode: private");
    refused(json!({ "UTSMode": "container:x" }), 400, "invalid UTS mode: container:x");
    refused(json!({ "CgroupnsMode": "none" }), 400, "invalid cgroup namespace mode: none");
    for mode in ["PidMode", "IpcMode"] {
        refused(json!({ mode: "container:no-such" }), 400, "No such container: no-such");
    }
    refused(json!({ "UsernsMode": "private" }), 400, "invalid USER mode: private");
    let text = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";
    refused(json!({ "StorageOpt": { "size": "1G" } }), 500, text);
    refused(json!({ "StorageOpt": { "sise": "1G" } }), 500, "Unknown option sise");
}

/// Nothing of a container outlives its first process, also where that is not process 1 of a namespace; and what is left
/// does not keep its end from being told.
#[test]
fn a_shared_pid_namespace_keeps_no_end_a_secret() {
    let app = appliance();
    let name = app.name("pid-left");
    // No other test sleeps for as long.
    let script = "sleep 7654 & exit 3";
    let args = ["run", "--name", &name, "--pid=host", &app.busybox(), "sh", "-c", script];
    app.docker(args).exits(3);
    let state = app.inspect(&name)["State"].clone();
    let time = |key: &str| state[key].as_str().expect("a time").to_owned();
    // The end is the first process's, and no wait for its pipe is in it.
    assert!(time("StartedAt") < time("FinishedAt"), "{state}");
    let list =
        ["run", "--rm", "--pid=host", &app.busybox(), "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"];
    app.docker(list).succeeds().never_mentions("sleep 7654");
}

/// What `create` answers to a `HostConfig`.
fn create(name: &str, host: serde_json::Value) -> pinnace_tests::api::Response {
    let app = appliance();
    let body = json!({ "Image": app.busybox(), "Cmd": ["true"], "HostConfig": host });
    app.api().post_json(&format!("/containers/create?name={name}"), body)
}

#[test]
fn nothing_is_mounted_over_the_root() {
    let app = appliance();
    let name = app.name("mount-root");
    for root in ["/", "//", "/.", "/../", "/a/../"] {
        let text = "invalid specification: destination can't be '/'";
        create(&name, json!({ "Tmpfs": { root: "" } })).refuses(400, text);
        if !is_reference(app) {
            create(&name, json!({ "Binds": [format!("/tmp:{root}")] })).refuses(400, text);
        }
    }
    create(&name, json!({ "Tmpfs": { "rel": "" } })).refuses(400, "mount path must be absolute");
}

#[test]
fn each_place_is_mounted_on_once() {
    let app = appliance();
    let name = app.name("mount-twice");
    let twice = [
        json!({ "Binds": ["/tmp:/a", "/etc:/a"] }),
        json!({ "Binds": ["/tmp:/a", "/etc:/a/"] }),
        json!({ "Binds": ["/tmp:/a", "/etc:/b/../a"] }),
        json!({ "Binds": ["/tmp:/a"], "Tmpfs": { "/a": "" } }),
    ];
    for host in twice {
        create(&name, host).refuses(400, "Duplicate mount point: /a");
    }
    create(&name, json!({ "Tmpfs": { "/a": "", "/a/": "" } })).is(201);
}

#[test]
fn memory_file_systems_take_the_options_of_mounts() {
    let app = appliance();
    let image = app.busybox();
    let run = |option: &str| {
        let tmpfs = format!("/t:{option}");
        let script = "grep ' /t ' /proc/self/mountinfo";
        app.docker(["run", "--rm", "--tmpfs", &tmpfs, &image, "sh", "-c", script])
    };
    run("shared").succeeds().mentions(" shared:");
    run("rslave,defaults,sync,mand").succeeds().never_mentions("shared:");
    run("unbindable").succeeds().mentions(" unbindable ");
    run("noatime,nodiratime").succeeds().mentions("noatime");
    run("size=1m,mpol=default").succeeds().mentions("size=1024k");
    run("nope").fails().says_on_stderr("invalid tmpfs option \"nope\"");
}

#[test]
fn annotations_are_kept_and_shown() {
    let app = appliance();
    let name = app.name("annotations");
    create(&name, json!({ "Annotations": { "": "b" } }))
        .refuses(400, "the empty string is not permitted as an annotation key");
    create(&name, json!({ "Annotations": { "io.x": "", "a": "b" } })).is(201);
    let shown = app.inspect(&name)["HostConfig"]["Annotations"].clone();
    assert_eq!(shown, json!({ "io.x": "", "a": "b" }));
}

#[test]
fn masked_paths_are_there() {
    let app = appliance();
    let name = app.name("masked");
    create(&name, json!({})).is(201);
    let shown = app.inspect(&name)["HostConfig"]["MaskedPaths"].clone();
    let shown: Vec<&str> =
        shown.as_array().expect("a list").iter().filter_map(|path| path.as_str()).collect();
    assert_eq!(shown[..2], ["/proc/asound", "/proc/acpi"]);
    let thermal: Vec<&str> =
        shown.iter().copied().filter(|path| path.ends_with("/thermal_throttle")).collect();
    let image = app.busybox();
    for path in thermal {
        app.docker(["run", "--rm", "--privileged", &image, "ls", path]).succeeds();
    }
}

#[test]
fn what_linux_has_not_is_passed_over() {
    let app = appliance();
    let name = app.name("windows");
    let host =
        json!({ "CpuCount": 1, "CpuPercent": 10, "KernelMemory": 10_000_000, "KernelMemoryTCP": 10_000_000 });
    let answer = create(&name, host).is(201).json();
    assert_eq!(answer["Warnings"], json!(["linux does not support CPU percent. Percent discarded."]));
}

#[test]
fn a_start_that_fails_tells_why_as_docker_does() {
    let app = appliance();
    let image = app.busybox();
    let run = |options: &[&str]| {
        let args = ["run", "--rm", "--network", "none"].into_iter().chain(options.iter().copied());
        app.docker(args.chain([image.as_str(), "true"]))
    };
    run(&["--sysctl", "net.nope=1"])
        .exits(127)
        .says_on_stderr("open /proc/sys/net/nope: no such file or directory");
    run(&["--sysctl", "kernel.msgmax=x"])
        .exits(125)
        .says_on_stderr("write /proc/sys/kernel/msgmax: invalid argument");
    run(&["--user", "nope"])
        .exits(125)
        .says_on_stderr("unable to find user nope: no matching entries in passwd file");
    run(&["--user", "2147483648"]).exits(125).says_on_stderr("uids and gids must be in range 0-2147483647");
    run(&["--group-add", "2147483648"])
        .exits(125)
        .says_on_stderr("uids and gids must be in range 0-2147483647");
    run(&["--volume", "/etc/passwd:/etc"])
        .exits(125)
        .says_on_stderr("not a directory: Are you trying to mount");
    run(&["--tmpfs", "/t:size=abc"]).exits(125).says_on_stderr("invalid argument");
    let name = app.name("start-fails");
    create(&name, json!({ "Sysctls": { "net.nope": "1" }, "NetworkMode": "none" })).is(201);
    let told = app.api().post(&format!("/containers/{}/start", &*name)).is(400).json()["message"].clone();
    let state = app.inspect(&name)["State"].clone();
    assert_eq!((&state["Error"], &state["ExitCode"]), (&told, &json!(127)), "{state}");
    assert!(!told.as_str().expect("words").contains("os error"), "{told}");
}

#[test]
fn cgroups_are_written_to_where_that_was_asked_for() {
    let app = appliance();
    let image = app.busybox();
    let run = |options: &[&str]| {
        let args = ["run", "--rm"].into_iter().chain(options.iter().copied());
        app.docker(args.chain([image.as_str(), "grep", " /sys/fs/cgroup", "/proc/mounts"]))
    };
    for option in ["writable-cgroups=true", "writable-cgroups:true"] {
        run(&["--security-opt", option]).succeeds().mentions(" rw,");
    }
    for option in ["writable-cgroups=false", "no-new-privileges"] {
        run(&["--security-opt", option]).succeeds().mentions(" ro,");
    }
    run(&["--security-opt", "writable-cgroups=x"])
        .fails()
        .says_on_stderr("invalid --security-opt 2: \"writable-cgroups=x\"");
}
