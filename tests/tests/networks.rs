//! Networks of the user's own: section M of the behaviours.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{appliance, is_reference};
use pinnace_tests::api::Client;
use pinnace_tests::{Appliance, ContainerName, Outcome, eventually};
use serde_json::{Value, json};

/// A network of one test alone; it is removed when the value goes out of scope.
struct Net {
    name: String,
    client: Client,
}

impl Net {
    fn of(app: &Appliance, stem: &str, options: &[&str]) -> Net {
        let net = Net::name(app, stem);
        let create = ["network", "create"].into_iter().chain(options.iter().copied());
        app.docker(create.chain([&*net.name])).succeeds();
        net
    }

    fn name(app: &Appliance, stem: &str) -> Net {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Net { name: format!("{stem}-{}-{number}", std::process::id()), client: app.api() }
    }
}

impl Deref for Net {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.client.delete(&format!("/networks/{}", self.name));
    }
}

/// A container that sleeps; `options` are those of `docker run`.
fn sleeper(app: &Appliance, stem: &str, options: &[&str]) -> ContainerName {
    let name = app.name(stem);
    let run = ["run", "--detach", "--name", &*name].into_iter().chain(options.iter().copied());
    app.docker(run.chain([&*app.busybox(), "sleep", "1000"])).succeeds();
    name
}

fn inside(app: &Appliance, name: &str, script: &str) -> Outcome {
    app.docker(["exec", name, "sh", "-c", script])
}

fn network(app: &Appliance, name: &str) -> Value {
    app.api().get(&format!("/networks/{name}")).is(200).json()
}

fn place(app: &Appliance, container: &str, network: &str) -> Value {
    app.inspect(container)["NetworkSettings"]["Networks"][network].clone()
}

fn address(app: &Appliance, container: &str, network: &str) -> String {
    place(app, container, network)["IPAddress"].as_str().unwrap_or_default().to_owned()
}

fn create(app: &Appliance, body: Value) -> pinnace_tests::api::Response {
    app.api().post_json("/networks/create", body)
}

/// M1
#[test]
fn three_networks_are_there_from_the_beginning() {
    let app = appliance();
    for (name, driver) in [("bridge", "bridge"), ("host", "host"), ("none", "null")] {
        let there = network(app, name);
        assert_eq!((&there["Driver"], &there["Scope"]), (&json!(driver), &json!("local")));
        assert_eq!(there["Id"].as_str().map(str::len), Some(64));
    }
    let bridge = network(app, "bridge");
    assert_eq!(bridge["IPAM"]["Config"][0]["Subnet"], "172.17.0.0/16");
    assert_eq!(bridge["Options"]["com.docker.network.bridge.name"], "docker0");
    assert_eq!(bridge["Options"]["com.docker.network.bridge.default_bridge"], "true");
}

