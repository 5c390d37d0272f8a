//! The uplink with a real DHCP server: dnsmasq in a network namespace of its own, at the other end of a cable.

use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::appliance::Appliance;

/// Where Debian's dnsmasq-base puts it, which is not on every user's PATH.
const DNSMASQ: &str = "/usr/sbin/dnsmasq";

/// One network: a namespace with the server's end of the cable.
struct Network {
    name: String,
    folder: tempfile::TempDir,
    server: Option<Child>,
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Network {
    /// `None`, with the reason told, where there is no server to be had.
    fn new(name: &str) -> Option<Network> {
        if !PathBuf::from(DNSMASQ).exists() {
            skip::note!("no {DNSMASQ}: apt-get install dnsmasq-base");
            return None;
        }
        let name = format!("pinnace-{name}-{}", std::process::id());
        run("ip", &["netns", "add", &name]);
        Some(Network { name, folder: tempfile::tempdir().unwrap(), server: None })
    }

    /// Plugs a cable into the appliance, as its `eth0`.
    fn plug(&self, appliance: &Appliance) {
        let init = appliance.init().to_string();
        let cable = ["link", "add", "eth0", "netns", &init, "type", "veth", "peer", "name", "up0"];
        run("ip", &[&cable[..], &["netns", &self.name]].concat());
        run("ip", &["-n", &self.name, "address", "add", "10.77.0.1/24", "dev", "up0"]);
        run("ip", &["-n", &self.name, "link", "set", "up0", "up"]);
    }

    fn unplug(&self) {
        run("ip", &["-n", &self.name, "link", "delete", "up0"]);
    }

    /// A server with leases of two minutes, its shortest, that wants to be asked again after eight seconds, and after a
    /// bit less in each renewal.
    fn serve(&mut self, options: &[&str]) {
        let log = fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        let leases = format!("--dhcp-leasefile={}", self.folder.path().join("leases").display());
        let server = Command::new("ip")
            .args(["netns", "exec", &self.name, DNSMASQ, "--keep-in-foreground", "--conf-file=/dev/null"])
            .args(["--port=0", "--interface=up0", "--dhcp-range=10.77.0.50,10.77.0.59,2m", "--pid-file="])
            .args(["--no-ping", "--user=root", "--dhcp-authoritative", "--log-dhcp", "--log-facility=-"])
            .args(["--dhcp-option-force=option:T1,8", "--dhcp-option-force=option:T2,60", &leases])
            .args(options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(server);
    }

    fn end_server(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// How often the server said yes.
    fn acknowledged(&self) -> usize {
        fs::read_to_string(self.log_path()).unwrap_or_default().matches(" DHCPACK(up0) ").count()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.end_server();
        if std::thread::panicking() {
            println!("dnsmasq:\n{}", fs::read_to_string(self.log_path()).unwrap_or_default());
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// `ip ARGS` in the appliance's network.
fn ip(appliance: &Appliance, args: &[&str]) -> String {
    let init = appliance.init().to_string();
    let output = Command::new("nsenter").args(["-t", &init, "-n", "ip"]).args(args).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn has_address(appliance: &Appliance) -> bool {
    ip(appliance, &["-4", "address", "show", "dev", "eth0"]).contains("inet 10.77.0.5")
}

#[test]
fn renewals_take_nothing_away_and_a_careless_route_costs_only_itself() {
    let Some(mut network) = Network::new("renew") else { return };
    let Some(appliance) = Appliance::start(&["net=dhcp"]) else { return };
    network.plug(&appliance);
    // A destination with bits behind its prefix, and a gateway that cannot be one.
    let routes = "--dhcp-option=121,0.0.0.0/0,10.77.0.1,10.9.255.0/20,10.77.0.2,10.8.0.0/16,255.255.255.255";
    network.serve(&[routes, "--dhcp-option=6,10.77.0.3", "--dhcp-option=15,example.org"]);
    appliance.until("an address", || has_address(&appliance).then_some(()));
    let resolver = || fs::read_to_string(appliance.inside("/etc/resolv.conf")).ok();
    let want = "search example.org\nnameserver 10.77.0.3\n";
    appliance.until("resolvers", || resolver().filter(|text| text == want));
    let routes = ip(&appliance, &["-4", "route", "show", "dev", "eth0"]);
    assert!(routes.contains("10.9.240.0/20 via 10.77.0.2"), "{routes}");
    assert!(routes.contains("default via 10.77.0.1"), "{routes}");
    assert!(appliance.console().contains("cannot set the route to 10.8.0.0/16"), "{}", appliance.console());
    // From here on nothing of the configuration may change, not for a moment.
    let init = appliance.init().to_string();
    let mut monitor = Command::new("nsenter")
        .args(["-t", &init, "-n", "ip", "-4", "-o", "monitor", "address", "route"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let first = network.acknowledged();
    for count in 1..=2 {
        appliance.until("a renewal", || (network.acknowledged() >= first + count).then_some(()));
    }
    let log = fs::read_to_string(network.log_path()).unwrap();
    assert!(log.contains("option: 58 T1  8s") && log.contains("option: 58 T1  7s"), "{log}");
    assert!(has_address(&appliance));
    monitor.kill().unwrap();
    let changes = String::from_utf8(monitor.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(changes, "", "the console:\n{}", appliance.console());
    // What does change is changed in place.
    network.end_server();
    network.serve(&["--dhcp-option=3,10.77.0.9", "--dhcp-option=6,10.77.0.4"]);
    appliance.until("another resolver", || resolver().filter(|text| text == "nameserver 10.77.0.4\n"));
    let routes = ip(&appliance, &["-4", "route", "show", "dev", "eth0"]);
    assert!(routes.contains("default via 10.77.0.9") && !routes.contains("10.9.240.0"), "{routes}");
    assert_eq!(appliance.console().matches("by DHCP").count(), 1, "{}", appliance.console());
}

#[test]
fn a_card_that_goes_and_comes_is_configured_anew() {
    let Some(mut network) = Network::new("card") else { return };
    let Some(appliance) = Appliance::start(&["net=dhcp"]) else { return };
    network.plug(&appliance);
    network.serve(&[]);
    appliance.until("an address", || has_address(&appliance).then_some(()));
    network.unplug();
    appliance.until("the end of the card", || appliance.console().contains("eth0 is gone").then_some(()));
    network.end_server();
    network.plug(&appliance);
    network.serve(&[]);
    appliance.until("an address on the new card", || has_address(&appliance).then_some(()));
}

/// A socket that has the client's port in the appliance's network.
fn in_the_way(appliance: &Appliance) -> UdpSocket {
    let network = fs::File::open(format!("/proc/{}/ns/net", appliance.init())).unwrap();
    let bind = move || {
        sys::netns::enter(network.as_fd()).unwrap();
        UdpSocket::bind("0.0.0.0:68").unwrap()
    };
    // A thread of its own, which is in that network as long as it lives.
    std::thread::spawn(bind).join().unwrap()
}

#[test]
fn what_fails_at_first_is_tried_again() {
    let Some(mut network) = Network::new("again") else { return };
    let Some(appliance) = Appliance::start(&["net=dhcp"]) else { return };
    let socket = in_the_way(&appliance);
    network.plug(&appliance);
    network.serve(&[]);
    let told = |text: &str| appliance.until(text, || appliance.console().contains(text).then_some(()));
    told("cannot open a DHCP socket: Address already in use (os error 98); tried again in 1 s");
    told("cannot open a DHCP socket: Address already in use (os error 98); tried again in 2 s");
    drop(socket);
    appliance.until("an address", || has_address(&appliance).then_some(()));
}
