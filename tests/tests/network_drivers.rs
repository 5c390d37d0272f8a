//! Networks of the drivers `macvlan` and `ipvlan`: on an interface of the machine's in the place of a bridge.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::networks::{Net, address, create, inside, network, place, sleeper};
use crate::{appliance, is_reference};
use pinnace_tests::{Appliance, ContainerName, skip};
use serde_json::{Value, json};

/// An interface of the machine's: a bridge on which one container is, for without any it has no carrier.
struct Parent {
    name: String,
    _carrier: ContainerName,
    _net: Net,
}

fn parent(app: &Appliance) -> Parent {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("p{:x}x{number}", std::process::id() & 0xffff);
    let option = format!("com.docker.network.bridge.name={name}");
    let net = Net::of(app, "parent", &["--opt", &option]);
    let carrier = sleeper(app, "carrier", &["--network", &net]);
    Parent { name, _carrier: carrier, _net: net }
}

impl Parent {
    /// A network on it; `options` are those of `docker network create`.
    fn net(&self, app: &Appliance, driver: &str, options: &[&str]) -> Net {
        let on = format!("parent={}", self.name);
        Net::of(app, driver, &[&["--driver", driver, "--opt", &on], options].concat())
    }
}

fn interfaces(app: &Appliance) -> Vec<String> {
    app.docker(["run", "--rm", "--network", "host", &app.busybox(), "ls", "/sys/class/net"])
        .succeeds()
        .lines()
}

/// Whether the kernel under the engine has no interfaces of this kind; a development machine's may have none.
fn lacks(app: &Appliance, driver: &str, parent: &Parent, suffix: &str) -> bool {
    let on = format!("parent={}{suffix}", parent.name);
    let on: &[&str] = if suffix == "-" { &[] } else { &["--opt", &on] };
    let net = Net::name(app, "probe");
    let made = app.docker([&["network", "create", "--driver", driver], on, &[&*net]].concat());
    let run = || app.docker(["run", "--rm", "--network", &net, &app.busybox(), "true"]);
    let told = if made.code == 0 { run() } else { made };
    told.error().contains("operation not supported")
}

/// M26
#[test]
fn macvlan_gives_a_place_beside_the_parent() {
    let app = appliance();
    let parent = parent(app);
    let options = ["--subnet", "10.130.0.0/24", "--gateway", "10.130.0.9"];
    let net = parent.net(app, "macvlan", &options);
    let shown = network(app, &net);
    assert_eq!((&shown["Driver"], &shown["Options"]), (&json!("macvlan"), &json!({ "parent": parent.name })));
    assert_eq!(shown["IPAM"]["Config"], json!([{ "Subnet": "10.130.0.0/24", "Gateway": "10.130.0.9" }]));
    let fixed = ["--network", &net, "--ip", "10.130.0.77", "--mac-address", "02:00:00:00:13:00", "-p", "80"];
    let one = sleeper(app, "one", &fixed);
    let two = sleeper(app, "two", &["--network", &net, "--network-alias", "service"]);
    inside(app, &one, "ip route").mentions("default via 10.130.0.9 dev eth0").succeeds();
    inside(app, &one, "cat /sys/class/net/eth0/address").prints("02:00:00:00:13:00\n");
    inside(app, &one, "ping -c 1 -W 3 service").mentions(&address(app, &two, &net)).succeeds();
    inside(app, &two, &format!("ping -c 1 -W 3 {}", &*one)).mentions("10.130.0.77").succeeds();
    let there = place(app, &one, &net);
    assert_eq!((&there["Gateway"], &there["IPAddress"]), (&json!("10.130.0.9"), &json!("10.130.0.77")));
    assert_eq!(there["MacAddress"], "02:00:00:00:13:00");
    // Nothing is published there.
    assert_eq!(app.inspect(&one)["NetworkSettings"]["Ports"], json!({}));
    // The same hardware address again, although the kernel has not buried the old sandbox yet.
    app.docker(["restart", "-t", "0", &one]).succeeds();
    inside(app, &two, "ping -c 1 -W 3 10.130.0.77").succeeds();
    app.api().delete(&format!("/networks/{}", &*net)).refuses(403, "has active endpoints");
    let outside = sleeper(app, "outside", &[]);
    inside(app, &one, &format!("ping -c 1 -W 1 {}", address(app, &outside, "bridge"))).fails();
}