/// M2, M5
#[test]
fn what_cannot_be_made_is_refused_in_dockers_words() {
    let app = appliance();
    let net = Net::name(app, "made");
    let made = create(app, json!({ "Name": &*net.name })).is(201).json();
    assert_eq!((made["Id"].as_str().map(str::len), &made["Warning"]), (Some(64), &json!("")));
    create(app, json!({ "Name": &*net.name }))
        .refuses(409, &format!("network with name {} already exists", net.name));
    let predefined = "operation is not permitted on predefined bridge network ";
    create(app, json!({ "Name": "bridge" })).refuses(403, predefined);
    create(app, json!({ "Name": "" })).refuses(400, "invalid name: name is empty");
    create(app, json!({ "Name": "x1", "Driver": "nope" })).refuses(404, "plugin \"nope\" not found");
    create(app, json!({ "Name": "x1", "Driver": "host" }))
        .refuses(403, "only one instance of \"host\" network is allowed");
    create(app, json!({ "Name": "x1", "IPAM": { "Driver": "foo" } }))
        .refuses(404, "plugin \"foo\" not found");
    let with = |config: Value| create(app, json!({ "Name": "x1", "IPAM": { "Config": [config] } }));
    let faults = [
        (json!({ "Subnet": "10.0.0.1/24" }), "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"),
        (json!({ "Subnet": "zzz" }), "invalid subnet zzz: invalid CIDR block notation"),
        (
            json!({ "Subnet": "10.1.0.0/24", "Gateway": "10.2.0.1" }),
            "invalid gateway 10.2.0.1: parent subnet 10.1.0.0/24 doesn't contain this address",
        ),
        (
            json!({ "Subnet": "10.1.0.0/24", "IPRange": "10.2.0.0/25" }),
            "invalid ip-range 10.2.0.0/25: parent subnet 10.1.0.0/24 doesn't contain ip-range",
        ),
        (
            json!({ "Subnet": "10.1.0.0/24", "AuxiliaryAddresses": { "a": "10.9.0.1" } }),
            "invalid auxiliary address a: parent subnet 10.1.0.0/24 doesn't contain this address",
        ),
    ];
    for (config, text) in faults {
        with(config).refuses(400, &format!("invalid network config:\n{text}"));
    }
    with(json!({ "Subnet": "172.17.3.0/24" }))
        .refuses(403, "invalid pool request: Pool overlaps with other one on this address space");
}

/// M3, M6
#[test]
fn a_network_is_shown_as_it_was_asked_for_and_found_by_name_and_id() {
    let app = appliance();
    let net = Net::name(app, "shown");
    let body = json!({
        "Name": &*net.name, "Internal": true, "Attachable": true, "Labels": { "a": "b" }, "Options": { "foo": "bar" },
        "IPAM": { "Config": [{
            "Subnet": "10.71.0.0/16", "IPRange": "10.71.5.0/24", "Gateway": "10.71.5.254",
            "AuxiliaryAddresses": { "r": "10.71.5.1" },
        }] },
    });
    let id = create(app, body).is(201).json()["Id"].as_str().expect("an id").to_owned();
    let mut shown = network(app, &net);
    assert_eq!(network(app, &id), shown);
    assert_eq!(network(app, &id[..20]), shown);
    let created = shown["Created"].take();
    assert!(created.as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')), "{created}");
    if let Some(all) = shown.as_object_mut() {
        all.remove("Status");
    }
    let expected = json!({
        "Name": &*net.name, "Id": id, "Created": null, "Scope": "local", "Driver": "bridge", "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": null, "Config": [{
            "Subnet": "10.71.0.0/16", "IPRange": "10.71.5.0/24", "Gateway": "10.71.5.254",
            "AuxiliaryAddresses": { "r": "10.71.5.1" },
        }] },
        "Internal": true, "Attachable": true, "Ingress": false, "ConfigFrom": { "Network": "" }, "ConfigOnly": false,
        "Containers": {}, "Options": { "foo": "bar" }, "Labels": { "a": "b" },
    });
    assert_eq!(shown, expected);
    app.api().get("/networks/nosuch").refuses(404, "network nosuch not found");
}

/// M4
#[test]
fn a_network_in_use_stays_and_one_that_nobody_uses_goes_with_its_bridge() {
    let app = appliance();
    let net = Net::of(app, "used", &["--subnet", "10.72.0.0/24"]);
    let bridge = format!("br-{}", &network(app, &net)["Id"].as_str().expect("an id")[..12]);
    let links = || app.docker(["run", "--rm", "--network", "host", &app.busybox(), "ls", "/sys/class/net"]);
    links().mentions(&bridge).succeeds();
    let name = sleeper(app, "user", &["--network", &net]);
    let refused = app.api().delete(&format!("/networks/{}", &*net));
    let place = place(app, &name, &net);
    let short = &place["EndpointID"].as_str().expect("an id")[..12];
    let text = format!(
        "error while removing network: network {} has active endpoints (name:\"{}\" id:\"{short}\")",
        &*net, &*name
    );
    refused.refuses(403, &text);
    app.api()
        .delete("/networks/bridge")
        .refuses(403, "bridge is a pre-defined network and cannot be removed");
    app.docker(["kill", &name]).succeeds();
    app.docker(["network", "rm", &net]).succeeds();
    links().never_mentions(&bridge).succeeds();
    app.api()
        .post(&format!("/containers/{}/start", &*name))
        .refuses(404, "failed to set up container networking: network ");
}

