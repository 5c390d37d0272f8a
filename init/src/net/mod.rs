//! The uplink: finding the card, giving it an address, keeping the lease. It runs inside the keeper's loop and
//! never holds up the boot; what goes wrong is a line on the console and is tried again.
//!
//! Networks of containers are not here: they are the engine's.

mod card;
mod dhcp;
pub mod link;
mod resolver;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use contract::paths::RESOLV_CONF;
use contract::settings::{Backend, Net, Settings};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};

use crate::messages::say;
use card::Card;
use dhcp::{Act, Client, Lease};
use wire::Options;

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
const CLASS_NET: &str = "/sys/class/net";

/// Why the uplink has no configuration.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The kernel refused a setting.
    #[error("network card {card}: cannot {what}")]
    Configure {
        /// The card's name.
        card: String,
        /// What was tried.
        what: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// The resolver configuration could not be written.
    #[error("cannot write {RESOLV_CONF}")]
    Resolver {
        /// From the file system.
        source: io::Error,
    },
}

/// A running DHCP exchange.
#[derive(Debug)]
struct Exchange {
    client: Client,
    socket: UdpSocket,
}

/// See the module.
#[derive(Debug)]
pub struct Uplink {
    net: Net,
    backend: Backend,
    keep_hostname: bool,
    links: Option<OwnedFd>,
    card: Option<Card>,
    exchange: Option<Exchange>,
}

impl Uplink {
    /// Begins to look for the card.
    pub fn new(settings: &Settings) -> Uplink {
        let links = match settings.net {
            Net::None => None,
            _ => link::watch().map_err(|error| say!("network: cannot watch for cards: {error}")).ok(),
        };
        let keep_hostname = settings.hostname.is_some();
        let (net, backend) = (settings.net, settings.backend);
        Uplink { net, backend, keep_hostname, links, card: None, exchange: None }
    }

