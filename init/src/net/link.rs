//! Cards, addresses and routes, told to the kernel by rtnetlink(7): one request, one answer.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{BorrowedFd, OwnedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType};

use super::changes::Route;

const NLMSG_ERROR: u16 = 2;
/// RTMGRP_LINK: cards that come, go or change.
const GROUP_LINK: u32 = 1;
/// Longer than any answer without a dump: an error repeats the request.
const ANSWER_MAX: usize = 8192;

/// Index of the loopback interface in every network namespace.
pub const LOOPBACK: u32 = 1;

/// A socket that becomes readable when a card comes or changes.
pub fn watch() -> io::Result<OwnedFd> {
    open(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, GROUP_LINK)
}

/// Throws away what a [`watch`] socket has to tell; a lost message (ENOBUFS) is no harm, since sysfs is read
/// anew.
pub fn drain(socket: BorrowedFd<'_>) {
    let mut bytes = [0u8; ANSWER_MAX];
    loop {
        match rustix::net::recv(socket, &mut bytes, RecvFlags::DONTWAIT) {
            Ok(_) | Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn open(flags: SocketFlags, groups: u32) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::NETLINK,
        SocketType::RAW,
        flags,
        // NETLINK_ROUTE is protocol 0.
        None,
    )?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// Switches the card on; `mtu` where it is given.
pub fn up(card: u32, mtu: Option<u16>) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = card;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.extend(mtu.map(|mtu| LinkAttribute::Mtu(mtu.into())));
    request(RouteNetlinkMessage::SetLink(message), 0)
}

/// Gives the card an address.
pub fn add_address(card: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    request(
        RouteNetlinkMessage::NewAddress(address_message(card, address, prefix)),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

/// Takes an address from the card, and with it the routes that need it.
pub fn remove_address(card: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    request(RouteNetlinkMessage::DelAddress(address_message(card, address, prefix)), 0)
}

fn address_message(card: u32, address: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = card;
    message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
    message.attributes.push(AddressAttribute::Address(IpAddr::V4(address)));
    if prefix < 31 {
        let broadcast = Ipv4Addr::from_bits(address.to_bits() | (u32::MAX >> prefix));
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    message
}

/// Sends what goes to a destination to a gateway; straight to the link where that is unspecified (RFC 3442). The gateway
/// need not be in the card's own subnet: clouds give addresses with prefix 32.
pub fn set_route(card: u32, route: Route) -> io::Result<()> {
    request(RouteNetlinkMessage::NewRoute(route_message(card, route)), NLM_F_CREATE | NLM_F_REPLACE)
}

/// Takes back what [`set_route`] did.
pub fn remove_route(card: u32, route: Route) -> io::Result<()> {
    request(RouteNetlinkMessage::DelRoute(route_message(card, route)), 0)
}

fn route_message(card: u32, (destination, prefix, gateway): Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet,
        destination_prefix_length: prefix,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Dhcp,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Oif(card));
    if prefix > 0 {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(destination)));
    }
    if gateway.is_unspecified() {
        message.header.scope = RouteScope::Link;
    } else {
        message.header.flags = RouteFlags::Onlink;
        message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
    }
    message
}

fn request(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let mut packet = NetlinkMessage::from(message);
    packet.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    packet.header.sequence_number = 1;
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    let socket = open(SocketFlags::CLOEXEC, 0)?;
    rustix::net::send(&socket, &bytes, SendFlags::empty())?;
    let mut answer = [0u8; ANSWER_MAX];
    let (length, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    outcome(&answer[..length])
}

/// An acknowledgement is an error message with number 0, netlink(7).
fn outcome(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|kind| kind.first_chunk()).map(|kind| u16::from_ne_bytes(*kind));
    let number = answer.get(16..20).and_then(|number| number.first_chunk()).map(|n| i32::from_ne_bytes(*n));
    match (kind, number) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(number)) => Err(io::Error::from_raw_os_error(-number)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let answer = |kind: u16, number: i32| {
            let mut bytes = vec![0; 36];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes[16..20].copy_from_slice(&number.to_ne_bytes());
            bytes
        };
        assert!(outcome(&answer(NLMSG_ERROR, 0)).is_ok());
        assert_eq!(outcome(&answer(NLMSG_ERROR, -17)).unwrap_err().raw_os_error(), Some(17));
        assert_eq!(outcome(&answer(3, 0)).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(outcome(&[]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