/// M5
#[test]
fn networks_get_subnets_that_are_free_and_containers_addresses_in_range() {
    let app = appliance();
    let nets = [Net::of(app, "auto", &[]), Net::of(app, "auto", &[])];
    let subnets = nets.each_ref().map(|net| network(app, net)["IPAM"]["Config"][0]["Subnet"].clone());
    assert!(subnets[0] != subnets[1] && subnets[0] != json!("172.17.0.0/16"), "{subnets:?}");
    let options = ["--subnet", "10.73.0.0/16", "--ip-range", "10.73.9.0/24", "--aux-address", "r=10.73.9.1"];
    let net = Net::of(app, "range", &options);
    let name = sleeper(app, "ranged", &["--network", &net]);
    assert!(address(app, &name, &net).starts_with("10.73.9."));
    // Chosen by the engine beside a subnet of the user's, a gateway is not shown.
    assert_eq!(network(app, &net)["IPAM"]["Config"][0]["Gateway"], Value::Null);
    inside(app, &name, "ip route").mentions("default via 10.73.9.0").succeeds();
}

/// M7
#[test]
fn lists_are_filtered() {
    let app = appliance();
    let net = Net::of(app, "filtered", &["--label", "colour=blue"]);
    let list = |filter: &str| {
        let args = ["network", "ls", "--format", "{{.Name}}", "--filter", filter];
        app.docker(args).succeeds().lines()
    };
    let id = network(app, &net)["Id"].as_str().expect("an id").to_owned();
    let by_name = format!("name={}", &net[2..]);
    let by_id = format!("id={}", &id[..16]);
    for filter in [
        "driver=bridge",
        "label=colour=blue",
        "label=colour",
        "type=custom",
        "dangling=true",
        &by_name,
        &by_id,
    ] {
        assert!(list(filter).contains(&net.name), "{filter}");
    }
    for filter in
        ["driver=null", "label=colour=red", "type=builtin", "dangling=false", "name=nosuch", "scope=swarm"]
    {
        assert!(!list(filter).contains(&net.name), "{filter}");
    }
    let mut builtin = list("type=builtin");
    builtin.sort();
    assert_eq!(builtin, ["bridge", "host", "none"]);
    app.api().get("/networks/").is(200);
    let nothing = app.api().get("/networks?filters=%7B%22name%22:%5B%22nosuch%22%5D%7D").is(200);
    assert_eq!(nothing.json(), json!([]));
    app.api().get("/networks?filters=%7B%22x%22:%5B%22a%22%5D%7D").refuses(400, "invalid filter 'x'");
}

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

