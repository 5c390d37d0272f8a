//! What networks are in the kernel: their bridges and parents, and the sandboxes that are ready to be plugged into them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use runtime::ids::IdMap;
use runtime::network::{
    self, Bridge, Firewall, Loose, Protected, Ready, Route, Sandbox, Stock, Subnet, Transport, remove_stale,
};

use super::error::NetworksError;
use super::host::Host;
use super::link::Link;
use super::network::Network;
use super::options::{MTU, Options, bridge_name};
use super::parents;
use super::{BRIDGE, gateway};

/// Sandboxes kept ready.
const READY: usize = 4;
/// How long a start waits for the bridge while the machine boots.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ports of the machine that no container may reach, whatever comes to listen there: Docker's own.
const PROTECTED: [Protected; 2] = [
    Protected { transport: Transport::Tcp, port: 2375 },
    Protected { transport: Transport::Tcp, port: 2376 },
];

/// The kernel's side of all networks.
pub(super) struct Bridges {
    pub(super) mapped: IdMap,
    default: Mutex<Default>,
    changed: Condvar,
    /// Made when the first container without a network is started.
    bare: OnceLock<Stock<Sandbox>>,
    /// Made when the first container is started that is on another network than the default one.
    loose: OnceLock<Stock<Loose>>,
}

enum Default {
    Coming,
    Here(Arc<Stock<Ready>>),
    Failed(String),
}

impl Bridges {
    pub(super) fn new(mapped: IdMap) -> Bridges {
        Bridges {
            mapped,
            default: Mutex::new(Default::Coming),
            changed: Condvar::new(),
            bare: OnceLock::new(),
            loose: OnceLock::new(),
        }
    }

    /// Makes the bridges of all networks and the packet filter, and removes the bridges that no network has any more.
    pub(super) fn bring_up(&self, networks: &[Arc<Network>], host: Option<&Host>) {
        let state = match bring_up(self.mapped, networks, host) {
            Ok(stock) => Default::Here(Arc::new(stock)),
            Err(error) => {
                tracing::error!(%error, "the default bridge cannot be made");
                Default::Failed(error.to_string())
            }
        };
        *self.default.lock().expect("no holder of the bridge panics") = state;
        self.changed.notify_all();
        // Not when the first start asks for it: its stock takes a moment to fill.
        if networks.iter().any(|network| network.bridge().is_some() && !network.is_default()) {
            self.expect_others();
        }
    }

    /// Begins to hold sandboxes ready for other networks than the default one.
    pub(super) fn expect_others(&self) {
        if let Err(error) = self.loose() {
            tracing::warn!(%error, "no sandboxes are held ready");
        }
    }

    fn wait(&self) -> MutexGuard<'_, Default> {
        let state = self.default.lock().expect("no holder of the bridge panics");
        let coming = |state: &mut Default| matches!(state, Default::Coming);
        self.changed.wait_timeout_while(state, PATIENCE, coming).expect("no holder of the bridge panics").0
    }

    /// Waits until the machine has what networks need.
    pub(super) fn await_machine(&self) {
        drop(self.wait());
    }

    /// The stock of the default bridge. Every start asks for its state, so its lock is not held while a sandbox is made.
    pub(super) fn plugged(&self) -> Result<Arc<Stock<Ready>>, NetworksError> {
        match &*self.wait() {
            Default::Here(stock) => Ok(stock.clone()),
            Default::Failed(why) => Err(NetworksError::Bridge(why.clone())),
            Default::Coming => Err(NetworksError::Bridge("the machine is still booting".to_owned())),
        }
    }

    pub(super) fn bare(&self) -> Result<&Stock<Sandbox>, NetworksError> {
        made(&self.bare, || Stock::bare(READY, self.mapped))
    }

    pub(super) fn loose(&self) -> Result<&Stock<Loose>, NetworksError> {
        made(&self.loose, || Stock::loose(MTU, READY, self.mapped))
    }
}

/// A second one, made by somebody else at the same time, is dropped.
fn made<T>(
    cell: &OnceLock<T>,
    make: impl FnOnce() -> Result<T, runtime::network::NetworkError>,
) -> Result<&T, NetworksError> {
    if cell.get().is_none() {
        let _ = cell.set(make()?);
    }
    Ok(cell.get().expect("it was just set"))
}