/// M26
#[test]
fn a_container_comes_to_a_macvlan_and_leaves_it_while_it_runs() {
    let app = appliance();
    let parent = parent(app);
    let net = parent.net(app, "macvlan", &["--subnet", "10.131.0.0/24"]);
    let other = sleeper(app, "other", &["--network", &net]);
    let name = sleeper(app, "comes", &[]);
    app.docker(["network", "connect", "--ip", "10.131.0.44", &net, &name]).succeeds();
    inside(app, &name, "ip -o -4 addr show eth1").mentions("10.131.0.44/24").succeeds();
    inside(app, &name, &format!("ping -c 1 -W 3 {}", &*other)).succeeds();
    inside(app, &name, "ip route").mentions("default via 172.17.0.1 dev eth0").succeeds();
    app.docker(["network", "disconnect", "bridge", &name]).succeeds();
    inside(app, &name, "ip route").mentions("default via 10.131.0.1 dev eth1").succeeds();
    app.docker(["network", "disconnect", &net, &name]).succeeds();
    inside(app, &name, "ls /sys/class/net").prints("lo\n");
    app.docker(["network", "connect", &net, &name]).succeeds();
    inside(app, &name, "ip route").mentions("default via 10.131.0.1 dev eth0").succeeds();
    // Both at the start, whichever is first.
    let first = format!("name={},gw-priority=5", &*net);
    let bridge = Net::of(app, "second", &["--subnet", "10.132.0.0/24"]);
    let second = format!("name={}", &*bridge);
    let both = sleeper(app, "both", &["--network", &first, "--network", &second]);
    inside(app, &both, "ip route")
        .mentions("10.131.0.1 dev eth0")
        .mentions("10.132.0.0/24 dev eth1")
        .succeeds();
}

/// M26
#[test]
fn what_no_driver_can_make_is_refused_in_dockers_words() {
    let app = appliance();
    let net = Net::name(app, "refused");
    let refused = |driver: &str, options: Value, text: &str| {
        let body = json!({ "Name": &*net, "Driver": driver, "Options": options });
        create(app, body).refuses(500, text);
    };
    for driver in ["macvlan", "ipvlan"] {
        let parent = |name: &str, text: &str| refused(driver, json!({ "parent": name }), text);
        parent("lo", &format!("loopback interface is not a valid {driver} parent link"));
        parent("nosuch", "invalid subinterface vlan name nosuch, example formatting is eth0.10");
        parent("nosuch.5", "-o parent interface was not found on the host: nosuch");
        parent("docker0.0", "vlan id must be between 1-4094, received: 0");
        parent("docker0.5000", "vlan id must be between 1-4094, received: 5000");
        parent("docker0.x", "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)");
        parent(
            "a.1.2",
            "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received a.1.2",
        );
    }
    let mode = "requested macvlan mode 'zzz' is not valid, 'bridge' mode is the macvlan driver default";
    refused("macvlan", json!({ "macvlan_mode": "zzz" }), mode);
    let mode = "requested ipvlan mode 'zzz' is not valid, 'l2' mode is the ipvlan driver default";
    refused("ipvlan", json!({ "ipvlan_mode": "zzz" }), mode);
    let flag = "requested ipvlan flag 'zzz' is not valid, 'bridge' is the ipvlan driver default";
    refused("ipvlan", json!({ "ipvlan_flag": "zzz" }), flag);
    app.api().get(&format!("/networks/{}", &*net)).is(404);
}

