//! As root, in network namespaces of the test's own: what the kernel makes of it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;

use super::link::{self, LinkHeader};
use super::message::Batch;
use super::*;
use crate::ids::IdMap;

/// Runs `test` in a thread that plays the machine: a network namespace of its own.
fn on_a_machine(test: impl FnOnce(&Machine) + Send) {
    if !rustix::process::geteuid().is_root() {
        skip::skip!("needs root");
    }
    std::thread::scope(|scope| {
        let run = || {
            let sandbox = sandbox::create_here(None).unwrap();
            test(&Machine { route: Route::open().unwrap(), sandbox });
        };
        scope.spawn(run).join().unwrap();
    });
}

struct Machine {
    route: Route,
    sandbox: Sandbox,
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// Runs `work` in a thread that is in this sandbox.
fn inside<T: Send>(sandbox: &Sandbox, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            sandbox::enter(sandbox.netns()).unwrap();
            work()
        };
        scope.spawn(run).join().unwrap()
    })
}

/// What a command says. It runs in the calling thread's network namespace.
fn said(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// An error where there is no such program.
fn ping(address: &str) -> std::io::Result<String> {
    let out = Command::new("busybox").args(["ping", "-c1", "-W1", address]).output()?;
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

impl Machine {
    fn bridge(&self, name: &str, gateway: &str) -> Bridge {
        Bridge::ensure(&self.route, name, Some(net(gateway)), 1500).unwrap()
    }

    fn container(&self, bridge: &Bridge, address: &str, gateway: &str) -> Sandbox {
        let sandbox = Sandbox::create(None).unwrap();
        let mut cable = Cable::plug(&self.route, bridge, &sandbox).unwrap();
        cable.inner.configure(&sandbox, &endpoint(address, gateway)).unwrap();
        sandbox
    }

    /// A second machine outside, 192.0.2.2, on a cable from this one's 192.0.2.1, without any route back.
    fn outside(&self) -> Sandbox {
        let outside = Sandbox::create(None).unwrap();
        let bridge = Bridge { name: "wire".into(), index: 0, mtu: 1500 };
        // A cable that is plugged into no bridge: a plain interface of the machine.
        let mut cable = Cable::plug(&self.route, &bridge, &outside).unwrap();
        let mut batch = Batch::default();
        bridge::add_address(&mut batch, cable.index, net("192.0.2.1/24"));
        self.route.tell(&mut batch).unwrap();
        let there = Endpoint { exit: None, ..endpoint("192.0.2.2/24", "192.0.2.1") };
        cable.inner.configure(&outside, &there).unwrap();
        outside
    }
}

fn endpoint(address: &str, gateway: &str) -> Endpoint {
    let address = net(address);
    Endpoint {
        interface: "eth0".into(),
        address: Some(address),
        mac: Some(Mac::of_address(address.addr())),
        mtu: Some(1500),
        exit: Some(Exit::Via(ip(gateway))),
        ipv6: None,
        exit_6: None,
        link_local: vec![],
    }
}

fn docker0(subnet: &str) -> Subnet {
    Subnet {
        bridge: "docker0".into(),
        addresses: Some(net(subnet)),
        ipv6: None,
        connected: true,
        internal: false,
        hidden: true,
        hidden_6: false,
        open: false,
    }
}

/// A service that tells each caller its address, on `address`.
fn listen(sandbox: &Sandbox, address: &str) {
    let listener = inside(sandbox, || TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_string();
            stream.write_all(peer.as_bytes()).unwrap();
        }
    });
}

/// As whom `sandbox` is seen by the service at `address`; `None` where there is no way.
fn seen_as(sandbox: &Sandbox, address: &str) -> Option<String> {
    inside(sandbox, || call(address))
}

fn call(address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(700)).ok()?;
    let mut seen = String::new();
    stream.read_to_string(&mut seen).ok()?;
    Some(seen)
}

