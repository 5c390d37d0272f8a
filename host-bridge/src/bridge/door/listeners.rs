//! The host's sockets of one published port.

use contract::carrier::Protocol;
use contract::door::{HostAddress, Publication};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::{TcpListener, UdpSocket};

/// Connections that may wait.
const BACKLOG: i32 = 1024;
/// Numbers that are tried until one is free for both kinds of addresses.
const TRIES: usize = 50;

/// Of one kind, each for another kind of address.
pub enum Sockets {
    /// They listen.
    Tcp(Vec<TcpListener>),
    /// They are bound.
    Udp(Vec<UdpSocket>),
}

/// Opens the first number of those that will do. Returns it.
pub fn open(asked: &Publication) -> io::Result<(u16, Sockets)> {
    let mut failed = io::Error::from(io::ErrorKind::AddrInUse);
    let numbers: Box<dyn Iterator<Item = u16>> = match asked.first {
        0 => Box::new(std::iter::repeat_n(0, TRIES)),
        first => Box::new(first..=asked.last),
    };
    for number in numbers {
        match open_one(asked.protocol, asked.host, number) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => failed = error,
            opened => return opened,
        }
    }
    Err(failed)
}

fn open_one(protocol: Protocol, host: HostAddress, number: u16) -> io::Result<(u16, Sockets)> {
    let addresses = match host {
        HostAddress::One(address) => vec![address],
        HostAddress::All => vec![IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()],
    };
    let (mut sockets, mut port): (Vec<Socket>, u16) = (Vec::new(), number);
    for address in addresses {
        match bind(protocol, SocketAddr::new(address, port)) {
            Ok(socket) => {
                port = socket.local_addr()?.as_socket().map_or(port, |address| address.port());
                sockets.push(socket);
            }
            // A host without IPv6 has all its addresses.
            Err(_) if address.is_ipv6() && !sockets.is_empty() && !has_ipv6() => {}
            Err(error) => return Err(error),
        }
    }
    Ok((port, registered(protocol, sockets)?))
}

fn bind(protocol: Protocol, address: SocketAddr) -> io::Result<Socket> {
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Elsewhere this lets connections of an earlier life rest; on Windows it would let two listen.
    #[cfg(unix)]
    if protocol == Protocol::Tcp {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if protocol == Protocol::Tcp {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

fn has_ipv6() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

fn registered(protocol: Protocol, sockets: Vec<Socket>) -> io::Result<Sockets> {
    let sockets = sockets.into_iter();
    Ok(match protocol {
        Protocol::Tcp => Sockets::Tcp(
            sockets.map(|socket| TcpListener::from_std(socket.into())).collect::<Result<_, _>>()?,
        ),
        Protocol::Udp => {
            Sockets::Udp(sockets.map(|socket| UdpSocket::from_std(socket.into())).collect::<Result<_, _>>()?)
        }
    })
}
