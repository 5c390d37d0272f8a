//! Networks without IPv4, networks of configuration only, and addresses of the link alone.

use crate::networks::{Net, address, create, inside, network, place, sleeper};
use crate::{appliance, is_reference};
use pinnace_tests::Appliance;
use serde_json::{Value, json};

fn has_ipv6(app: &Appliance) -> bool {
    app.docker(["run", "--rm", &app.busybox(), "ls", "/proc/sys/net/ipv6"]).code == 0
}

/// M21
#[test]
fn a_network_can_be_without_ipv4() {
    let app = appliance();
    let both = json!({ "Name": "x4", "EnableIPv4": false });
    create(app, both).refuses(400, "IPv4 or IPv6 must be enabled");
    let config = json!({ "Config": [{ "Subnet": "10.150.0.0/24" }] });
    create(app, json!({ "Name": "x4", "EnableIPv4": false, "IPAM": config }))
        .refuses(400, "IPv4 or IPv6 must be enabled");
    if !has_ipv6(app) {
        pinnace_tests::skip!("this machine's kernel has no IPv6");
    }
    let net = Net::of(app, "six", &["--ipv4=false", "--ipv6", "--subnet", "fd00:150::/64"]);
    let shown = network(app, &net);
    assert_eq!((&shown["EnableIPv4"], &shown["EnableIPv6"]), (&json!(false), &json!(true)));
    assert_eq!(shown["IPAM"]["Config"], json!([{ "Subnet": "fd00:150::/64" }]));
    let one = sleeper(app, "one", &["--network", &net, "--ip6", "fd00:150::77", "-p", "80"]);
    let two = sleeper(app, "two", &["--network", &net]);
    inside(app, &two, "ip -o -4 addr show eth0").prints("");
    inside(app, &two, "ip route").prints("");
    inside(app, &two, "ip -6 route").mentions("default via fd00:150::1 dev eth0").succeeds();
    inside(app, &two, &format!("ping6 -c 1 -W 3 {}", &*one)).mentions("fd00:150::77").succeeds();
    let there = place(app, &one, &net);
    assert_eq!((&there["IPAddress"], &there["IPPrefixLen"]), (&json!(""), &json!(0)));
    assert_eq!((&there["Gateway"], &there["IPv6Gateway"]), (&json!(""), &json!("fd00:150::1")));
    let ports = app.inspect(&one)["NetworkSettings"]["Ports"]["80/tcp"].clone();
    assert_eq!((ports[0]["HostIp"].as_str(), ports[1].as_object()), (Some("::"), None), "{ports}");
    let id = app.inspect(&one)["Id"].as_str().expect("an id").to_owned();
    let member = network(app, &net)["Containers"][&id].clone();
    assert_eq!((&member["IPv4Address"], &member["IPv6Address"]), (&json!(""), &json!("fd00:150::77/64")));
    inside(app, &one, "cat /etc/hosts").mentions("fd00:150::77\t").succeeds();
    let refused = "user specified IP address is supported only when connecting to networks with user configured subnets";
    app.docker(["run", "-d", "--network", &net, "--ip", "10.1.2.3", &app.busybox()])
        .fails()
        .says_on_stderr(refused);
    let usual = sleeper(app, "usual", &[]);
    app.docker(["network", "connect", &net, &usual]).succeeds();
    inside(app, &usual, &format!("ping6 -c 1 -W 3 {}", &*two)).succeeds();
    inside(app, &usual, "ip route").mentions("default via 172.17.0.1 dev eth0").succeeds();
    app.docker(["network", "disconnect", &net, &usual]).succeeds();
    inside(app, &usual, "cat /etc/hosts").never_mentions("fd00:150").succeeds();
}