/// M11, M12
#[test]
fn names_are_answered() {
    let app = appliance();
    let net = Net::of(app, "names", &["--subnet", "10.77.0.0/24"]);
    let other = Net::of(app, "others", &["--subnet", "10.78.0.0/24"]);
    let web = sleeper(app, "web", &["--network", &net, "--network-alias", "service", "--hostname", "hh"]);
    let twin = sleeper(app, "twin", &["--network", &net, "--network-alias", "service"]);
    let asker = sleeper(app, "asker", &["--network", &net]);
    let stranger = sleeper(app, "stranger", &["--network", &other]);
    let id = app.inspect(&web)["Id"].as_str().expect("an id").to_owned();
    let known = json!([&*web, "service", &id[..12], "hh"]);
    assert_eq!(place(app, &web, &net)["DNSNames"], known);
    let (of_web, of_twin) = (address(app, &web, &net), address(app, &twin, &net));
    let ask = |who: &str, name: &str| inside(app, who, &format!("nslookup {name}"));
    for name in [&*web, &id[..12], "hh", "HH", &format!("{}.{}", &*web, &*net)] {
        ask(&asker, name).mentions(&of_web).succeeds();
    }
    ask(&asker, "service").mentions(&of_web).mentions(&of_twin).succeeds();
    ask(&asker, &of_web).mentions(&format!("name = {}.{}", &*web, &*net)).succeeds();
    // Over TCP, and by programs that ask the C library.
    inside(app, &asker, &format!("ping -c 1 -W 2 {}", &*web)).mentions(&of_web).succeeds();
    ask(&stranger, &web).never_mentions(&of_web);
    inside(app, &asker, "cat /etc/resolv.conf")
        .mentions("nameserver 127.0.0.11")
        .mentions("ndots:0")
        .succeeds();
    app.docker(["stop", "-t", "0", &twin]).succeeds();
    ask(&asker, "service").mentions(&of_web).never_mentions(&of_twin).succeeds();
    let renamed = app.name("renamed");
    app.docker(["rename", &web, &renamed]).succeeds();
    ask(&asker, &renamed).mentions(&of_web).succeeds();
    app.docker(["rename", &renamed, &web]).succeeds();
}

/// M11
#[test]
fn a_container_can_serve_names_itself() {
    let app = appliance();
    let net = Net::of(app, "own", &[]);
    let name = sleeper(app, "server", &["--network", &net]);
    // Nothing of the engine's is at port 53 itself.
    inside(app, &name, "cat /proc/net/udp /proc/net/tcp | grep -c ':0035 '").prints("0\n");
    inside(app, &name, "nc -l -p 53 & sleep 0.5; netstat -lnt; kill %1").mentions(":53 ");
    inside(app, &name, "nslookup $(hostname)").mentions(&address(app, &name, &net)).succeeds();
}

/// M13, M19
#[test]
fn an_internal_network_leads_nowhere() {
    let app = appliance();
    let net = Net::of(app, "internal", &["--internal"]);
    let (one, two) = (sleeper(app, "one", &["--network", &net]), sleeper(app, "two", &["--network", &net]));
    inside(app, &one, "ip route").never_mentions("default").succeeds();
    inside(app, &one, &format!("ping -c 1 -W 2 {}", &*two)).succeeds();
    inside(app, &one, "nslookup example.com").mentions("SERVFAIL").fails();
    let outside = sleeper(app, "outside", &[]);
    inside(app, &one, &format!("ping -c 1 -W 1 {}", address(app, &outside, "bridge"))).fails();
}

/// M14
#[test]
fn resolv_conf_is_the_containers_once_it_changed_it() {
    let app = appliance();
    let net = Net::of(app, "resolv", &[]);
    let options = ["--network", &net, "--dns-search", "a.test", "--dns-option", "ndots:3"];
    let name = sleeper(app, "edits", &options);
    let text = inside(app, &name, "grep -v '^#' /etc/resolv.conf").succeeds();
    text.mentions("nameserver 127.0.0.11").mentions("search a.test").mentions("options ndots:3");
    // A container of the default bridge that comes to names asks for them from then on.
    let (follows, edits) = (sleeper(app, "follows", &[]), sleeper(app, "edits", &[]));
    inside(app, &edits, "echo 'nameserver 9.9.9.9' > /etc/resolv.conf").succeeds();
    for name in [&follows, &edits] {
        app.docker(["network", "connect", &net, name]).succeeds();
    }
    inside(app, &follows, "cat /etc/resolv.conf").mentions("nameserver 127.0.0.11").succeeds();
    inside(app, &follows, &format!("nslookup {}", &*edits)).mentions(&address(app, &edits, &net)).succeeds();
    inside(app, &edits, "cat /etc/resolv.conf").prints("nameserver 9.9.9.9\n").succeeds();
    app.docker(["restart", "-t", "0", &edits]).succeeds();
    inside(app, &edits, "cat /etc/resolv.conf").mentions("nameserver 127.0.0.11").succeeds();
}