#[test]
fn a_bridge_is_made_once_and_removed() {
    on_a_machine(|machine| {
        let first = machine.bridge("docker0", "172.17.0.1/16");
        assert_eq!(machine.bridge("docker0", "172.17.0.1/16"), first);
        assert_eq!(Bridge::find(&machine.route, "docker0").unwrap().as_ref(), Some(&first));
        let shown = said("ip", &["-4", "addr", "show", "dev", "docker0"]);
        assert!(shown.contains("inet 172.17.0.1/16 brd 172.17.255.255"), "{shown}");
        assert!(shown.contains(",UP"), "{shown}");
        machine.bridge("br-old", "172.18.0.1/16");
        assert_eq!(remove_stale(&machine.route, &["docker0"]).unwrap(), ["br-old"]);
        first.clone().remove(&machine.route).unwrap();
        first.remove(&machine.route).unwrap();
        assert_eq!(Bridge::find(&machine.route, "docker0").unwrap(), None);
        let error = Bridge::ensure(&machine.route, "lo", Some(net("172.17.0.1/16")), 1500).unwrap_err();
        assert!(error.to_string().contains("lo is an interface of another kind"), "{error}");
        let error =
            Bridge::ensure(&machine.route, "a name too long", Some(net("10.0.0.1/8")), 1500).unwrap_err();
        assert!(error.to_string().starts_with("invalid interface name"), "{error}");
    });
}

#[test]
fn a_sandbox_has_what_a_container_expects() {
    on_a_machine(|machine| {
        let bridge = machine.bridge("docker0", "172.17.0.1/16");
        let sandbox = Sandbox::create(None).unwrap();
        let mut cable = Cable::plug(&machine.route, &bridge, &sandbox).unwrap();
        cable.inner.configure(&sandbox, &endpoint("172.17.0.2/16", "172.17.0.1")).unwrap();
        let (links, routes, settings) = inside(&sandbox, || {
            let setting = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap();
            (
                said("ip", &["-o", "addr"]),
                said("ip", &["route"]),
                [setting("ipv4/ping_group_range"), setting("ipv4/ip_unprivileged_port_start")],
            )
        });
        for expected in ["inet 127.0.0.1/8", "inet 172.17.0.2/16 brd 172.17.255.255"] {
            assert!(links.contains(expected), "{links}");
        }
        assert!(!links.contains("inet6 fe80"), "{links}");
        assert!(routes.contains("default via 172.17.0.1 dev eth0"), "{routes}");
        assert_eq!(settings.map(|s| s.trim().replace('\t', " ")), ["0 2147483647", "0"]);
        let outer = said("ip", &["-o", "addr", "show", "dev", &cable.name]);
        assert!(!outer.contains("inet6"), "{outer}");
        // A second network of the same container.
        let second = machine.bridge("br-2", "172.18.0.1/16");
        let mut more = Cable::plug(&machine.route, &second, &sandbox).unwrap();
        let there =
            Endpoint { interface: "eth1".into(), exit: None, ..endpoint("172.18.0.2/16", "172.18.0.1") };
        more.inner.configure(&sandbox, &there).unwrap();
        let again = Cable::find(&machine.route, &sandbox, &more.name, "eth1").unwrap();
        assert_eq!(again.as_ref(), Some(&more));
        more.clone().unplug(&machine.route).unwrap();
        more.unplug(&machine.route).unwrap();
        let links = inside(&sandbox, || said("ip", &["-o", "link"]));
        assert!(links.contains("eth0") && !links.contains("eth1"), "{links}");
    });
}