/// M27
#[test]
fn a_parent_is_shared_as_dockerd_shares_it() {
    let app = appliance();
    let parent = parent(app);
    let first = parent.net(app, "macvlan", &["--subnet", "10.133.0.0/24"]);
    let second = parent.net(app, "macvlan", &["--subnet", "10.134.0.0/24", "--opt", "macvlan_mode=vepa"]);
    let id = |net: &str| network(app, net)["Id"].as_str().expect("an id").to_owned();
    let on = |driver: &str, mode: Value| {
        let mut options = mode;
        options["parent"] = json!(parent.name);
        create(app, json!({ "Name": format!("{}-x", &*second), "Driver": driver, "Options": options }))
    };
    // Which of the two is named, is left to chance.
    let told =
        on("macvlan", json!({ "macvlan_mode": "passthru" })).refuses(500, "cannot use mode passthru").text();
    let names = |net: &str| {
        let text = format!("macvlan network {} is already using parent interface {}", id(net), parent.name);
        told.contains(&text)
    };
    assert!(names(&first) || names(&second), "{told}");
    let ipvlan = parent.net(app, "ipvlan", &["--subnet", "10.135.0.0/24"]);
    let short = id(&ipvlan)[..12].to_owned();
    let there = format!("network di-{short} is already using parent interface {}", parent.name);
    on("ipvlan", json!({})).refuses(500, &there);
    let alone = self::parent(app);
    let passthru = alone.net(app, "macvlan", &["--opt", "macvlan_mode=passthru"]);
    let id = id(&passthru);
    let options = json!({ "parent": alone.name });
    create(app, json!({ "Name": format!("{}-y", &*second), "Driver": "macvlan", "Options": options }))
        .refuses(
            500,
            &format!(
                "macvlan network {id} is already using parent interface {} in mode passthru",
                alone.name
            ),
        );
    let name = sleeper(app, "alone", &["--network", &passthru]);
    app.docker(["restart", "-t", "0", &name]).succeeds();
    let second = app.name("late");
    app.docker(["run", "-d", "--name", &second, "--network", &passthru, &app.busybox(), "sleep", "9"])
        .fails()
        .says_on_stderr(
            "failed to set up container networking: failed to create the macvlan port: invalid argument",
        );
}

/// M28
#[test]
fn gateways_of_macvlans_are_the_users() {
    let app = appliance();
    let parent = parent(app);
    let internal = parent.net(app, "macvlan", &["--internal", "--subnet", "10.136.0.0/24"]);
    assert_eq!(network(app, &internal)["IPAM"]["Config"], json!([{ "Subnet": "10.136.0.0/24" }]));
    let name = sleeper(app, "first", &["--network", &internal]);
    // Nobody is the gateway.
    assert_eq!(address(app, &name, &internal), "10.136.0.1");
    inside(app, &name, "ip route").never_mentions("default").succeeds();
    // The docker command sends several subnets in any order.
    let net = Net::name(app, "two");
    let config =
        json!([{ "Subnet": "10.137.0.0/30" }, { "Subnet": "10.138.0.0/24", "Gateway": "10.138.0.9" }]);
    let options = json!({ "parent": parent.name });
    let body =
        json!({ "Name": &*net, "Driver": "macvlan", "Options": options, "IPAM": { "Config": config } });
    create(app, body).is(201);
    let named = sleeper(app, "named", &["--network", &net, "--ip", "10.138.0.44"]);
    inside(app, &named, "ip route").mentions("default via 10.138.0.9").succeeds();
    let full = sleeper(app, "full", &["--network", &net]);
    inside(app, &full, "ip route").mentions("default via 10.137.0.1").succeeds();
    let next = sleeper(app, "next", &["--network", &net]);
    assert_eq!(address(app, &next, &net), "10.138.0.1");
    let text = "bridge driver doesn't support multiple subnets";
    let subnets = json!([{ "Subnet": "10.139.0.0/24" }, { "Subnet": "10.140.0.0/24" }]);
    create(app, json!({ "Name": "x3", "IPAM": { "Config": subnets } })).refuses(403, text);
}

/// M29
#[test]
fn a_vlan_and_a_dummy_come_and_go_with_their_networks() {
    let app = appliance();
    let parent = parent(app);
    if lacks(app, "macvlan", &parent, ".70") || lacks(app, "macvlan", &parent, "-") {
        skip!("this machine's kernel has no VLANs or no dummy interfaces");
    }
    let vlan = format!("{}.50", parent.name);
    let on = format!("parent={vlan}");
    let options = ["--driver", "macvlan", "--opt", &on];
    let (one, two) = (Net::of(app, "vlan", &options), Net::of(app, "vlan", &options));
    assert!(interfaces(app).contains(&vlan));
    let (a, b) = (sleeper(app, "a", &["--network", &one]), sleeper(app, "b", &["--network", &one]));
    inside(app, &a, &format!("ping -c 1 -W 3 {}", &*b)).succeeds();
    app.docker(["rm", "-f", &a, &b]).succeeds();
    app.docker(["network", "rm", &one]).succeeds();
    assert!(interfaces(app).contains(&vlan), "the other network is still on it");
    app.docker(["network", "rm", &two]).succeeds();
    assert!(!interfaces(app).contains(&vlan));
    for (driver, prefix) in [("macvlan", "dm"), ("ipvlan", "di")] {
        let net = Net::of(app, "dummy", &["--driver", driver]);
        let dummy = format!("{prefix}-{}", &network(app, &net)["Id"].as_str().expect("an id")[..12]);
        assert!(interfaces(app).contains(&dummy));
        let (a, b) = (sleeper(app, "a", &["--network", &net]), sleeper(app, "b", &["--network", &net]));
        inside(app, &a, &format!("ping -c 1 -W 3 {}", &*b)).succeeds();
        app.docker(["rm", "-f", &a, &b]).succeeds();
        app.docker(["network", "rm", &net]).succeeds();
        assert!(!interfaces(app).contains(&dummy));
    }
    assert!(interfaces(app).contains(&parent.name));
}