/// M21: subnets of a family that is not enabled are shown, and nobody's.
#[test]
fn subnets_of_the_other_family_are_only_shown() {
    let app = appliance();
    let net = Net::name(app, "shown");
    let config = json!({ "Config": [{ "Subnet": "fd00:151::/64" }] });
    create(app, json!({ "Name": &*net, "IPAM": config })).is(201);
    let pools = network(app, &net)["IPAM"]["Config"].clone();
    assert_eq!((&pools[0], pools[1]["Gateway"].is_string()), (&json!({ "Subnet": "fd00:151::/64" }), true));
    if !has_ipv6(app) {
        pinnace_tests::skip!("this machine's kernel has no IPv6");
    }
    let six = Net::name(app, "six");
    let config = json!({ "Config": [{ "Subnet": "fd00:152::/64" }, { "Subnet": "10.151.0.0/24" }] });
    create(app, json!({ "Name": &*six, "EnableIPv4": false, "EnableIPv6": true, "IPAM": config })).is(201);
    let expected = json!([{ "Subnet": "10.151.0.0/24" }, { "Subnet": "fd00:152::/64" }]);
    assert_eq!(network(app, &six)["IPAM"]["Config"], expected);
    let _same = Net::of(app, "same", &["--subnet", "10.151.0.0/24"]);
}

/// M31
#[test]
fn a_network_of_configuration_only_is_what_others_are_made_from() {
    let app = appliance();
    let (config, made) = (Net::name(app, "config"), Net::name(app, "made"));
    let ipam = json!({ "Config": [{ "Subnet": "10.152.0.0/24", "Gateway": "10.152.0.9", "IPRange": "10.152.0.128/25" }] });
    let options = json!({ "com.docker.network.driver.mtu": "1400" });
    let body = json!({ "Name": &*config, "ConfigOnly": true, "Driver": "bridge", "Labels": { "a": "b" },
                       "Options": options, "IPAM": ipam });
    create(app, body).is(201);
    let shown = network(app, &config);
    assert_eq!((&shown["Driver"], &shown["ConfigOnly"]), (&json!("null"), &json!(true)));
    let subnet =
        json!([{ "Subnet": "10.152.0.0/24", "IPRange": "10.152.0.128/25", "Gateway": "10.152.0.9" }]);
    assert_eq!((&shown["IPAM"]["Config"], &shown["Options"]), (&subnet, &options));
    create(app, json!({ "Name": &*made, "ConfigFrom": { "Network": &*config }, "Internal": true })).is(201);
    let shown = network(app, &made);
    assert_eq!((&shown["Driver"], &shown["ConfigFrom"]), (&json!("bridge"), &json!({ "Network": &*config })));
    assert_eq!((&shown["IPAM"]["Config"], &shown["Options"]), (&subnet, &options));
    assert_eq!((&shown["Labels"], &shown["Internal"]), (&json!({ "a": "b" }), &json!(true)));
    let name = sleeper(app, "on", &["--network", &made]);
    inside(app, &name, "cat /sys/class/net/eth0/mtu").prints("1400\n");
    assert!(address(app, &name, &made).starts_with("10.152.0.1"));
    let text = format!("error while removing network: configuration network \"{}\" is in use", &*config);
    app.api().delete(&format!("/networks/{}", &*config)).refuses(403, &text);
    let nobody = "cannot create endpoint on configuration-only network";
    let body = json!({ "Container": &*name });
    app.api().post_json(&format!("/networks/{}/connect", &*config), body).refuses(403, nobody);
    let stopped = app.name("stopped");
    app.docker(["create", "--name", &stopped, "--network", &config, &app.busybox()]).succeeds();
    let start = app.api().post(&format!("/containers/{}/start", &*stopped));
    start.refuses(403, &format!("failed to set up container networking: {nobody}"));
    app.docker(["rm", "-f", &name]).succeeds();
    app.docker(["network", "rm", &made]).succeeds();
    app.docker(["network", "rm", &config]).succeeds();
}

