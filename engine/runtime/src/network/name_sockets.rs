//! The sockets at which a sandbox's name server is asked.
//!
//! Containers ask 127.0.0.11, port 53. The sockets have ports of their own, and the sandbox's packet filter turns what
//! goes to 53 to them: bound to 53 itself they would keep a container's own name server from binding 0.0.0.0:53.
//! Sockets belong to the namespace in which they were made, so whoever has them serves them from anywhere. They hold
//! the namespace as long as they are open.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use super::firewall::Transport;
use super::netlink::NetworkError;
use super::nft::{Expression, Header, Hook, Meta, Register, Transaction};
use super::sandbox::{self, Sandbox};

/// Where containers ask for names, as Docker has it.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

const TABLE: &str = "pinnace-names";

/// Both sockets of one sandbox; neither blocks.
#[derive(Debug)]
pub struct NameSockets {
    /// For UDP.
    pub udp: OwnedFd,
    /// Listens for TCP.
    pub tcp: OwnedFd,
}

impl NameSockets {
    /// Makes the sockets in a sandbox and leads port 53 to them.
    ///
    /// # Errors
    /// No permission, no memory, or a kernel without the modules of address translation.
    pub fn open(sandbox: &Sandbox) -> Result<NameSockets, NetworkError> {
        sandbox::apart(|| {
            sandbox::enter(sandbox.netns())?;
            let any = SocketAddrV4::new(NAME_SERVER, 0);
            let (udp, tcp) = (UdpSocket::bind(any)?, TcpListener::bind(any)?);
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            lead(udp.local_addr()?.port(), tcp.local_addr()?.port())?;
            Ok(NameSockets { udp: udp.into(), tcp: tcp.into() })
        })
    }
}

/// Turns port 53 of the name server to these ports, in the calling thread's network namespace.
fn lead(udp: u16, tcp: u16) -> Result<(), NetworkError> {
    const DESTINATION: i32 = -100;
    const DOMAIN: [u8; 2] = [0, 53];
    const NFPROTO_IPV4: u8 = 2;
    let (a, b) = (Register(0), Register(1));
    let mut change = Transaction::new(TABLE);
    change.replace_table();
    change.chain("output", "nat", Hook::Output, DESTINATION);
    for (transport, port) in [(Transport::Udp, udp), (Transport::Tcp, tcp)] {
        let rule = [
            Expression::Meta(Meta::Family, a),
            Expression::Equal(a, vec![NFPROTO_IPV4]),
            Expression::Payload(Header::Network, 16, 4, a),
            Expression::Equal(a, NAME_SERVER.octets().to_vec()),
            Expression::Meta(Meta::Transport, a),
            Expression::Equal(a, vec![transport.number()]),
            Expression::Payload(Header::Transport, 2, 2, a),
            Expression::Equal(a, DOMAIN.to_vec()),
            Expression::Value(a, NAME_SERVER.octets().to_vec()),
            Expression::Value(b, port.to_be_bytes().to_vec()),
            Expression::Redirect(a, b),
        ];
        change.rule("output", "names", &rule);
    }
    change.commit()
}