    /// Readable when a card came or changed; `None` when nobody waits for one.
    pub fn links(&self) -> Option<BorrowedFd<'_>> {
        self.links.as_ref().map(AsFd::as_fd)
    }

    /// Readable when a DHCP packet came.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.exchange.as_ref().map(|exchange| exchange.socket.as_fd())
    }

    /// When [`Uplink::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.exchange.as_ref().map(|exchange| exchange.client.deadline())
    }

    /// Looks for the card and begins to configure it. Once it is found, cards are watched no more.
    pub fn look(&mut self, now: Instant) {
        if let Some(links) = &self.links {
            link::drain(links.as_fd());
        }
        if self.card.is_some() || self.net == Net::None {
            return;
        }
        let Some(card) = card::uplink(Path::new(CLASS_NET), self.backend) else { return };
        self.card = Some(card.clone());
        self.links = None;
        if let Err(error) = self.begin(&card, now) {
            say!("{}", crate::messages::chain(&error));
        }
    }

    fn begin(&mut self, card: &Card, now: Instant) -> Result<(), NetError> {
        let failed = |what| move |source| NetError::Configure { card: card.name.clone(), what, source };
        accept_router_advertisements(&card.name);
        link::up(card.index, None).map_err(failed("switch it on"))?;
        match self.net {
            Net::None => Ok(()),
            Net::Static { address, prefix, gateway, dns } => {
                let options = Options { router: Some(gateway), dns: vec![dns], ..Options::default() };
                self.apply(&Lease { address, prefix, options })
            }
            Net::Dhcp => {
                let socket = dhcp_socket(&card.name).map_err(failed("open a DHCP socket"))?;
                let client = Client::new(card.mac, seed(card), now);
                self.exchange = Some(Exchange { client, socket });
                Ok(())
            }
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now: Instant) {
        if let Some(exchange) = &mut self.exchange {
            let acts = exchange.client.tick(now);
            self.perform(acts);
        }
    }

    /// Packets came.
    pub fn receive(&mut self, now: Instant) {
        let mut bytes = [0; 1500];
        while let Some(exchange) = &mut self.exchange {
            let Ok((length, from)) = exchange.socket.recv_from(&mut bytes) else { return };
            if from.port() == SERVER_PORT {
                let acts = exchange.client.receive(&bytes[..length], now);
                self.perform(acts);
            }
        }
    }

    fn perform(&mut self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Send { bytes, to } => self.send(&bytes, to),
                Act::Apply(lease) => match self.apply(&lease) {
                    Ok(()) => say!("network: {}/{} by DHCP", lease.address, lease.prefix),
                    Err(error) => say!("{}", crate::messages::chain(&error)),
                },
                Act::Lost(lease) => self.lose(&lease),
            }
        }
    }

    /// A packet that cannot be sent (no carrier yet) is lost like any other: the client asks again.
    fn send(&self, bytes: &[u8], to: Option<Ipv4Addr>) {
        if let Some(exchange) = &self.exchange {
            let to = SocketAddrV4::new(to.unwrap_or(Ipv4Addr::BROADCAST), SERVER_PORT);
            let _ = exchange.socket.send_to(bytes, to);
        }
    }

    fn apply(&self, lease: &Lease) -> Result<(), NetError> {
        let Some(card) = &self.card else { return Ok(()) };
        let failed = |what| move |source| NetError::Configure { card: card.name.clone(), what, source };
        let options = &lease.options;
        // An MTU below IPv4's least (RFC 791) would switch the protocol off.
        let mtu = options.mtu.filter(|mtu| *mtu >= 576);
        link::up(card.index, mtu).map_err(failed("set the mtu"))?;
        link::add_address(card.index, lease.address, lease.prefix).map_err(failed("set the address"))?;
        for (destination, prefix, gateway) in routes(options) {
            link::set_route(card.index, destination, prefix, gateway).map_err(failed("set a route"))?;
        }
        resolver::write(Path::new(RESOLV_CONF), &options.dns, options.domain.as_deref())
            .map_err(|source| NetError::Resolver { source })?;
        if let Some(name) = options.host_name.as_ref().filter(|_| !self.keep_hostname) {
            let short = name.split('.').next().unwrap_or(name);
            rustix::system::sethostname(short.as_bytes())
                .map_err(|e| failed("set the host name")(e.into()))?;
        }
        Ok(())
    }

    fn lose(&self, lease: &Lease) {
        let Some(card) = &self.card else { return };
        say!("network: {} is no longer ours", lease.address);
        if let Err(error) = link::remove_address(card.index, lease.address, lease.prefix) {
            say!("network: cannot remove {}: {error}", lease.address);
        }
    }
}

/// 2: even when the engine makes this machine a router (Documentation/networking/ip-sysctl). All other cards leave it
/// at 0. Without IPv6 in the kernel there is no such file, and nothing to accept.
fn accept_router_advertisements(card: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{card}/accept_ra");
    if Path::new(&path).exists()
        && let Err(error) = std::fs::write(&path, "2")
    {
        say!("network card {card}: no IPv6 by router advertisement: {error}");
    }
}

/// RFC 3442: classless routes replace the router. A link's own routes come first, for gateways behind them.
fn routes(options: &Options) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
    if options.routes.is_empty() {
        return options.router.map(|router| (Ipv4Addr::UNSPECIFIED, 0, router)).into_iter().collect();
    }
    let mut routes = options.routes.clone();
    routes.sort_by_key(|(_, _, gateway)| !gateway.is_unspecified());
    routes
}

/// Bound to the card, so that it works before there is an address or a route.
fn dhcp_socket(card: &str) -> io::Result<UdpSocket> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classless_routes_replace_the_router() {
        let router = Some(Ipv4Addr::new(10, 0, 0, 1));
        let mut options = Options { router, ..Options::default() };
        assert_eq!(routes(&options), [(Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(10, 0, 0, 1))]);
        let gateway = Ipv4Addr::new(10, 0, 0, 9);
        options.routes = vec![(Ipv4Addr::UNSPECIFIED, 0, gateway), (gateway, 32, Ipv4Addr::UNSPECIFIED)];
        assert_eq!(
            routes(&options),
            [(gateway, 32, Ipv4Addr::UNSPECIFIED), (Ipv4Addr::UNSPECIFIED, 0, gateway)]
        );
    }
}
