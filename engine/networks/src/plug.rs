//! From a place to an interface.

use std::time::{Duration, Instant};

use runtime::network::{self, Cable, Child, Errno, Interface, MacvlanMode, NetworkError, Route, Sandbox};

use super::endpoint::Endpoint;
use super::error::NetworksError;
use super::link::{Branch, Link};
use super::network::Network;
use super::options::Options;
use super::parents;

/// How long a child of a parent is waited for that an interface of a dead sandbox may still have: the kernel takes a while
/// to bury one.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Whether a place has the ways out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Out {
    pub(super) ipv4: bool,
    pub(super) ipv6: bool,
}

impl Out {
    pub(super) const BOTH: Out = Out { ipv4: true, ipv6: true };
    pub(super) const NONE: Out = Out { ipv4: false, ipv6: false };
}

/// The name that was asked for, or the first of the network's names that no other place has.
pub(super) fn name_interface(endpoint: &mut Endpoint, network: &Network, others: &[&str]) {
    if endpoint.interface.is_empty() {
        let prefix = network.link.prefix();
        let mut names = (0u32..).map(|number| format!("{prefix}{number}"));
        endpoint.interface =
            names.find(|name| !others.contains(&name.as_str())).expect("there is always one more number");
    }
}

/// Connects a place with its network and gives the interface what the place says. A `cable` that is there already is used
/// where the network has a bridge.
pub(super) fn plug(
    route: &Route,
    network: &Network,
    sandbox: &Sandbox,
    cable: Option<Cable>,
    endpoint: &mut Endpoint,
    is_out: Out,
) -> Result<(), NetworksError> {
    match &network.link {
        Link::Bridge(options) => join(route, network, options, sandbox, cable, endpoint, is_out),
        Link::Child(branch) => branch_off(route, network, branch, sandbox, endpoint, is_out),
        Link::None => Err(NetworksError::Bridge(format!("the network {} has none", network.record.name))),
    }
}

/// Joins a cable, a new one where none is given, to the network's bridge.
fn join(
    route: &Route,
    network: &Network,
    options: &Options,
    sandbox: &Sandbox,
    cable: Option<Cable>,
    endpoint: &mut Endpoint,
    is_out: Out,
) -> Result<(), NetworksError> {
    let missing = || NetworksError::Bridge(format!("the network {} has none", network.record.name));
    let bridge = network.bridge().ok_or_else(missing)?;
    let mut cable = match cable {
        Some(cable) => cable,
        None => Cable::plug(route, &network::Bridge::none(bridge.mtu), sandbox)?,
    };
    endpoint.cable.clone_from(&cable.name);
    // First, so that the neighbours hear of the new address.
    cable.join(route, &bridge, !options.connected)?;
    configure(options, sandbox, &mut cable, endpoint, is_out)
}

/// Gives a cable's end in the sandbox what the place says.
pub(super) fn configure(
    options: &Options,
    sandbox: &Sandbox,
    cable: &mut Cable,
    endpoint: &mut Endpoint,
    is_out: Out,
) -> Result<(), NetworksError> {
    endpoint.cable.clone_from(&cable.name);
    let mac = endpoint.mac.parse().unwrap_or_else(|_| network::Mac::random());
    let place = network::Endpoint { mac: Some(mac), mtu: Some(options.mtu), ..described(endpoint, is_out) };
    Ok(cable.inner.configure(sandbox, &place)?)
}

/// Makes an interface of the sandbox's on the network's parent; nothing is left of it where that fails.
fn branch_off(
    route: &Route,
    network: &Network,
    branch: &Branch,
    sandbox: &Sandbox,
    endpoint: &Endpoint,
    is_out: Out,
) -> Result<(), NetworksError> {
    let driver = &network.record.driver;
    let parent = parents::find(route, driver, branch)?;
    let is_alone = branch.child == Child::Macvlan(MacvlanMode::Passthru);
    let own = endpoint.mac.parse().ok();
    // It takes the parent's address when it is made, and gives the parent its own then.
    let place = network::Endpoint { mac: own.filter(|_| is_alone), ..described(endpoint, is_out) };
    let attempt = || {
        let name = &endpoint.interface;
        let mut interface = branch.child.make(route, &parent, sandbox, name, own.filter(|_| !is_alone))?;
        interface.configure(sandbox, &place).inspect_err(|_| drop(Interface::remove(sandbox, name)))
    };
    // One whose sandbox dies has the parent, or the same hardware address, for some milliseconds more.
    let may_pass = |error: &NetworkError| match error.errno() {
        Some(Errno::BUSY | Errno::ADDRINUSE) => true,
        Some(Errno::INVAL) => is_alone,
        _ => false,
    };
    let begun = Instant::now();
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(error) if may_pass(&error) && begun.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            Err(error) => {
                let text = format!("failed to create the {driver} port: {}", parents::go(&error));
                return Err(NetworksError::Driver(text));
            }
        }
    }
}

/// What an interface becomes, but for what is the link's.
fn described(endpoint: &Endpoint, is_out: Out) -> network::Endpoint {
    network::Endpoint {
        interface: endpoint.interface.clone(),
        address: endpoint.address,
        mac: None,
        mtu: None,
        exit: endpoint.exit().filter(|_| is_out.ipv4),
        ipv6: endpoint.ipv6,
        exit_6: endpoint.exit_6().filter(|_| is_out.ipv6),
        link_local: endpoint.link_local.clone(),
    }
}

/// Lets the ways out lead over these places.
pub(super) fn turn(
    sandbox: &Sandbox,
    out: Option<&Endpoint>,
    out_6: Option<&Endpoint>,
) -> Result<(), NetworksError> {
    if let Some((place, exit)) = out.and_then(|place| Some((place, place.exit()?))) {
        network::turn_default_route(sandbox, &place.interface, exit)?;
    }
    if let Some((place, exit)) = out_6.and_then(|place| Some((place, place.exit_6()?))) {
        network::turn_default_route_6(sandbox, &place.interface, exit)?;
    }
    Ok(())
}
