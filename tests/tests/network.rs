//! The default network, `--network none`, and the way out.

use crate::{appliance, is_reference};
use pinnace_tests::images::Image;
use pinnace_tests::{eventually, skip};

/// Lines that become `docker run --rm busybox sh -c SCRIPT`.
fn inside(network: &str, script: &str) -> pinnace_tests::Outcome {
    let app = appliance();
    app.docker(["run", "--rm", "--network", network, &app.busybox(), "sh", "-c", script])
}

#[test]
fn none_has_only_loopback() {
    inside("none", "ls /sys/class/net; ip -o link | wc -l").prints("lo\n1\n").succeeds();
    inside("none", "ping -c 1 -W 1 127.0.0.1 >/dev/null && echo loops").prints("loops\n").succeeds();
}

#[test]
fn the_default_is_an_address_on_the_bridge() {
    let outcome = inside("bridge", "ip -4 -o addr show eth0; ip route").succeeds();
    outcome.mentions("inet 172.17.").mentions("/16").mentions("default via 172.17.0.1 dev eth0");
}

#[test]
fn the_registry_on_the_host_is_reached() {
    let app = appliance();
    let registry = &app.registry().address;
    let (_, port) = registry.rsplit_once(':').expect("it has a port");
    // Containers reach this host by its name and by no address of the machine's network.
    let ours = format!("host.docker.internal:{port}");
    let address = if is_reference(app) { registry } else { &ours };
    let script = format!("wget -q -O - http://{address}/v2/ && echo reached");
    inside("bridge", &script).mentions("reached").succeeds();
}

#[test]
fn two_containers_reach_each_other() {
    let app = appliance();
    let name = app.name("server");
    let script = "while :; do echo hello from afar | nc -l -p 7777; done";
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sh", "-c", script]).succeeds();
    let inspect = app.inspect(&name);
    let address = inspect["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().expect("an address");
    let client = format!("nc {address} 7777 </dev/null");
    eventually("the server answers", app.patience(), || {
        inside("bridge", &client).text().contains("hello from afar").then_some(())
    });
    inside("none", &format!("nc -w 1 {address} 7777 </dev/null")).fails();
}

#[test]
fn addresses_come_back() {
    let app = appliance();
    // More containers than a careless pool would last; sixteen at a time.
    for _ in 0..4 {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| inside("bridge", "ip -4 -o addr show eth0").mentions("172.17.").succeeds());
            }
        });
    }
    let app_networks = app.docker(["network", "inspect", "bridge", "--format", "{{len .Containers}}"]);
    let attached: usize = app_networks.succeeds().word().parse().expect("a number");
    assert!(attached < 200, "{attached}");
}

#[test]
fn resolv_conf_names_a_server() {
    inside("bridge", "grep -c ^nameserver /etc/resolv.conf").succeeds();
}

#[test]
fn apt_get_update_works_where_there_is_a_network() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has no way out here");
    }
    let image = app.image(Image::Debian);
    let mirror = app.docker([
        "run",
        "--rm",
        &image,
        "sed",
        "-n",
        "s,^deb http://\\([^/]*\\)/.*,\\1:80,p",
        "/etc/apt/sources.list",
    ]);
    let mirror = mirror.succeeds().lines().first().cloned().expect("the image names its mirror");
    if std::net::TcpStream::connect(&mirror).is_err() {
        skip!("this machine does not reach {mirror} itself");
    }
    let script = "apt-get -o Acquire::Retries=2 update 2>&1 && ls /var/lib/apt/lists | grep -c Packages";
    let outcome = app.docker_program(["run", "--rm", &image, "sh", "-c", script]).within(600).run();
    outcome.mentions("Reading package lists").never_mentions("Failed to fetch").succeeds();
}