#[test]
fn a_loose_sandbox_joins_a_bridge_and_asks_for_names_at_port_53() {
    on_a_machine(|machine| {
        let (first, second) =
            (machine.bridge("br-1", "172.18.0.1/16"), machine.bridge("br-2", "172.19.0.1/16"));
        let Loose { sandbox, mut cable, names } =
            Stock::loose(1500, 1, IdMap::default()).unwrap().take().unwrap();
        cable.join(&machine.route, &first, false).unwrap();
        cable.inner.configure(&sandbox, &endpoint("172.18.0.2/16", "172.18.0.1")).unwrap();
        let mut more = Cable::plug(&machine.route, &Bridge::none(1500), &sandbox).unwrap();
        more.join(&machine.route, &second, true).unwrap();
        let there =
            Endpoint { interface: "eth1".into(), exit: None, ..endpoint("172.19.0.2/16", "172.19.0.1") };
        more.inner.configure(&sandbox, &there).unwrap();
        turn_default_route(&sandbox, "eth1", Exit::Via(ip("172.19.0.1"))).unwrap();
        let routes = inside(&sandbox, || said("ip", &["route", "show", "default"]));
        assert_eq!(routes.trim(), "default via 172.19.0.1 dev eth1");
        // Both sockets hear what goes to port 53, which itself is free.
        let (udp, tcp) = (std::net::UdpSocket::from(names.udp), TcpListener::from(names.tcp));
        udp.set_nonblocking(false).unwrap();
        udp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut heard = [0; 8];
        let answer = inside(&sandbox, || {
            let _own = TcpListener::bind("0.0.0.0:53").unwrap();
            let own = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            own.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            own.connect((NAME_SERVER, 53)).unwrap();
            own.send(b"who").unwrap();
            let (length, from) = udp.recv_from(&mut heard).unwrap();
            udp.send_to(&heard[..length], from).unwrap();
            let mut answer = [0; 8];
            let length = own.recv(&mut answer).unwrap();
            let _stream = TcpStream::connect((NAME_SERVER, 53)).unwrap();
            answer[..length].to_vec()
        });
        assert_eq!(answer, b"who");
        tcp.set_nonblocking(false).unwrap();
        assert!(tcp.accept().is_ok());
        Cable::unplug_named(&machine.route, &more.name).unwrap();
        Interface::remove(&sandbox, "eth0").unwrap();
        assert!(!inside(&sandbox, || said("ip", &["-o", "link"])).contains("eth"));
    });
}

#[test]
fn nothing_is_left_of_a_sandbox() {
    on_a_machine(|machine| {
        let bridge = machine.bridge("docker0", "172.17.0.1/16");
        let stock = Stock::plugged(&bridge, 2, IdMap::default()).unwrap();
        let taken = stock.take().unwrap();
        Cable::cut_named(&machine.route, &taken.cable.name).unwrap();
        let kept = Sandbox::adopt(taken.sandbox.into_namespaces().0).unwrap();
        assert!(inside(&kept, || said("ip", &["-o", "link"])).contains("eth0"));
        drop((kept, stock));
        let gone = || !said("ip", &["-o", "link"]).contains("veth");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !gone() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(gone());
        taken.cable.cut(&machine.route).unwrap();
        Cable::cut_named(&machine.route, &taken.cable.name).unwrap();
    });
}

