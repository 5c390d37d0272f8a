//! Networks of the user's own: section M of the behaviours.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{appliance, is_reference};
use pinnace_tests::api::Client;
use pinnace_tests::{Appliance, ContainerName, Outcome, eventually};
use serde_json::{Value, json};

/// A network of one test alone; it is removed when the value goes out of scope.
pub struct Net {
    name: String,
    client: Client,
}

impl Net {
    pub fn of(app: &Appliance, stem: &str, options: &[&str]) -> Net {
        let net = Net::name(app, stem);
        let create = ["network", "create"].into_iter().chain(options.iter().copied());
        app.docker(create.chain([&*net.name])).succeeds();
        net
    }

    pub fn name(app: &Appliance, stem: &str) -> Net {
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
pub fn sleeper(app: &Appliance, stem: &str, options: &[&str]) -> ContainerName {
    let name = app.name(stem);
    let run = ["run", "--detach", "--name", &*name].into_iter().chain(options.iter().copied());
    app.docker(run.chain([&*app.busybox(), "sleep", "1000"])).succeeds();
    name
}

pub fn inside(app: &Appliance, name: &str, script: &str) -> Outcome {
    app.docker(["exec", name, "sh", "-c", script])
}

pub fn network(app: &Appliance, name: &str) -> Value {
    app.api().get(&format!("/networks/{name}")).is(200).json()
}

pub fn place(app: &Appliance, container: &str, network: &str) -> Value {
    app.inspect(container)["NetworkSettings"]["Networks"][network].clone()
}

pub fn address(app: &Appliance, container: &str, network: &str) -> String {
    place(app, container, network)["IPAddress"].as_str().unwrap_or_default().to_owned()
}

pub fn create(app: &Appliance, body: Value) -> pinnace_tests::api::Response {
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
