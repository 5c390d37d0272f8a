//! From a place to an interface.

use std::net::Ipv4Addr;

use runtime::network::{self, Cable, Route, Sandbox};

use super::endpoint::Endpoint;
use super::error::NetworksError;
use super::network::Network;

/// The name that was asked for, or the first of the network's names that no other place has.
pub(super) fn name_interface(endpoint: &mut Endpoint, network: &Network, others: &[&str]) {
    if endpoint.interface.is_empty() {
        let prefix = &network.options.prefix;
        let mut names = (0u32..).map(|number| format!("{prefix}{number}"));
        endpoint.interface =
            names.find(|name| !others.contains(&name.as_str())).expect("there is always one more number");
    }
}

/// Joins a cable, a new one where none is given, to the network's bridge and gives its inner end what the place says.
pub(super) fn plug(
    route: &Route,
    network: &Network,
    sandbox: &Sandbox,
    cable: Option<Cable>,
    endpoint: &mut Endpoint,
    is_out: bool,
) -> Result<(), NetworksError> {
    let missing = || NetworksError::Bridge(format!("the network {} has none", network.record.name));
    let bridge = network.bridge().ok_or_else(missing)?;
    let mut cable = match cable {
        Some(cable) => cable,
        None => Cable::plug(route, &network::Bridge::none(bridge.mtu), sandbox)?,
    };
    endpoint.cable.clone_from(&cable.name);
    // First, so that the neighbours hear of the new address.
    cable.join(route, &bridge, !network.options.connected)?;
    configure(network, sandbox, &mut cable, endpoint, is_out)
}

pub(super) fn configure(
    network: &Network,
    sandbox: &Sandbox,
    cable: &mut Cable,
    endpoint: &mut Endpoint,
    is_out: bool,
) -> Result<(), NetworksError> {
    endpoint.cable.clone_from(&cable.name);
    let place = network::Endpoint {
        interface: endpoint.interface.clone(),
        address: endpoint.address,
        mac: endpoint.mac.parse().unwrap_or_else(|_| network::Mac::random()),
        mtu: network.options.mtu,
        gateway: endpoint.gateway.filter(|_| is_out),
    };
    Ok(cable.configure(sandbox, &place)?)
}

/// Lets the way out lead over this place, where it has one.
pub(super) fn turn(sandbox: &Sandbox, out: Option<&Endpoint>) -> Result<(), NetworksError> {
    let over = |out: &Endpoint, gateway: Ipv4Addr| {
        network::turn_default_route(sandbox, &out.interface, gateway).map_err(NetworksError::from)
    };
    out.and_then(|out| Some((out, out.gateway?))).map_or(Ok(()), |(out, gateway)| over(out, gateway))
}
