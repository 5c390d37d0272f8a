//! The packet filter: one nftables table `pinnace`, replaced as a whole when the engine starts and changed by set
//! elements afterwards.
//!
//! ```text
//!   prerouting, output   the host's address ──► carrier
//!                        published ports ──► container        (maps `published`, `published_at`)
//!   input                containers may not use guarded ports  (set `guarded`)
//!   forward              answers ✓ · to the host by other addresses ✗ (sets `barred`, `barred6`)
//!                        same bridge ✓ · internal ✗ · published ✓ · bridge→bridge ✗ ·
//!                        bridge→outside ✓ · outside→bridge ✗
//!   postrouting          containers' addresses are hidden behind the outgoing interface's
//! ```
//!
//! Every set of a network is an element here and an element there; no rule is added or removed while it runs.
//! Packets that concern none of our bridges pass untouched. Needs the kernel's `nf_tables`, `nft_ct`,
//! `nft_chain_nat`, `nft_nat`, `nft_masq` and `nft_fib_inet`.

use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::netlink::NetworkError;
use super::nft::{Element, Expression, Header, Hook, Meta, Register, Set, Track, Transaction, Type};

const TABLE: &str = "pinnace";

const SERVICE: Type = Type::PROTOCOL.then(Type::PORT);
const TARGET: Type = Type::IPV4.then(Type::PORT);

const BRIDGES: Set = set("bridges", Type::INTERFACE);
const INTERNAL: Set = set("internal", Type::INTERFACE);
/// Pairs of bridges between which packets pass; a bridge with itself matters where br_netfilter is loaded, which
/// sends a bridge's own traffic through these chains.
const CONNECTED: Set = set("connected", Type::INTERFACE.then(Type::INTERFACE));
const HIDDEN: Set = Set { ranges: true, ..set("hidden", Type::IPV4) };
const OPEN: Set = set("open", Type::INTERFACE);
const HIDDEN_6: Set = Set { ranges: true, ..set("hidden6", Type::IPV6) };
/// The host's, by which containers do not reach it.
const BARRED: Set = Set { ranges: true, ..set("barred", Type::IPV4) };
const BARRED_6: Set = Set { ranges: true, ..set("barred6", Type::IPV6) };
const GUARDED: Set = set("guarded", SERVICE);
/// Port of any address of this machine → container.
const PUBLISHED: Set = Set { data: Some(TARGET), ..set("published", SERVICE) };
/// Port of one address → container.
const PUBLISHED_AT: Set =
    Set { data: Some(TARGET), ..set("published_at", Type::IPV4.then(Type::PROTOCOL).then(Type::PORT)) };

const fn set(name: &'static str, key: Type) -> Set {
    Set { name, key, data: None, ranges: false }
}

/// A network as the filter sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Name of its bridge.
    pub bridge: String,
    /// Its addresses of IPv4, where it has some.
    pub addresses: Option<Ipv4Net>,
    /// Its addresses of IPv6, where it has some.
    pub ipv6: Option<Ipv6Net>,
    /// Whether its containers reach one another.
    pub connected: bool,
    /// Whether nothing passes between it and the outside.
    pub internal: bool,
    /// Whether its addresses are replaced by the machine's when packets leave.
    pub hidden: bool,
    /// The same for IPv6.
    pub hidden_6: bool,
    /// Whether its containers are reached from outside, whatever is published.
    pub open: bool,
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// `IPPROTO_*`.
    pub(super) fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }
}

/// A port of the machine itself that containers may not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Protected {
    /// TCP or UDP.
    pub transport: Transport,
    /// The port.
    pub port: u16,
}

/// A port of the machine that leads to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Published {
    /// TCP or UDP.
    pub transport: Transport,
    /// Every address of the machine where `None`.
    pub address: Option<Ipv4Addr>,
    /// The machine's port.
    pub port: u16,
    /// Address and port of the container.
    pub target: SocketAddrV4,
}

/// How containers reach the host of a machine that has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The machine's address that stands for it: all its TCP ports lead to the one below.
    pub address: Ipv4Addr,
    /// The port of `address` where somebody listens.
    pub listener: u16,
    /// The machine's address at which names are asked for.
    pub name_server: Ipv4Addr,
    /// Networks behind which the host is too, but not for containers.
    pub barred: Vec<IpNet>,
}

/// The packet filter of the calling thread's network namespace.
#[derive(Debug, Default, Clone, Copy)]
pub struct Firewall;