fn bring_up(
    ids: IdMap,
    networks: &[Arc<Network>],
    host: Option<&Host>,
) -> Result<Stock<Ready>, NetworksError> {
    let route = Route::open()?;
    let road = host.map(Host::road);
    for address in road.iter().flat_map(|road| [road.address, road.name_server]) {
        network::give_loopback(&route, address)?;
    }
    let default = Bridge::ensure(&route, BRIDGE, Some(gateway()), MTU)?;
    let mut subnets = Vec::new();
    for network in networks {
        if network.is_default() {
            network.set_bridge(default.clone());
        } else if let Err(error) = make(&route, network) {
            tracing::error!(network = network.record.name, %error, "a network's interface cannot be made");
        }
        subnets.extend(subnet(network));
    }
    let names: Vec<String> = networks.iter().filter_map(|network| kept(network)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    remove_stale(&route, &names)?;
    Firewall.replace(&subnets, &PROTECTED, road.as_ref())?;
    Ok(Stock::plugged(&default, READY, ids)?)
}

/// The interface of the machine's that belongs to a network.
fn kept(network: &Network) -> Option<String> {
    match &network.link {
        Link::Bridge(_) => Some(network.bridge()?.name),
        Link::Child(branch) => Some(branch.parent.clone()),
        Link::None => None,
    }
}

/// Makes the bridge of a network that has one, or sees to it that there is its parent.
fn make(route: &Route, network: &Network) -> Result<(), NetworksError> {
    match &network.link {
        Link::Bridge(options) => make_bridge(route, network, options),
        Link::Child(branch) => parents::ensure(route, &network.record.driver, branch).map(drop),
        Link::None => Ok(()),
    }
}

fn make_bridge(route: &Route, network: &Network, options: &Options) -> Result<(), NetworksError> {
    let address = network.record.gateway().filter(|_| !options.inhibited);
    let bridge = Bridge::ensure(route, &interface(network, options), address, options.mtu)?;
    let gateway_6 = network.record.gateway_6().filter(|_| !options.inhibited_6);
    gateway_6.map_or(Ok(()), |gateway| bridge.give_ipv6(route, gateway))?;
    network.set_bridge(bridge);
    Ok(())
}

/// Name of a network's bridge.
fn interface(network: &Network, options: &Options) -> String {
    match &options.bridge {
        _ if network.is_default() => BRIDGE.to_owned(),
        Some(name) => name.clone(),
        None => bridge_name(&network.id),
    }
}

/// Whether a new network cannot be beside those that there are: of the same bridge, or on a parent that is not shared.
///
/// # Errors
/// dockerd's words.
pub(super) fn check(network: &Network, others: &[Arc<Network>]) -> Result<(), NetworksError> {
    let in_the_way = |other: &Arc<Network>| match (&network.link, &other.link) {
        (Link::Bridge(options), Link::Bridge(of_other)) => {
            let name = interface(network, options);
            (interface(other, of_other) == name).then(|| {
                NetworksError::Forbidden(format!(
                    "cannot create network {} ({name}): conflicts with network {} ({name}): networks have same bridge name",
                    network.id, other.id
                ))
            })
        }
        (Link::Child(branch), Link::Child(of_other)) => {
            of_other.conflict(&other.id, branch).map(NetworksError::Driver)
        }
        _ => None,
    };
    others.iter().find_map(in_the_way).map_or(Ok(()), Err)
}

/// The network as the packet filter sees it; it sees nothing of networks on a parent.
fn subnet(network: &Network) -> Option<Subnet> {
    let Link::Bridge(options) = &network.link else { return None };
    let bridge = network.bridge()?;
    let addresses = match network.record.pool().map(|pool| pool.subnet) {
        Some(IpNet::V4(addresses)) => Some(addresses),
        _ => None,
    };
    let ipv6 = match network.record.pool_6().map(|pool| pool.subnet) {
        Some(IpNet::V6(ipv6)) => Some(ipv6),
        _ => None,
    };
    Some(options.subnet(&bridge.name, addresses, ipv6, network.record.internal))
}

/// Makes what a new network needs in the kernel and lets a bridge through the packet filter; nothing is left of it where
/// that fails.
pub(super) fn add(network: &Network) -> Result<(), NetworksError> {
    let route = Route::open()?;
    let Link::Bridge(options) = &network.link else { return make(&route, network) };
    let there = Bridge::find(&route, &interface(network, options))?.is_some();
    let made = make_bridge(&route, network, options)
        .and_then(|()| subnet(network).map_or(Ok(()), |subnet| Ok(Firewall.add_subnet(&subnet)?)));
    made.inspect_err(|_| {
        if let Ok(Some(bridge)) = Bridge::find(&route, &interface(network, options))
            && !there
            && let Err(error) = bridge.remove(&route)
        {
            tracing::error!(network = network.record.name, %error, "a bridge is left of a network that was not made");
        }
    })
}

/// Takes what a network has in the kernel away: its bridge with what the packet filter knows of it, or a parent that was made
/// for it and that none of the `others` has. What does not go now goes when the engine starts anew.
pub(super) fn remove(network: &Network, others: &[Arc<Network>]) {
    let taken = || -> Result<(), NetworksError> {
        if let Link::Child(branch) = &network.link {
            return parents::remove(&Route::open()?, branch, others);
        }
        let subnet = subnet(network);
        if let Some(bridge) = network.bridge() {
            bridge.remove(&Route::open()?)?;
        }
        subnet.map_or(Ok(()), |subnet| Ok(Firewall.remove_subnet(&subnet)?))
    };
    if let Err(error) = taken() {
        tracing::error!(network = network.record.name, %error, "something is left of a removed network");
    }
}

/// The subnets of networks, which a new one must not overlap.
pub(super) fn subnets(networks: &[Arc<Network>]) -> Vec<IpNet> {
    let pools = networks.iter().flat_map(|network| network.record.pools());
    pools.map(|pool| pool.subnet).collect()
}

/// The default bridge's subnet.
pub(super) fn default_subnet() -> Ipv4Net {
    gateway().trunc()
}
