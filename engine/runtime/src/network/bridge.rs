//! The bridge of a network: the switch its containers are plugged into, and their gateway.

use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv6Net};
use rustix::io::Errno;

use super::address::Mac;
use super::link::{self, AF_INET, AF_INET6, Link, LinkHeader, OURS, Route, attribute};
use super::message::{Batch, Message, flags};
use super::netlink::NetworkError;

/// A bridge in the engine's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Name of the interface.
    pub name: String,
    /// Number of the interface.
    pub index: u32,
    /// Largest packet, in bytes; veth pairs take it over.
    pub mtu: u32,
}

impl Bridge {
    /// None yet: a cable plugged into it is joined to one later.
    #[must_use]
    pub fn none(mtu: u32) -> Bridge {
        Bridge { name: String::new(), index: 0, mtu }
    }

    /// Makes the bridge, or takes the one that is there; gives it `gateway` as address, where there is one, and brings it
    /// up.
    ///
    /// `gateway` is the address with the length of the subnet, for example 172.17.0.1/16; `mtu` is in bytes.
    ///
    /// # Errors
    /// An invalid name, an interface of another kind with this name, or what the kernel refuses.
    pub fn ensure(
        route: &Route,
        name: &str,
        gateway: Option<Ipv4Net>,
        mtu: u32,
    ) -> Result<Bridge, NetworkError> {
        link::check_name(name)?;
        match create(route, name, gateway, mtu) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            done => done?,
        }
        let mut batch = Batch::default();
        batch.add("bringing up the bridge", link::SET_LINK, 0, &LinkHeader::up(0).bytes(), |a| {
            a.text(attribute::NAME, name).number(attribute::MTU, mtu).text(attribute::ALIAS, OURS)
        });
        let found = route.tell_and_find(&mut batch, name)?;
        if found.kind.as_deref() != Some("bridge") {
            let source = std::io::Error::from(Errno::EXIST);
            let detail = Some(format!("{name} is an interface of another kind: remove or rename it"));
            return Err(NetworkError::Refused { purpose: "making the bridge", source, detail });
        }
        gateway.map_or(Ok(()), |gateway| add(route, found.index, gateway))?;
        Ok(Bridge { name: found.name, index: found.index, mtu })
    }

    /// Gives the bridge an IPv6 address as well; fine where it has it. The calling thread is in the bridge's network
    /// namespace.
    ///
    /// # Errors
    /// A kernel without IPv6, or what it refuses.
    pub fn give_ipv6(&self, route: &Route, gateway: Ipv6Net) -> Result<(), NetworkError> {
        super::sandbox::allow_ipv6_here(&self.name)?;
        let mut batch = Batch::default();
        add_address_6(&mut batch, self.index, gateway);
        match route.tell(&mut batch) {
            Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
            done => done,
        }
    }

    /// The bridge with this name, if there is one.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn find(route: &Route, name: &str) -> Result<Option<Bridge>, NetworkError> {
        let found = route.find(name)?.filter(|link| link.kind.as_deref() == Some("bridge"));
        Ok(found.map(|Link { index, name, mtu, .. }| Bridge { name, index, mtu }))
    }

    /// Removes the bridge; fine where it is gone already.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn remove(self, route: &Route) -> Result<(), NetworkError> {
        route.delete(self.index)
    }
}

/// The address of the link is set from the beginning: a bridge without one of its own takes over its ports', and
/// changes it as containers come and go, which spoils their neighbour tables.
fn create(route: &Route, name: &str, gateway: Option<Ipv4Net>, mtu: u32) -> Result<(), NetworkError> {
    let mac = gateway.map_or_else(Mac::random, |gateway| Mac::of_address(gateway.addr()));
    let mut batch = Batch::default();
    let new = flags::CREATE | flags::EXCLUSIVE;
    batch.add("making the bridge", link::NEW_LINK, new, &LinkHeader::default().bytes(), |a| {
        a.text(attribute::NAME, name)
            .bytes(attribute::ADDRESS, &mac.octets())
            .number(attribute::MTU, mtu)
            .nested(attribute::LINK_INFO, |a| a.text(attribute::KIND, "bridge"))
    });
    route.tell(&mut batch)
}

fn add(route: &Route, interface: u32, address: Ipv4Net) -> Result<(), NetworkError> {
    let mut batch = Batch::default();
    add_address(&mut batch, interface, address);
    match route.tell(&mut batch) {
        Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
        done => done,
    }
}

/// Gives the loopback interface an address of the machine's own, where it has not got it.
///
/// # Errors
/// What the kernel refuses.
pub fn give_loopback(route: &Route, address: Ipv4Addr) -> Result<(), NetworkError> {
    /// The first interface of every network namespace (`LOOPBACK_IFINDEX`).
    const LOOPBACK: u32 = 1;
    add(route, LOOPBACK, address.into())
}

/// Adds the request for an address (`struct ifaddrmsg`) with its broadcast address.
pub(super) fn add_address(batch: &mut Batch, index: u32, address: Ipv4Net) {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    const BROADCAST: u16 = 4;
    let mut header = [AF_INET, address.prefix_len(), 0, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let octets = address.addr().octets();
    let new = flags::CREATE | flags::EXCLUSIVE;
    batch.add("setting an address", link::NEW_ADDRESS, new, &header, |a: &mut Message| {
        a.bytes(LOCAL, &octets).bytes(ADDRESS, &octets);
        if address.prefix_len() < 31 {
            a.bytes(BROADCAST, &address.broadcast().octets());
        }
        a
    });
}

/// The same for IPv6. The address is used at once: who else could have it is known here (`IFA_F_NODAD`).
pub(super) fn add_address_6(batch: &mut Batch, index: u32, address: Ipv6Net) {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    const NO_DETECTION: u8 = 2;
    let mut header = [AF_INET6, address.prefix_len(), NO_DETECTION, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let octets = address.addr().octets();
    let new = flags::CREATE | flags::EXCLUSIVE;
    batch.add("setting an IPv6 address", link::NEW_ADDRESS, new, &header, |a: &mut Message| {
        a.bytes(LOCAL, &octets).bytes(ADDRESS, &octets)
    });
}
