//! Places of containers on networks: what is asked of them, and how they come and go while the container runs.

use crate::networks::{Net, address, inside, network, place, sleeper};
use crate::{appliance, is_reference};
use serde_json::{Value, json};

/// M8, M10, M15
#[test]
fn a_running_container_gets_and_loses_an_interface() {
    let app = appliance();
    let first = Net::of(app, "first", &["--subnet", "10.74.0.0/24"]);
    let second = Net::of(app, "second", &["--subnet", "10.75.0.0/24"]);
    let name = sleeper(app, "live", &["--network", &first, "--hostname", "hh"]);
    inside(app, &name, "echo '10.0.0.9 mine' >> /etc/hosts").succeeds();
    app.docker(["network", "connect", "--ip", "10.75.0.9", "--alias", "zz", &second, &name]).succeeds();
    let there = place(app, &name, &second);
    assert_eq!((&there["IPAddress"], &there["IPPrefixLen"]), (&json!("10.75.0.9"), &json!(24)));
    assert_eq!(there["IPAMConfig"], json!({ "IPv4Address": "10.75.0.9" }));
    assert_eq!(there["Aliases"], json!(["zz"]));
    inside(app, &name, "ip -4 -o addr show eth1").mentions("10.75.0.9/24").succeeds();
    inside(app, &name, "cat /etc/hosts").mentions("10.75.0.9\thh").mentions("mine").succeeds();
    let id = app.inspect(&name)["Id"].as_str().expect("an id").to_owned();
    assert_eq!(network(app, &second)["Containers"][&id]["IPv4Address"], "10.75.0.9/24");
    let again =
        app.api().post_json(&format!("/networks/{}/connect", &*second), json!({ "Container": &*name }));
    again.refuses(403, &format!("endpoint with name {} already exists in network {}", &*name, &*second));
    app.docker(["network", "disconnect", &second, &name]).succeeds();
    inside(app, &name, "ls /sys/class/net").never_mentions("eth1").succeeds();
    inside(app, &name, "cat /etc/hosts").never_mentions("10.75.0.9").mentions("mine").succeeds();
    assert_eq!(place(app, &name, &second), Value::Null);
    let gone =
        app.api().post_json(&format!("/networks/{}/disconnect", &*second), json!({ "Container": &*name }));
    gone.refuses(500, &format!("container {id} is not connected to network {}", &*second));
}

/// M8
#[test]
fn what_is_asked_of_an_address_is_checked() {
    let app = appliance();
    let net = Net::of(app, "fixed", &["--subnet", "10.76.0.0/24"]);
    let auto = Net::of(app, "auto", &[]);
    let name = app.name("stopped");
    app.docker(["create", "--name", &name, &app.busybox(), "sleep", "1000"]).succeeds();
    let connect = |net: &str, address: &str| {
        let config = json!({ "IPAMConfig": { "IPv4Address": address } });
        let body = json!({ "Container": &*name, "EndpointConfig": config });
        app.api().post_json(&format!("/networks/{net}/connect"), body)
    };
    let outside =
        "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.9.0.1";
    connect(&net, "10.9.0.1").refuses(400, outside);
    let only = "user specified IP address is supported only when connecting to networks with user configured subnets";
    connect(&auto, "172.31.0.9").refuses(400, only);
    app.docker(["run", "--rm", "--ip", "172.17.0.9", &app.busybox(), "true"])
        .fails()
        .says_on_stderr("user specified IP address is supported on user defined networks only");
    let holder = sleeper(app, "holder", &["--network", &net, "--ip", "10.76.0.9"]);
    connect(&net, "10.76.0.9").is(200);
    app.api()
        .post(&format!("/containers/{}/start", &*name))
        .refuses(403, "failed to set up container networking: Address already in use");
    app.docker(["rm", "-f", &holder]).succeeds();
    app.docker(["start", &name]).succeeds();
    assert_eq!(address(app, &name, &net), "10.76.0.9");
    app.docker(["restart", "-t", "0", &name]).succeeds();
    assert_eq!(address(app, &name, &net), "10.76.0.9");
    assert!(address(app, &name, "bridge").starts_with("172.17."));
}

/// M9
#[test]
fn who_shares_a_network_gets_no_other() {
    let app = appliance();
    let net = Net::of(app, "alone", &[]);
    let connect = |to: &str, who: &str| {
        app.api().post_json(&format!("/networks/{to}/connect"), json!({ "Container": who }))
    };
    let shares = "container sharing network namespace with another container or host cannot be connected to any other \
                  network";
    let private =
        "container cannot be connected to multiple networks with one of the networks in private (none) mode";
    let host = sleeper(app, "host", &["--network", "host"]);
    connect(&net, &host).refuses(400, shares);
    let body = json!({ "Container": &*host });
    app.api()
        .post_json("/networks/host/disconnect", body)
        .refuses(400, "cannot disconnect container from host network");
    let none = sleeper(app, "none", &["--network", "none"]);
    connect(&net, &none).refuses(400, private);
    let usual = sleeper(app, "usual", &[]);
    connect("none", &usual).refuses(400, private);
    connect("host", &usual).refuses(
        400,
        "cannot connect container to host network - container must be created in host network mode",
    );
    app.docker(["network", "disconnect", "none", &none]).succeeds();
    assert_eq!(app.inspect(&none)["NetworkSettings"]["Networks"], json!({}));
    connect(&net, &none).is(200);
    inside(app, &none, "ip route").mentions("default via").succeeds();
}