impl Firewall {
    /// Puts everything in place for these networks and lets the kernel forward packets. What an earlier engine
    /// left is replaced in the same instant; no packet meets a half-made filter.
    ///
    /// # Errors
    /// A kernel without the modules named above, or no permission.
    pub fn replace(
        self,
        subnets: &[Subnet],
        protected: &[Protected],
        host: Option<&Host>,
    ) -> Result<(), NetworkError> {
        let mut change = Transaction::new(TABLE);
        change.replace_table();
        for (id, set) in (1..).zip([
            &BRIDGES,
            &INTERNAL,
            &CONNECTED,
            &HIDDEN,
            &HIDDEN_6,
            &OPEN,
            &BARRED,
            &BARRED_6,
            &GUARDED,
            &PUBLISHED,
            &PUBLISHED_AT,
        ]) {
            change.set(set, id);
        }
        let guarded: Vec<Element> =
            protected.iter().map(|port| key(service(port.transport, port.port))).collect();
        change.add_elements(&GUARDED, &guarded);
        for subnet in subnets {
            add(&mut change, subnet);
        }
        for barred in host.iter().flat_map(|host| &host.barred) {
            match barred {
                IpNet::V4(net) => change.add_elements(&BARRED, &range(*net)),
                IpNet::V6(net) => change.add_elements(&BARRED_6, &range_6(*net)),
            }
        }
        translate(&mut change, host);
        filter(&mut change);
        change.commit()?;
        forward_packets(subnets.iter().any(|subnet| subnet.ipv6.is_some()))
    }

    /// Adds a network; fine where it is there already.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn add_subnet(self, subnet: &Subnet) -> Result<(), NetworkError> {
        let mut change = Transaction::new(TABLE);
        add(&mut change, subnet);
        change.commit()?;
        forward_packets(subnet.ipv6.is_some())
    }

    /// Removes a network that was added with the same values.
    ///
    /// # Errors
    /// What the kernel refuses, for example that it is not there.
    pub fn remove_subnet(self, subnet: &Subnet) -> Result<(), NetworkError> {
        let mut change = Transaction::new(TABLE);
        for (set, elements) in elements(subnet) {
            change.remove_elements(set, &elements);
        }
        change.commit()
    }

    /// Opens ports of the machine to containers, all or none.
    ///
    /// # Errors
    /// What the kernel refuses, for example that a port leads elsewhere already.
    pub fn publish(self, ports: &[Published]) -> Result<(), NetworkError> {
        self.change_ports(ports, Transaction::add_elements)
    }

    /// Closes ports again, all or none.
    ///
    /// # Errors
    /// What the kernel refuses, for example that one is not open.
    pub fn unpublish(self, ports: &[Published]) -> Result<(), NetworkError> {
        self.change_ports(ports, Transaction::remove_elements)
    }

    fn change_ports(
        self,
        ports: &[Published],
        change: fn(&mut Transaction, &Set, &[Element]),
    ) -> Result<(), NetworkError> {
        if ports.is_empty() {
            return Ok(());
        }
        let (at, everywhere): (Vec<Published>, Vec<Published>) =
            ports.iter().partition(|port| port.address.is_some());
        let mut transaction = Transaction::new(TABLE);
        for (set, ports) in [(&PUBLISHED, everywhere), (&PUBLISHED_AT, at)] {
            let elements: Vec<Element> = ports.iter().map(published).collect();
            change(&mut transaction, set, &elements);
        }
        transaction.commit()
    }

    /// Takes the whole filter away.
    ///
    /// # Errors
    /// No permission.
    pub fn remove_all(self) -> Result<(), NetworkError> {
        let mut change = Transaction::new(TABLE);
        change.remove_table();
        change.commit()
    }
}

/// ip_forward of the calling thread's network namespace (Documentation/networking/ip-sysctl).
fn forward_packets(ipv6: bool) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Namespace { action: "letting the kernel forward packets", source };
    if ipv6 {
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").map_err(failed)?;
    }
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(failed)
}

fn add(change: &mut Transaction, subnet: &Subnet) {
    for (set, elements) in elements(subnet) {
        change.add_elements(set, &elements);
    }
}