/// M31
#[test]
fn what_cannot_be_said_of_a_configuration_is_refused() {
    let app = appliance();
    let (config, made) = (Net::name(app, "config"), Net::name(app, "made"));
    create(app, json!({ "Name": &*config, "ConfigOnly": true })).is(201);
    assert_eq!(network(app, &config)["IPAM"]["Config"], Value::Null);
    let only = |more: Value| {
        let mut body = json!({ "Name": &*made, "ConfigOnly": true });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        create(app, body)
    };
    let operator = "configuration network can only contain network specific fields.";
    for more in [json!({ "Internal": true }), json!({ "Attachable": true }), json!({ "Scope": "swarm" })] {
        only(more).refuses(403, operator);
    }
    let text = "a configuration network cannot depend on another configuration network";
    only(json!({ "ConfigFrom": { "Network": &*config } })).refuses(403, text);
    let from = |network: &str, more: Value| {
        let mut body = json!({ "Name": &*made, "ConfigFrom": { "Network": network } });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        create(app, body)
    };
    from("nosuch", json!({})).refuses(404, "configuration network \"nosuch\" does not exist");
    from("bridge", json!({})).refuses(404, "configuration network \"bridge\" does not exist");
    let text =
        "user specified configurations are not supported if the network depends on a configuration network";
    from(&config, json!({ "Labels": { "x": "y" } })).refuses(403, text);
    from(&config, json!({ "EnableIPv6": true })).refuses(403, text);
    from(&config, json!({ "IPAM": { "Config": [{ "Subnet": "10.153.0.0/24" }] } })).refuses(403, text);
    let text = "network driver options are not supported if the network depends on a configuration network";
    from(&config, json!({ "Options": { "x": "y" } })).refuses(403, text);
}

/// M32
#[test]
fn a_place_has_addresses_of_the_link_alone() {
    let app = appliance();
    let net = Net::of(app, "link", &["--subnet", "10.154.0.0/24"]);
    let one = sleeper(app, "one", &["--network", &net, "--link-local-ip", "169.254.10.10"]);
    let two = sleeper(app, "two", &[]);
    app.docker(["network", "connect", "--link-local-ip", "169.254.10.11", &net, &two]).succeeds();
    inside(app, &one, "ip -o -4 addr show eth0").mentions("169.254.10.10/16").mentions("10.154.0.2/24");
    inside(app, &two, "ping -c 1 -W 3 169.254.10.10").succeeds();
    assert_eq!(place(app, &one, &net)["IPAMConfig"], json!({ "LinkLocalIPs": ["169.254.10.10"] }));
    assert_eq!(place(app, &one, &net)["IPAddress"], "10.154.0.2");
    inside(app, &one, "cat /etc/hosts").never_mentions("169.254").succeeds();
    app.docker(["restart", "-t", "0", &one]).succeeds();
    inside(app, &one, "ip -o -4 addr show eth0").mentions("169.254.10.10/16").succeeds();
    let asks = |addresses: Value| {
        let ipam = json!({ "IPAMConfig": { "LinkLocalIPs": addresses } });
        json!({ "Image": app.busybox(), "Cmd": ["sleep", "9"], "HostConfig": { "NetworkMode": &*net },
                "NetworkingConfig": { "EndpointsConfig": { &*net: ipam } } })
    };
    let made = app.name("wrong");
    let path = format!("/containers/create?name={}", &*made);
    let text = format!(
        "invalid config for network {}: invalid endpoint settings:\ninvalid link-local IP address: zzz",
        &*net
    );
    app.api().post_json(&path, asks(json!(["zzz"]))).refuses(400, &text);
    app.api().post_json(&path, asks(json!(["10.9.9.9"]))).is(201);
    let start = app.api().post(&format!("/containers/{}/start", &*made));
    start.refuses(400, "failed to set up container networking: invalid link local IP address: 10.9.9.9");
    if is_reference(app) || !has_ipv6(app) {
        return;
    }
    let six = Net::of(app, "six", &["--ipv6"]);
    let name = sleeper(app, "six", &["--network", &six, "--link-local-ip", "fe80::77"]);
    inside(app, &name, "ip -o -6 addr show eth0").mentions("fe80::77/64").succeeds();
}
