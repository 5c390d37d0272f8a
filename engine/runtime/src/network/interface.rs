//! A container's end of whatever connects it: an interface in a sandbox, with its name, addresses and way out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::address::Mac;
use super::bridge::{add_address, add_address_6};
use super::link::{self, AF_INET, AF_INET6, LinkHeader, attribute};
use super::message::{Batch, flags};
use super::netlink::NetworkError;
use super::sandbox::Sandbox;

/// Where packets for everywhere go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit<A> {
    /// To this neighbour.
    Via(A),
    /// Out of the interface as they are: whatever is behind it knows the way.
    Link,
}

impl<A: Into<IpAddr>> Exit<A> {
    fn neighbour(self) -> Option<IpAddr> {
        match self {
            Exit::Via(gateway) => Some(gateway.into()),
            Exit::Link => None,
        }
    }
}

/// What an interface in a sandbox becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name in the sandbox, for example `eth0`.
    pub interface: String,
    /// IPv4 address with the length of its subnet.
    pub address: Option<Ipv4Net>,
    /// Hardware address; the one it has where `None`.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes; the one it has where `None`.
    pub mtu: Option<u32>,
    /// Default route; `None` for an internal network or where another endpoint has it.
    pub exit: Option<Exit<Ipv4Addr>>,
    /// IPv6 address with the length of its subnet; without one the interface has no IPv6 at all.
    pub ipv6: Option<Ipv6Net>,
    /// Default route of IPv6.
    pub exit_6: Option<Exit<Ipv6Addr>>,
    /// Addresses of the link alone, beside those of the network.
    pub link_local: Vec<IpNet>,
}

/// An interface in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its number there.
    pub index: u32,
    pub(super) name: String,
}

impl Interface {
    /// Gives it its name and addresses, brings it up and sets the default route: one system call, and one more for IPv6.
    ///
    /// # Errors
    /// An invalid name, or what the kernel refuses.
    pub fn configure(&mut self, sandbox: &Sandbox, endpoint: &Endpoint) -> Result<(), NetworkError> {
        link::check_name(&endpoint.interface)?;
        let index = self.index;
        let mut batch = Batch::default();
        if self.name != endpoint.interface {
            rename(&mut batch, index, &endpoint.interface);
        }
        let local = endpoint.link_local.iter().filter_map(|net| match net {
            IpNet::V4(net) => Some(*net),
            IpNet::V6(_) => None,
        });
        endpoint.address.into_iter().chain(local).for_each(|net| add_address(&mut batch, index, net));
        // After the IP address: the neighbours are then told of the new hardware address at once (arp_notify).
        batch.add("bringing up the interface", link::SET_LINK, 0, &LinkHeader::up(index).bytes(), |a| {
            if let Some(mac) = endpoint.mac {
                a.bytes(attribute::ADDRESS, &mac.octets());
            }
            if let Some(mtu) = endpoint.mtu {
                a.number(attribute::MTU, mtu);
            }
            a
        });
        if let Some(exit) = endpoint.exit {
            add_default_route(&mut batch, index, Family::V4, exit.neighbour(), NEW);
        }
        sandbox.route().tell(&mut batch)?;
        self.configure_6(sandbox, endpoint)?;
        endpoint.interface.clone_into(&mut self.name);
        Ok(())
    }

    fn configure_6(&self, sandbox: &Sandbox, endpoint: &Endpoint) -> Result<(), NetworkError> {
        let local = endpoint.link_local.iter().filter_map(|net| match net {
            IpNet::V6(net) => Some(*net),
            IpNet::V4(_) => None,
        });
        let addresses: Vec<Ipv6Net> = endpoint.ipv6.into_iter().chain(local).collect();
        if addresses.is_empty() {
            return Ok(());
        }
        // An address of the link alone does not make an IPv6 interface of one whose network has none.
        if endpoint.ipv6.is_some() {
            sandbox.allow_ipv6(&endpoint.interface)?;
        }
        let mut batch = Batch::default();
        addresses.into_iter().for_each(|net| add_address_6(&mut batch, self.index, net));
        if let Some(exit) = endpoint.exit_6 {
            add_default_route(&mut batch, self.index, Family::V6, exit.neighbour(), NEW);
        }
        sandbox.route().tell(&mut batch)
    }

    /// Removes the interface of that name from a sandbox that lives on, with whatever it is the end of; fine where there
    /// is none.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn remove(sandbox: &Sandbox, name: &str) -> Result<(), NetworkError> {
        let found = sandbox.route().find(name)?;
        found.map_or(Ok(()), |link| sandbox.route().delete(link.index))
    }
}

/// Kernels before 6.2 rename an interface only while it is down.
fn rename(batch: &mut Batch, index: u32, name: &str) {
    batch.add("taking down the interface", link::SET_LINK, 0, &LinkHeader::down(index).bytes(), |a| a);
    batch.add("naming the interface", link::SET_LINK, 0, &LinkHeader::of(index).bytes(), |a| {
        a.text(attribute::NAME, name)
    });
    batch.add("bringing up the interface", link::SET_LINK, 0, &LinkHeader::up(index).bytes(), |a| a);
}

/// Lets the default route of IPv4 lead over this interface, in the place of the one that there is.
///
/// # Errors
/// There is no such interface, or what the kernel refuses.
pub fn turn_default_route(
    sandbox: &Sandbox,
    interface: &str,
    exit: Exit<Ipv4Addr>,
) -> Result<(), NetworkError> {
    turn(sandbox, interface, Family::V4, exit.neighbour())
}

/// The same for IPv6.
///
/// # Errors
/// As [`turn_default_route`].
pub fn turn_default_route_6(
    sandbox: &Sandbox,
    interface: &str,
    exit: Exit<Ipv6Addr>,
) -> Result<(), NetworkError> {
    turn(sandbox, interface, Family::V6, exit.neighbour())
}

fn turn(
    sandbox: &Sandbox,
    interface: &str,
    family: Family,
    gateway: Option<IpAddr>,
) -> Result<(), NetworkError> {
    let link = sandbox.route().find(interface)?;
    let link = link.ok_or(NetworkError::NoAnswer { purpose: "looking up the way out" })?;
    let mut batch = Batch::default();
    add_default_route(&mut batch, link.index, family, gateway, flags::CREATE | flags::REPLACE);
    sandbox.route().tell(&mut batch)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

const NEW: u16 = flags::CREATE | flags::EXCLUSIVE;

/// `struct rtmsg` of a unicast route to everywhere, in the main table. What has no gateway is a neighbour itself
/// (`RT_SCOPE_LINK`).
fn add_default_route(batch: &mut Batch, index: u32, family: Family, gateway: Option<IpAddr>, new: u16) {
    const MAIN: u8 = 254;
    const BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    const EVERYWHERE: u8 = 0;
    const NEIGHBOURS: u8 = 253;
    const OUT: u16 = 4;
    const GATEWAY: u16 = 5;
    let scope = if gateway.is_none() && family == Family::V4 { NEIGHBOURS } else { EVERYWHERE };
    let family = match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    };
    let header = [family, 0, 0, 0, MAIN, BOOT, scope, UNICAST, 0, 0, 0, 0];
    batch.add("setting the default route", link::NEW_ROUTE, new, &header, |a| {
        match gateway {
            Some(IpAddr::V4(gateway)) => a.bytes(GATEWAY, &gateway.octets()),
            Some(IpAddr::V6(gateway)) => a.bytes(GATEWAY, &gateway.octets()),
            None => a,
        }
        .number(OUT, index)
    });
}