fn elements(subnet: &Subnet) -> Vec<(&'static Set, Vec<Element>)> {
    let name = interface(&subnet.bridge);
    let mut all = vec![(&BRIDGES, vec![key(name.clone())])];
    if subnet.internal {
        all.push((&INTERNAL, vec![key(name.clone())]));
    }
    if subnet.connected {
        all.push((&CONNECTED, vec![key([name.clone(), name].concat())]));
    }
    if let Some(addresses) = subnet.addresses.filter(|_| subnet.hidden) {
        all.push((&HIDDEN, range(addresses)));
    }
    if subnet.open {
        all.push((&OPEN, vec![key(interface(&subnet.bridge))]));
    }
    if let Some(addresses) = subnet.ipv6.filter(|_| subnet.hidden_6) {
        all.push((&HIDDEN_6, range_6(addresses)));
    }
    all
}

fn key(key: Vec<u8>) -> Element {
    Element { key, data: None, end_of_range: false }
}

fn range(addresses: Ipv4Net) -> Vec<Element> {
    let mut range = vec![key(addresses.network().octets().to_vec())];
    if let Some(end) = u32::from(addresses.broadcast()).checked_add(1) {
        range.push(Element { end_of_range: true, ..key(end.to_be_bytes().to_vec()) });
    }
    range
}

fn range_6(addresses: Ipv6Net) -> Vec<Element> {
    let mut range = vec![key(addresses.network().octets().to_vec())];
    if let Some(end) = u128::from(addresses.broadcast()).checked_add(1) {
        range.push(Element { end_of_range: true, ..key(end.to_be_bytes().to_vec()) });
    }
    range
}

/// As `meta iifname` loads it: 16 bytes, the rest zero.
fn interface(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// Transport protocol and port, each in a register of its own.
fn service(transport: Transport, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![transport.number(), 0, 0, 0, high, low, 0, 0]
}

fn published(port: &Published) -> Element {
    let address = port.address.map(|address| address.octets().to_vec()).unwrap_or_default();
    let [high, low] = port.target.port().to_be_bytes();
    let target = [&port.target.ip().octets()[..], &[high, low, 0, 0]].concat();
    let key = [address, service(port.transport, port.port)].concat();
    Element { key, data: Some(target), end_of_range: false }
}

/// The first registers, wide enough for two interface names.
const A: Register = Register(0);
const B: Register = Register(1);
const C: Register = Register(2);
const SECOND_NAME: Register = Register(4);

fn ipv4() -> [Expression; 2] {
    const NFPROTO_IPV4: u8 = 2;
    [Expression::Meta(Meta::Family, A), Expression::Equal(A, vec![NFPROTO_IPV4])]
}

fn ipv6() -> [Expression; 2] {
    const NFPROTO_IPV6: u8 = 10;
    [Expression::Meta(Meta::Family, A), Expression::Equal(A, vec![NFPROTO_IPV6])]
}

fn from(set: &Set) -> [Expression; 2] {
    [Expression::Meta(Meta::InputName, A), Expression::In(A, set.name)]
}

fn to(set: &Set) -> [Expression; 2] {
    [Expression::Meta(Meta::OutputName, A), Expression::In(A, set.name)]
}

fn any_bit(what: Track, bits: u32) -> [Expression; 3] {
    [Expression::Track(what, A), Expression::Mask(A, bits.to_ne_bytes()), Expression::NotEqual(A, vec![0; 4])]
}

/// The connection was turned to a container by [`translate`] (`IPS_DST_NAT`).
fn turned() -> [Expression; 3] {
    any_bit(Track::Status, 1 << 5)
}

/// Transport protocol and destination port in two neighbouring registers.
fn load_service(first: Register, second: Register) -> [Expression; 2] {
    [Expression::Meta(Meta::Transport, first), Expression::Payload(Header::Transport, 2, 2, second)]
}

fn load_source(to: Register) -> Expression {
    Expression::Payload(Header::Network, 12, 4, to)
}

fn load_destination(to: Register) -> Expression {
    Expression::Payload(Header::Network, 16, 4, to)
}

/// The chains that change addresses.
fn translate(change: &mut Transaction, host: Option<&Host>) {
    const DESTINATION: i32 = -100;
    const SOURCE: i32 = 100;
    for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        change.chain(chain, "nat", hook, DESTINATION);
        if let Some(host) = host {
            change.rule(chain, "the host", &to_host(host));
        }
        let [protocol, port] = load_service(B, C);
        let at = [load_destination(A), protocol, port, Expression::Map(A, PUBLISHED_AT.name, A)];
        change.rule(
            chain,
            "ports published at one address",
            &[&ipv4()[..], &at, &[Expression::Redirect(A, B)]].concat(),
        );
        // 2 is RTN_LOCAL: an address of this machine.
        let here = [Expression::DestinationKind(A), Expression::Equal(A, 2u32.to_ne_bytes().to_vec())];
        let everywhere = [Expression::Map(A, PUBLISHED.name, A), Expression::Redirect(A, B)];
        let rule = [&ipv4()[..], &here, &load_service(A, B), &everywhere].concat();
        change.rule(chain, "published ports", &rule);
    }
    change.chain("postrouting", "nat", Hook::Postrouting, SOURCE);
    let inside = [load_source(A), Expression::In(A, HIDDEN.name)];
    let outside = [Expression::Meta(Meta::OutputName, A), Expression::NotIn(A, BRIDGES.name)];
    let leaving = [&ipv4()[..], &inside, &outside, &[Expression::Masquerade]].concat();
    change.rule("postrouting", "leaving for the outside", &leaving);
    let source = Expression::Payload(Header::Network, 8, 16, A);
    let inside_6 = [source, Expression::In(A, HIDDEN_6.name)];
    let leaving = [&ipv6()[..], &inside_6, &outside, &[Expression::Masquerade]].concat();
    change.rule("postrouting", "leaving for the outside by IPv6", &leaving);
    // Without this the answer would go straight to the asker, who expects it from the machine's address.
    let back = [&ipv4()[..], &inside, &turned(), &to(&BRIDGES), &[Expression::Masquerade]].concat();
    change.rule("postrouting", "a published port used from inside", &back);
}