/// M18
#[test]
fn a_container_uses_the_network_of_another() {
    let app = appliance();
    let net = Net::of(app, "donor", &[]);
    let donor = sleeper(app, "donor", &["--network", &net, "--hostname", "dh"]);
    let mode = format!("container:{}", &*donor);
    let script = "hostname; cat /etc/hosts; ip -4 -o addr show eth0";
    let told = app.docker(["run", "--rm", "--network", &mode, &app.busybox(), "sh", "-c", script]).succeeds();
    told.mentions("dh\n").mentions(&address(app, &donor, &net));
    let joiner = sleeper(app, "joiner", &["--network", &mode]);
    let shown = app.inspect(&joiner);
    assert_eq!(shown["NetworkSettings"]["Networks"], json!({}));
    assert_eq!(
        shown["HostConfig"]["NetworkMode"],
        format!("container:{}", app.inspect(&donor)["Id"].as_str().unwrap_or(""))
    );
    let fails = |other: &str, text: &str| {
        let mode = format!("container:{other}");
        let name = app.name("fails");
        app.docker(["run", "-d", "--name", &name, "--network", &mode, &app.busybox()])
            .fails()
            .says_on_stderr(text);
    };
    fails("missing", "joining network namespace of container: No such container: missing");
    app.docker(["stop", "-t", "0", &donor]).succeeds();
    let text =
        format!("cannot join network namespace of a non running container: container {} is exited", &*donor);
    fails(&donor, &text);
}

/// M20
#[test]
fn the_way_out_is_the_one_with_the_highest_priority() {
    let app = appliance();
    let (a, b) =
        (Net::of(app, "a", &["--subnet", "10.79.0.0/24"]), Net::of(app, "b", &["--subnet", "10.80.0.0/24"]));
    let way = |networks: [&str; 2]| {
        let args = [
            "run",
            "--rm",
            "--network",
            networks[0],
            "--network",
            networks[1],
            &app.busybox(),
            "sh",
            "-c",
            "ip route",
        ];
        app.docker(args).succeeds().lines().remove(0)
    };
    let (plain_a, plain_b) = (format!("name={}", &*a), format!("name={}", &*b));
    let first = format!("{plain_b},gw-priority=1");
    for (networks, expected) in [
        ([&plain_a, &plain_b], "10.79.0.1"),
        ([&plain_b, &plain_a], "10.79.0.1"),
        ([&first, &plain_a], "10.80.0.1"),
    ] {
        let way = way(networks.map(String::as_str));
        assert!(way.starts_with(&format!("default via {expected} dev eth")), "{way}");
    }
    let name = sleeper(app, "moves", &["--network", &b]);
    app.docker(["network", "connect", &a, &name]).succeeds();
    inside(app, &name, "ip route").mentions("default via 10.79.0.1 dev eth1").succeeds();
    app.docker(["network", "disconnect", &a, &name]).succeeds();
    inside(app, &name, "ip route").mentions("default via 10.80.0.1 dev eth0").succeeds();
    let body = json!({ "Container": &*name, "EndpointConfig": { "GwPriority": -1 } });
    app.api().post_json(&format!("/networks/{}/connect", &*a), body).is(200);
    inside(app, &name, "ip route").mentions("default via 10.80.0.1 dev eth0").succeeds();
}

/// M22
#[test]
fn hardware_addresses_stay_where_they_are_asked_for() {
    let app = appliance();
    let net = Net::of(app, "mac", &[]);
    let read = |name: &str| inside(app, name, "cat /sys/class/net/eth0/address").succeeds().word();
    let fixed = sleeper(app, "fixed", &["--network", &net, "--mac-address", "02:00:00:00:00:77"]);
    let made = sleeper(app, "made", &["--network", &net]);
    let (first, shown) = (read(&made), place(app, &made, &net)["MacAddress"].clone());
    assert_eq!((json!(first), read(&fixed).as_str()), (shown, "02:00:00:00:00:77"));
    app.docker(["restart", "-t", "0", &fixed, &made]).succeeds();
    assert!(read(&fixed) == "02:00:00:00:00:77" && read(&made) != first);
}

/// M8: in the place of a name an id.
#[test]
fn networks_are_named_by_id_as_well() {
    let app = appliance();
    let net = Net::of(app, "byid", &[]);
    let id = network(app, &net)["Id"].as_str().expect("an id").to_owned();
    let name = sleeper(app, "byid", &["--network", &id]);
    assert!(!address(app, &name, &net).is_empty());
    assert_eq!(app.inspect(&name)["HostConfig"]["NetworkMode"], json!(id));
    let rows = app.docker(["ps", "--filter", &format!("network={}", &*net), "--format", "{{.Names}}"]);
    assert_eq!(rows.succeeds().lines(), [&*name]);
}

/// M10
#[test]
fn a_place_on_a_network_that_is_gone_is_given_up() {
    let app = appliance();
    let net = Net::of(app, "gone", &[]);
    let name = app.name("left");
    app.docker(["create", "--name", &name, "--network", &net, &app.busybox(), "sleep", "1000"]).succeeds();
    app.docker(["network", "rm", &net]).succeeds();
    app.docker(["start", &name]).fails().says_on_stderr("failed to set up container networking: network ");
    let disconnect = |force: bool| {
        let body = json!({ "Container": &*name, "Force": force });
        app.api().post_json(&format!("/networks/{}/disconnect", &*net), body)
    };
    disconnect(false).is(200);
    disconnect(true).refuses(500, "is not connected to the network");
    assert_eq!(app.inspect(&name)["NetworkSettings"]["Networks"], json!({}));
    app.docker(["network", "connect", "bridge", &name]).succeeds();
    if is_reference(app) {
        // dockerd goes on to miss the network of the container's mode.
        return;
    }
    app.docker(["start", &name]).succeeds();
    assert!(address(app, &name, "bridge").starts_with("172.17."));
}