/// M16
#[test]
fn links_stand_in_the_hosts_file() {
    let app = appliance();
    let target = sleeper(app, "target", &["--hostname", "th"]);
    let link = format!("{}:db", &*target);
    let name = sleeper(app, "linked", &["--link", &link]);
    let line = format!("{}\tdb th {}", address(app, &target, "bridge"), &*target);
    inside(app, &name, "cat /etc/hosts").mentions(&line).succeeds();
    let shown = json!([format!("/{}:/{}/db", &*target, &*name)]);
    assert_eq!(app.inspect(&name)["HostConfig"]["Links"], shown);
    let body = json!({ "Image": app.busybox(), "HostConfig": { "Links": ["missing:db"] } });
    app.api()
        .post_json("/containers/create", body)
        .refuses(400, "could not get container for missing: No such container: missing");
    let net = Net::of(app, "links", &[]);
    let (far, asker) = (sleeper(app, "far", &["--network", &net]), app.name("asker"));
    let link = format!("{}:near", &*far);
    let args = [
        "run",
        "--rm",
        "--name",
        &asker,
        "--network",
        &net,
        "--link",
        &link,
        &app.busybox(),
        "sh",
        "-c",
        "nslookup near",
    ];
    app.docker(args).mentions(&address(app, &far, &net)).succeeds();
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

/// M21
#[test]
fn a_network_has_ipv6_where_it_is_asked_for() {
    let app = appliance();
    if app.docker(["run", "--rm", &app.busybox(), "ls", "/proc/sys/net/ipv6"]).code != 0 {
        pinnace_tests::skip!("this machine's kernel has no IPv6");
    }
    let private = Net::of(app, "private", &["--ipv6"]);
    let shown = network(app, &private);
    let pools = shown["IPAM"]["Config"].as_array().expect("pools").clone();
    assert_eq!((&shown["EnableIPv6"], pools.len()), (&json!(true), 2));
    let subnet = pools[1]["Subnet"].as_str().expect("a subnet");
    assert!(subnet.starts_with("fd") && subnet.ends_with("::/64"), "{subnet}");
    let options = ["--ipv6", "--subnet", "10.83.0.0/24", "--subnet", "fd00:83::/64"];
    let net = Net::of(app, "six", &options);
    let one = sleeper(app, "one", &["--network", &net, "--ip6", "fd00:83::77"]);
    let two = sleeper(app, "two", &["--network", &net]);
    let there = place(app, &one, &net);
    let six = |field: &str| there[field].clone();
    assert_eq!((six("GlobalIPv6Address"), six("GlobalIPv6PrefixLen")), (json!("fd00:83::77"), json!(64)));
    assert_eq!(six("IPv6Gateway"), "fd00:83::1");
    let id = app.inspect(&one)["Id"].as_str().expect("an id").to_owned();
    assert_eq!(network(app, &net)["Containers"][&id]["IPv6Address"], "fd00:83::77/64");
    inside(app, &two, "ip -6 route").mentions("default via fd00:83::1 dev eth0").succeeds();
    inside(app, &two, "ping6 -c 1 -W 3 fd00:83::77").succeeds();
    inside(app, &two, "ping6 -c 1 -W 3 fd00:83::1").succeeds();
    inside(app, &two, &format!("nslookup {}", &*one))
        .mentions("fd00:83::77")
        .mentions(&address(app, &one, &net));
    inside(app, &two, "nslookup fd00:83::77").mentions(&format!("name = {}.{}", &*one, &*net)).succeeds();
    inside(app, &one, "cat /etc/hosts").mentions("fd00:83::77\t").succeeds();
    let usual = sleeper(app, "usual", &[]);
    app.docker(["network", "connect", &net, &usual]).succeeds();
    inside(app, &usual, "ping6 -c 1 -W 3 fd00:83::77").succeeds();
    // Other networks are as far away as by IPv4.
    let far = sleeper(app, "far", &["--network", &private]);
    let of_far = place(app, &far, &private)["GlobalIPv6Address"].as_str().expect("one").to_owned();
    inside(app, &two, &format!("ping6 -c 1 -W 1 {of_far}")).fails();
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

/// M23
#[test]
fn options_of_the_driver_are_honoured() {
    let app = appliance();
    let mtu = ["--opt", "com.docker.network.driver.mtu=1400"];
    let prefix = ["--opt", "com.docker.network.container_iface_prefix=foo"];
    let net = Net::of(app, "options", &[mtu, prefix].concat());
    let script = "cat /sys/class/net/foo0/mtu";
    app.docker(["run", "--rm", "--network", &net, &app.busybox(), "sh", "-c", script])
        .prints("1400\n")
        .succeeds();
    let apart = Net::of(app, "apart", &["--opt", "com.docker.network.bridge.enable_icc=false"]);
    let (one, two) =
        (sleeper(app, "one", &["--network", &apart]), sleeper(app, "two", &["--network", &apart]));
    inside(app, &one, &format!("ping -c 1 -W 1 {}", address(app, &two, &apart))).fails();
    let gateway = network(app, &apart)["IPAM"]["Config"][0]["Gateway"].as_str().expect("one").to_owned();
    inside(app, &one, &format!("ping -c 1 -W 2 {gateway}")).succeeds();
    let options = |key: &str, value: &str| create(app, json!({ "Name": "x2", "Options": { key: value } }));
    options("com.docker.network.driver.mtu", "abc").refuses(400, "strconv.Atoi: parsing");
    options("com.docker.network.bridge.enable_icc", "abc").refuses(400, "strconv.ParseBool: parsing");
    options("com.docker.network.bridge.gateway_mode_ipv4", "abc").refuses(400, "unknown gateway mode abc");
    options("com.docker.network.bridge.gateway_mode_ipv4", "isolated")
        .refuses(500, "gateway mode 'isolated' can only be used for an internal network");
    let isolated = ["--internal", "--opt", "com.docker.network.bridge.gateway_mode_ipv4=isolated"];
    let isolated = Net::of(app, "isolated", &[&isolated[..], &["--subnet", "10.84.0.0/24"]].concat());
    let first = sleeper(app, "first", &["--network", &isolated]);
    assert_eq!(address(app, &first, &isolated), "10.84.0.1");
    let links = app.docker(["run", "--rm", "--network", "host", &app.busybox(), "sh", "-c", "ip -4 -o addr"]);
    links.never_mentions("10.84.0").succeeds();
    options("com.docker.network.bridge.name", "docker0").refuses(403, "networks have same bridge name");
}

/// M24
#[test]
fn networks_do_not_reach_each_other() {
    let app = appliance();
    let (a, b) = (Net::of(app, "a", &[]), Net::of(app, "b", &[]));
    let one = sleeper(app, "one", &["--network", &a]);
    let (same, other) = (sleeper(app, "same", &["--network", &a]), sleeper(app, "other", &["--network", &b]));
    let usual = sleeper(app, "usual", &[]);
    inside(app, &one, &format!("ping -c 1 -W 2 {}", address(app, &same, &a))).succeeds();
    inside(app, &one, &format!("ping -c 1 -W 1 {}", address(app, &other, &b))).fails();
    inside(app, &one, &format!("ping -c 1 -W 1 {}", address(app, &usual, "bridge"))).fails();
    inside(app, &usual, &format!("ping -c 1 -W 1 {}", address(app, &one, &a))).fails();
}

/// M25
#[test]
fn pruning_takes_what_nobody_uses() {
    let app = appliance();
    let (idle, used) =
        (Net::of(app, "idle", &["--label", "prune=me"]), Net::of(app, "used", &["--label", "prune=me"]));
    let _user = sleeper(app, "user", &["--network", &used]);
    let prune = |filters: Value| {
        let encoded: String = filters.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
        app.api().post(&format!("/networks/prune?filters={encoded}")).is(200).json()
    };
    assert_eq!(prune(json!({ "label": ["prune=you"] })), json!({ "NetworksDeleted": null }));
    let old = json!({ "label": ["prune=me"], "until": ["24h"] });
    assert_eq!(prune(old), json!({ "NetworksDeleted": null }));
    assert_eq!(prune(json!({ "label": ["prune=me"] })), json!({ "NetworksDeleted": [&*idle.name] }));
}

/// C9
#[test]
fn what_happens_to_a_network_is_told() {
    let app = appliance();
    let net = Net::name(app, "told");
    let filters = "%7B%22type%22%3A%5B%22network%22%5D%7D";
    let mut stream = app.api().stream("GET", &format!("/events?filters={filters}"));
    app.docker(["network", "create", &net]).succeeds();
    app.docker(["run", "--rm", "--network", &net, &app.busybox(), "true"]).succeeds();
    app.docker(["network", "rm", &net]).succeeds();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|action| action != "destroy") {
        let Some(event) = stream.next_json() else { break };
        if event["Actor"]["Attributes"]["name"] == *net.name {
            assert_eq!(event["Actor"]["Attributes"]["type"], "bridge");
            seen.push(event["Action"].as_str().unwrap_or_default().to_owned());
        }
    }
    assert_eq!(seen, ["create", "connect", "disconnect", "destroy"]);
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

/// Nothing of a network and its containers outlives them.
#[test]
fn nothing_is_left_behind() {
    let app = appliance();
    if is_reference(app) {
        return;
    }
    let net = Net::of(app, "left", &[]);
    for _ in 0..3 {
        app.docker(["run", "--rm", "--network", &net, &app.busybox(), "true"]).succeeds();
        // One whose program is not there, and one that comes to the second of its networks only.
        app.docker(["run", "--rm", "--network", &net, &app.busybox(), "/nosuch"]).exits(127);
        app.docker(["run", "--rm", "--network", &net, "--network", "nosuch", &app.busybox(), "true"])
            .fails()
            .says_on_stderr("network nosuch not found");
    }
    assert_eq!(network(app, &net)["Containers"], json!({}));
    let bridge = format!("br-{}", &network(app, &net)["Id"].as_str().expect("an id")[..12]);
    let ports = || {
        let path = format!("/sys/class/net/{bridge}/brif");
        app.docker(["run", "--rm", "--network", "host", &app.busybox(), "ls", &path]).succeeds().lines().len()
    };
    eventually("the cables are gone", app.patience(), || (ports() == 0).then_some(()));
}

/// M13: whoever asks without end is answered, and so are all others.
#[test]
fn a_flood_of_questions_holds_up_nobody() {
    let app = appliance();
    let net = Net::of(app, "flood", &[]);
    let (hostile, other) =
        (sleeper(app, "hostile", &["--network", &net]), sleeper(app, "other", &["--network", &net]));
    // What is no question at all, and questions for outside, as fast as it can.
    let garbage = "syslogd -n -R 127.0.0.11:53 & yes flood | logger";
    let questions =
        "while :; do nslookup nosuch.invalid >/dev/null 2>&1 & nslookup hostile >/dev/null 2>&1; done";
    app.docker(["exec", "-d", &hostile, "sh", "-c", garbage]).succeeds();
    app.docker(["exec", "-d", &hostile, "sh", "-c", questions]).succeeds();
    for _ in 0..10 {
        app.api().get("/_ping").is(200);
        inside(app, &other, "nslookup $(hostname)").mentions(&address(app, &other, &net)).succeeds();
    }
    app.docker(["rm", "-f", &hostile]).succeeds();
    inside(app, &other, "nslookup $(hostname)").succeeds();
}

/// What PID 1 holds outlives the engine: places, names, and what comes later.
#[test]
fn the_engines_death_changes_nothing() {
    let Some((app, _turn)) = crate::engine_death::mortal() else { return };
    if let Err(reason) = app.can_kill_engine() {
        pinnace_tests::skip!("{reason}");
    }
    let net = Net::of(app, "mortal", &["--subnet", "10.81.0.0/24"]);
    let later = Net::of(app, "later", &[]);
    let web = sleeper(app, "web", &["--network", &net, "--network-alias", "service"]);
    let asker = sleeper(app, "asker", &["--network", &net]);
    app.docker(["network", "connect", &later, &asker]).succeeds();
    let before = [&web, &asker].map(|name| app.inspect(name)["NetworkSettings"].clone());
    let shown = network(app, &net);
    app.kill_engine();
    assert_eq!([&web, &asker].map(|name| app.inspect(name)["NetworkSettings"].clone()), before);
    assert_eq!(network(app, &net), shown);
    inside(app, &asker, "nslookup service").mentions(&address(app, &web, &net)).succeeds();
    inside(app, &asker, &format!("ping -c 1 -W 2 {}", &*web)).succeeds();
    app.docker(["network", "disconnect", &net, &asker]).succeeds();
    inside(app, &asker, "ls /sys/class/net").never_mentions("eth0").mentions("eth1").succeeds();
    let third = sleeper(app, "third", &["--network", &net]);
    inside(app, &third, &format!("ping -c 1 -W 2 {}", &*web)).succeeds();
    assert!(address(app, &third, &net) != address(app, &web, &net));
    app.docker(["rm", "-f", &web, &third]).succeeds();
    app.docker(["network", "rm", &net]).succeeds();
}

/// While the engine is away questions wait in their socket.
#[test]
fn a_question_waits_for_the_engine() {
    let Some((app, _turn)) = crate::engine_death::mortal() else { return };
    if let Err(reason) = app.can_kill_engine() {
        pinnace_tests::skip!("{reason}");
    }
    let net = Net::of(app, "waits", &[]);
    let asker = sleeper(app, "asker", &["--network", &net]);
    let script = "i=0; while [ $i -lt 40 ]; do nslookup $(hostname) >/dev/null || echo lost; i=$((i+1)); usleep 20000; done; \
                  echo done";
    app.docker(["exec", "-d", &asker, "sh", "-c", &format!("({script}) > /told 2>&1")]).succeeds();
    app.kill_engine();
    eventually("all was asked", app.patience(), || {
        inside(app, &asker, "cat /told").text().contains("done").then_some(())
    });
    inside(app, &asker, "cat /told").prints("done\n");
}

/// A machine that was off has its networks as they were, and containers that start with it have their addresses.
#[test]
fn a_boot_brings_networks_back() {
    use pinnace_tests::{Backend, build_folder};
    let backend = Backend::of_this_run();
    if backend == Backend::Reference {
        return;
    }
    let dir = build_folder(&format!("test/{}-networks", backend.word()));
    let app = Appliance::boot(backend, &dir);
    let net = std::mem::ManuallyDrop::new(Net::of(&app, "booted", &["--subnet", "10.82.0.0/24"]));
    let name = std::mem::ManuallyDrop::new(app.name("booted"));
    let options = ["--restart", "always", "--network", &net, "--ip", "10.82.0.77", "--name", &name];
    app.docker(["run", "-d"].into_iter().chain(options).chain([&*app.busybox(), "sleep", "1000"])).succeeds();
    let before = network(&app, &net);
    app.pinnace("down").run().succeeds();
    let app = Appliance::boot(backend, &dir);
    eventually("the container runs again", app.patience(), || {
        (app.inspect(&name)["State"]["Running"] == true).then_some(())
    });
    assert_eq!(address(&app, &name, &net), "10.82.0.77");
    let mut after = network(&app, &net);
    assert_eq!(after["Containers"].as_object().map(|all| all.len()), Some(1));
    let (before, after) = (without_containers(before), without_containers(after.take()));
    assert_eq!(before, after);
    inside(&app, &name, "ip route").mentions("default via 10.82.0.1").succeeds();
    app.docker(["rm", "-f", &name]).succeeds();
    app.docker(["network", "rm", &net]).succeeds();
}

fn without_containers(mut network: Value) -> Value {
    if let Some(all) = network.as_object_mut() {
        all.remove("Containers");
        all.remove("Status");
    }
    network
}