/// Turns whatever port of the host's address is asked for to the one at which somebody listens. Who does finds the other one
/// in the connection (`SO_ORIGINAL_DST`).
fn to_host(host: &Host) -> Vec<Expression> {
    let here = [load_destination(A), Expression::Equal(A, host.address.octets().to_vec())];
    let tcp = [Expression::Meta(Meta::Transport, A), Expression::Equal(A, vec![Transport::Tcp.number()])];
    let listener = [
        Expression::Value(A, host.address.octets().to_vec()),
        Expression::Value(B, host.listener.to_be_bytes().to_vec()),
        Expression::Redirect(A, B),
    ];
    [&ipv4()[..], &here, &tcp, &listener].concat()
}

/// The chains that drop.
fn filter(change: &mut Transaction) {
    const INVALID: u32 = 1;
    const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
    let (accept, drop) = ([Expression::Accept], [Expression::Drop]);
    let answers = [&any_bit(Track::State, ESTABLISHED_OR_RELATED)[..], &accept].concat();

    change.chain("forward", "filter", Hook::Forward, 0);
    let mut forward = |comment, parts: &[&[Expression]]| change.rule("forward", comment, &parts.concat());
    forward("answers", &[&answers]);
    forward("answers to nothing", &[&any_bit(Track::State, INVALID), &drop]);
    let barred = [load_destination(A), Expression::In(A, BARRED.name)];
    forward("to the host", &[&ipv4(), &from(&BRIDGES), &barred, &drop]);
    let barred_6 = [Expression::Payload(Header::Network, 24, 16, A), Expression::In(A, BARRED_6.name)];
    forward("to the host by IPv6", &[&ipv6(), &from(&BRIDGES), &barred_6, &drop]);
    let both = [Expression::Meta(Meta::InputName, A), Expression::Meta(Meta::OutputName, SECOND_NAME)];
    forward("bridges that may talk", &[&both, &[Expression::In(A, CONNECTED.name)], &accept]);
    forward("from internal networks", &[&from(&INTERNAL), &drop]);
    forward("to internal networks", &[&to(&INTERNAL), &drop]);
    forward("published ports", &[&turned(), &to(&BRIDGES), &accept]);
    forward("from bridge to bridge", &[&from(&BRIDGES), &to(&BRIDGES), &drop]);
    forward("from containers", &[&from(&BRIDGES), &accept]);
    forward("to open networks", &[&to(&OPEN), &accept]);
    forward("to containers, not published", &[&to(&BRIDGES), &drop]);

    change.chain("input", "filter", Hook::Input, 0);
    change.rule("input", "answers", &answers);
    let guarded = [Expression::In(A, GUARDED.name), Expression::Drop];
    let rule = [&from(&BRIDGES)[..], &load_service(A, B), &guarded].concat();
    change.rule("input", "services of the machine", &rule);
}