/// M30
#[test]
fn ipvlan_has_the_parents_hardware_address() {
    let app = appliance();
    let parent = parent(app);
    if lacks(app, "ipvlan", &parent, "") {
        skip!("this machine's kernel has no ipvlan");
    }
    let net = parent.net(app, "ipvlan", &["--subnet", "10.141.0.0/24"]);
    let (one, two) = (sleeper(app, "one", &["--network", &net]), sleeper(app, "two", &["--network", &net]));
    inside(app, &one, &format!("ping -c 1 -W 3 {}", &*two)).succeeds();
    inside(app, &one, "ip route").mentions("default via 10.141.0.1 dev eth0").succeeds();
    let read = |name: &str| inside(app, name, "cat /sys/class/net/eth0/address").succeeds().word();
    assert_eq!(read(&one), read(&two));
    assert_eq!(place(app, &one, &net)["MacAddress"], "");
    let args = ["run", "-d", "--network", &net, "--mac-address", "02:00:00:00:00:99", &app.busybox(), "true"];
    app.docker(args).fails().says_on_stderr("ipvlan interfaces do not support custom mac address assignment");
    for mode in ["l3", "l3s"] {
        let parent = self::parent(app);
        let net = parent.net(app, "ipvlan", &["--opt", &format!("ipvlan_mode={mode}")]);
        assert_eq!(network(app, &net)["IPAM"]["Config"][0]["Gateway"], Value::Null);
        let (one, two) =
            (sleeper(app, "one", &["--network", &net]), sleeper(app, "two", &["--network", &net]));
        inside(app, &one, "ip route").mentions("default dev eth0").succeeds();
        inside(app, &one, &format!("ping -c 1 -W 3 {}", &*two)).succeeds();
        assert_eq!(place(app, &one, &net)["Gateway"], "");
    }
}

/// M26: a container keeps its place, and nobody else gets it.
#[test]
fn a_macvlan_outlives_the_engine() {
    let Some((app, _turn)) = crate::engine_death::mortal() else { return };
    if let Err(reason) = app.can_kill_engine() {
        skip!("{reason}");
    }
    let parent = parent(app);
    let net = parent.net(app, "macvlan", &["--subnet", "10.142.0.0/24"]);
    let before = sleeper(app, "before", &["--network", &net]);
    app.kill_engine();
    let after = sleeper(app, "after", &["--network", &net]);
    assert_ne!(address(app, &before, &net), address(app, &after, &net));
    inside(app, &after, &format!("ping -c 1 -W 3 {}", &*before)).succeeds();
    app.docker(["network", "disconnect", &net, &before]).succeeds();
    inside(app, &before, "ls /sys/class/net").prints("lo\n");
    app.docker(["rm", "-f", &before, &after]).succeeds();
    app.docker(["network", "rm", &net]).succeeds();
}

/// M26: a start says that the parent is gone, and goes on once it is back.
#[test]
fn a_parent_that_is_gone_is_missed() {
    let app = appliance();
    let net = Net::name(app, "orphan");
    let stopped = app.name("stopped");
    let name = {
        let parent = parent(app);
        let body = json!({ "Name": &*net, "Driver": "macvlan", "Options": { "parent": parent.name } });
        create(app, body).is(201);
        app.docker(["create", "--name", &stopped, "--network", &net, &app.busybox(), "sleep", "9"])
            .succeeds();
        parent.name.clone()
    };
    let text = format!("the requested parent interface {name} was not found on the Docker host");
    let start = app.api().post(&format!("/containers/{}/start", &*stopped));
    start.refuses(500, &format!("failed to set up container networking: {text}"));
    if is_reference(app) {
        return;
    }
    let option = format!("com.docker.network.bridge.name={name}");
    let _again = Net::of(app, "parent", &["--opt", &option]);
    app.docker(["start", &stopped]).succeeds();
}