#[test]
fn containers_talk_to_each_other_and_to_the_outside_hidden() {
    on_a_machine(|machine| {
        let bridge = machine.bridge("docker0", "172.17.0.1/16");
        let other = machine.bridge("br-2", "172.18.0.1/16");
        let outside = machine.outside();
        let one = machine.container(&bridge, "172.17.0.2/16", "172.17.0.1");
        let two = machine.container(&bridge, "172.17.0.3/16", "172.17.0.1");
        let three = machine.container(&other, "172.18.0.2/16", "172.18.0.1");
        let guarded = Protected { transport: Transport::Tcp, port: 2376 };
        Firewall.replace(&[docker0("172.17.0.0/16")], &[guarded], None).unwrap();
        let second = Subnet { bridge: "br-2".into(), ..docker0("172.18.0.0/16") };
        Firewall.add_subnet(&second).unwrap();
        Firewall.add_subnet(&second).unwrap();
        listen(&outside, "192.0.2.2:80");
        listen(&two, "172.17.0.3:80");
        listen(&machine.sandbox, "0.0.0.0:2376");
        listen(&machine.sandbox, "0.0.0.0:8080");

        assert_eq!(seen_as(&one, "192.0.2.2:80").as_deref(), Some("192.0.2.1"), "hidden");
        if let Ok(out) = inside(&one, || ping("192.0.2.2")) {
            assert!(out.contains("1 packets received"), "{out}");
        }
        assert_eq!(seen_as(&one, "172.17.0.3:80").as_deref(), Some("172.17.0.2"), "same bridge");
        assert_eq!(seen_as(&three, "192.0.2.2:80").as_deref(), Some("192.0.2.1"), "second network");
        assert_eq!(seen_as(&three, "172.17.0.3:80"), None, "isolated");
        assert_eq!(seen_as(&one, "172.17.0.1:8080").as_deref(), Some("172.17.0.2"), "the machine");
        assert_eq!(seen_as(&one, "172.17.0.1:2376"), None, "guarded");
        assert_eq!(call("127.0.0.1:2376").as_deref(), Some("127.0.0.1"));
        // Even with a route, the outside does not come in.
        inside(&outside, || said("ip", &["route", "add", "172.17.0.0/16", "via", "192.0.2.1"]));
        assert_eq!(seen_as(&outside, "172.17.0.3:80"), None, "not published");

        let internal = Subnet { internal: true, ..second.clone() };
        Firewall.remove_subnet(&second).unwrap();
        Firewall.add_subnet(&internal).unwrap();
        assert_eq!(seen_as(&three, "192.0.2.2:80"), None, "internal");
        assert!(Firewall.remove_subnet(&second).is_ok());
        assert!(Firewall.remove_subnet(&second).is_err());
    });
}

#[test]
fn a_published_port_leads_to_its_container() {
    on_a_machine(|machine| {
        let bridge = machine.bridge("docker0", "172.17.0.1/16");
        let other = machine.bridge("br-2", "172.18.0.1/16");
        let outside = machine.outside();
        let one = machine.container(&bridge, "172.17.0.2/16", "172.17.0.1");
        let three = machine.container(&other, "172.18.0.2/16", "172.18.0.1");
        let second = Subnet { bridge: "br-2".into(), ..docker0("172.18.0.0/16") };
        Firewall.replace(&[docker0("172.17.0.0/16"), second], &[], None).unwrap();
        listen(&one, "172.17.0.2:80");
        let target = "172.17.0.2:80".parse().unwrap();
        let port = |address, port| Published { transport: Transport::Tcp, address, port, target };
        let ports = [port(None, 8080), port(Some(ip("192.0.2.1")), 8081)];
        Firewall.publish(&ports).unwrap();
        assert_eq!(seen_as(&outside, "192.0.2.1:8080").as_deref(), Some("192.0.2.2"));
        assert_eq!(seen_as(&outside, "192.0.2.1:8081").as_deref(), Some("192.0.2.2"));
        assert_eq!(call("192.0.2.1:8080").as_deref(), Some("192.0.2.1"), "the machine itself");
        assert_eq!(call("172.17.0.1:8081"), None, "only at its address");
        assert!(seen_as(&three, "192.0.2.1:8080").is_some(), "another network");
        assert!(seen_as(&one, "192.0.2.1:8080").is_some(), "the container itself");
        let elsewhere = Published { target: "172.17.0.9:80".parse().unwrap(), ..ports[0] };
        assert!(Firewall.publish(&[elsewhere]).is_err());
        Firewall.unpublish(&ports).unwrap();
        assert_eq!(seen_as(&outside, "192.0.2.1:8080"), None);
        assert!(Firewall.unpublish(&ports).is_err());
    });
}

