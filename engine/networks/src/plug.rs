//! From a place to an interface.

use std::net::IpAddr;

use runtime::network::{self, Cable, Route, Sandbox};

use super::endpoint::Endpoint;
use super::error::NetworksError;
use super::network::Network;

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
    cable.join(route, &bridge, !network.options.connected)?;
    configure(network, sandbox, &mut cable, endpoint, is_out)
}

pub(super) fn configure(
    network: &Network,
    sandbox: &Sandbox,
    cable: &mut Cable,
    endpoint: &mut Endpoint,
    is_out: Out,
) -> Result<(), NetworksError> {
    endpoint.cable.clone_from(&cable.name);
    let place = network::Endpoint {
        interface: endpoint.interface.clone(),
        address: endpoint.address,
        mac: endpoint.mac.parse().unwrap_or_else(|_| network::Mac::random()),
        mtu: network.options.mtu,
        gateway: endpoint.gateway.filter(|_| is_out.ipv4),
        ipv6: endpoint.ipv6,
        gateway_6: endpoint.gateway_6.filter(|_| is_out.ipv6),
    };
    Ok(cable.configure(sandbox, &place)?)
}

/// Lets the ways out lead over these places.
pub(super) fn turn(
    sandbox: &Sandbox,
    out: Option<&Endpoint>,
    out_6: Option<&Endpoint>,
) -> Result<(), NetworksError> {
    let over = |out: &Endpoint, gateway: Option<IpAddr>| {
        let turned = |gateway| network::turn_default_route(sandbox, &out.interface, gateway);
        gateway.map_or(Ok(()), turned)
    };
    out.map_or(Ok(()), |out| over(out, out.gateway.map(IpAddr::V4)))?;
    Ok(out_6.map_or(Ok(()), |out| over(out, out.gateway_6.map(IpAddr::V6)))?)
}
