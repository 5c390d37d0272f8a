//! The host as containers see it, where the machine has one: see [`contract::host`].

use std::net::IpAddr;

use contract::host::{ADDRESS, CARRIER_PORT, NAME_SERVER, NAMES};
use ipnet::{IpNet, Ipv4Net};
use runtime::network;

use super::gateway;

/// A host whose services containers reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    barred: Vec<IpNet>,
}

impl Host {
    /// Of the machine's configuration. What is no network there is told in the log.
    pub fn new(config: &contract::config::Host) -> Host {
        let read = |text: &String| match text.parse() {
            Ok(net) => Some(net),
            Err(error) => {
                tracing::error!(network = text, %error, "the host is not kept from containers there");
                None
            }
        };
        Host { barred: config.barred.iter().filter_map(read).collect() }
    }

    /// What the packet filter has to know.
    pub(super) fn road(&self) -> network::Host {
        network::Host {
            address: ADDRESS,
            listener: CARRIER_PORT,
            name_server: NAME_SERVER,
            barred: self.barred.clone(),
        }
    }
}

/// What the machine itself has of the addresses that networks could be given.
pub(super) fn own(host: Option<&Host>) -> Vec<IpNet> {
    let own = host.map(|_| [ADDRESS, NAME_SERVER]);
    own.into_iter().flatten().map(|address| IpNet::V4(Ipv4Net::from(address))).collect()
}

/// Whether the host is called so; `name` is in lower case.
pub(super) fn is_called(name: &str) -> bool {
    NAMES.contains(&name)
}

/// What `host-gateway` stands for.
pub(super) fn address(host: Option<&Host>) -> IpAddr {
    host.map_or_else(|| gateway().addr(), |_| ADDRESS).into()
}
