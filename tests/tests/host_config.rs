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

#[test]
fn there_is_no_driver_for_gpus() {
    let app = appliance();
    app.docker(["run", "--rm", "--gpus", "all", &app.busybox(), "true"])
        .exits(125)
        .says_on_stderr("could not select device driver \"\" with capabilities: [[gpu]]");
}

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
    app.docker(["start", &name]).fails().says_on_stderr("non running container");
}
