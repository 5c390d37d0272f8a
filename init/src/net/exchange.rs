//! A DHCP client and the sockets it speaks through.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};
use rustix::net::RecvFlags;

use crate::messages::say;

use super::card::Card;
use super::dhcp::{Client, Moment};
use super::wire;

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

/// Longer than a frame that a card takes unless its MTU was raised.
const PACKET_MAX: usize = 2048;

/// See the module.
#[derive(Debug)]
pub struct Exchange {
    /// Decides what is said.
    pub client: Client,
    /// Speaks, and hears once the card has its address.
    socket: UdpSocket,
    /// Hears while it has none: the kernel hands to no UDP socket what a server sends to the address that it is only
    /// about to give. The question asks for a broadcast, which not every server cares for.
    ears: Option<OwnedFd>,
}

impl Exchange {
    /// One for `card`, whose first question is due.
    pub fn begin(card: &Card, now: Moment) -> io::Result<Exchange> {
        let client = Client::new(card.mac, seed(card), now);
        let mut exchange = Exchange { client, socket: udp_socket(&card.name)?, ears: None };
        exchange.prick_ears(card);
        Ok(exchange)
    }

    /// Both, as far as they are open.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [Some(self.socket.as_fd()), self.ears.as_ref().map(AsFd::as_fd)].into_iter().flatten()
    }

    /// Listens to all that the card hears as long as it has no address. Without the right to, broadcasts must do.
    pub fn prick_ears(&mut self, card: &Card) {
        if self.client.lease().is_some() {
            self.ears = None;
        } else if self.ears.is_none() {
            let open = sys::link_layer::udp_packets(card.index, CLIENT_PORT);
            self.ears = open.map_err(|error| say!("network: only broadcasts are heard: {error}")).ok();
        }
    }

    /// The next packet that a server sent. What comes through both sockets is received twice, which the client knows
    /// from its state.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut bytes = [0; PACKET_MAX];
        while let Ok((length, from)) = self.socket.recv_from(&mut bytes) {
            if from.port() == SERVER_PORT {
                return Some(bytes[..length].to_vec());
            }
        }
        let (length, _) = rustix::net::recv(self.ears.as_ref()?, &mut bytes, RecvFlags::DONTWAIT).ok()?;
        Some(wire::udp_payload(&bytes[..length], SERVER_PORT).unwrap_or_default().to_vec())
    }

    /// A packet that cannot be sent (no carrier yet) is lost like any other: the client asks again.
    pub fn send(&self, bytes: &[u8], to: Option<Ipv4Addr>) {
        let to = SocketAddrV4::new(to.unwrap_or(Ipv4Addr::BROADCAST), SERVER_PORT);
        let _ = self.socket.send_to(bytes, to);
    }
}

/// Bound to the card, so that it works before there is an address or a route.
fn udp_socket(card: &str) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::Broadcast, &true)?;
    setsockopt(&socket, sockopt::BindToDevice, &card.into())?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, CLIENT_PORT))?;
    Ok(socket.into())
}

/// Differs between cards and boots; nothing depends on its being hard to guess, so it does not wait for entropy.
fn seed(card: &Card) -> u32 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let mac = card.mac.iter().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
    mac ^ (time.tv_nsec as u32) ^ (time.tv_sec as u32).rotate_left(16)
}