#[test]
fn the_filter_is_replaced_whole_and_can_be_listed() {
    on_a_machine(|_| {
        for _ in 0..2 {
            Firewall.replace(&[docker0("172.17.0.0/16")], &[], None).unwrap();
        }
        Firewall.publish(&[]).unwrap();
        let listed = said("nft", &["list", "ruleset"]);
        for expected in [
            "table inet pinnace {",
            "elements = { \"docker0\" }",
            "elements = { 172.17.0.0/16 }",
            "type nat hook postrouting priority srcnat; policy accept;",
            "ip saddr @hidden oifname != @bridges masquerade comment \"leaving for the outside\"",
            "iifname . oifname @connected accept comment \"bridges that may talk\"",
            "ct state established,related accept comment \"answers\"",
            "dnat ip to",
        ] {
            assert!(listed.contains(expected), "{expected} is not in {listed}");
        }
        assert_eq!(listed.matches("table ").count(), 1);
        Firewall.remove_all().unwrap();
        Firewall.remove_all().unwrap();
        assert_eq!(said("nft", &["list", "ruleset"]), "");
    });
}

#[test]
fn refusals_say_what_and_why() {
    on_a_machine(|machine| {
        let mut batch = Batch::default();
        batch.add("trying", link::SET_LINK, 0, &LinkHeader::up(4711).bytes(), |a| a);
        let error = machine.route.tell(&mut batch).unwrap_err();
        assert_eq!(error.errno(), Some(rustix::io::Errno::NODEV));
        assert!(error.to_string().starts_with("trying failed: No such device"), "{error}");
        let not_one = std::fs::File::open("/proc/self/ns/pid").unwrap();
        let error = Sandbox::adopt(not_one.into()).unwrap_err();
        assert!(error.to_string().starts_with("entering a network namespace failed"), "{error}");
        let error = Firewall.add_subnet(&docker0("172.17.0.0/16")).unwrap_err();
        assert!(error.to_string().starts_with("adding to the firewall failed: No such file"), "{error}");
    });
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn how_long_it_takes() {
    on_a_machine(|machine| {
        let bridge = machine.bridge("docker0", "172.17.0.1/16");
        let (mut create, mut plug, mut configure, mut cut) = (vec![], vec![], vec![], vec![]);
        let mut addresses = Addresses::new(net("172.17.0.0/16"), None);
        addresses.reserve(ip("172.17.0.1")).unwrap();
        let mut clock = Instant::now();
        let mut lap = |times: &mut Vec<Duration>| {
            times.push(clock.elapsed());
            clock = Instant::now();
        };
        let mut kept = Vec::new();
        for _ in 0..40 {
            let address = addresses.take().unwrap();
            let end = endpoint(&address.to_string(), "172.17.0.1");
            lap(&mut vec![]);
            let sandbox = Sandbox::create(None).unwrap();
            lap(&mut create);
            let mut cable = Cable::plug(&machine.route, &bridge, &sandbox).unwrap();
            lap(&mut plug);
            cable.inner.configure(&sandbox, &end).unwrap();
            lap(&mut configure);
            cable.cut(&machine.route).unwrap();
            lap(&mut cut);
            kept.push(sandbox);
        }
        println!(
            "create {:?} plug {:?} configure {:?} cut {:?}",
            median(create),
            median(plug),
            median(configure),
            median(cut)
        );
        drop(kept);
        let stock = Stock::plugged(&bridge, 4, IdMap::default()).unwrap();
        let mut taken = vec![];
        for _ in 0..20 {
            while stock.ready() < 2 {
                std::thread::sleep(Duration::from_millis(5));
            }
            let end = endpoint(&addresses.take().unwrap().to_string(), "172.17.0.1");
            let begun = Instant::now();
            let mut ready = stock.take().unwrap();
            ready.cable.inner.configure(&ready.sandbox, &end).unwrap();
            taken.push(begun.elapsed());
        }
        println!("take and configure {:?}", median(taken));
        let begun = Instant::now();
        Firewall.replace(&[docker0("172.17.0.0/16")], &[], None).unwrap();
        println!("firewall {:?}", begun.elapsed());
    });
}
