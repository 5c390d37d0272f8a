//! How containers reach the host: addresses of the machine's own that stand for it.
//!
//! ```text
//!   container ── 192.168.65.254, any TCP port ──► carrier ═══ a stream that the host dialled ═══► that port of the host's loopback
//!   container ── 192.168.65.7, port 53 ──► engine: the host's names; others are asked of the host's resolver
//! ```
//!
//! Both are Docker Desktop's. Where no host program is they are nobody's.

use std::net::Ipv4Addr;

/// What [`NAMES`] lead to.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 65, 254);

/// Where `carrier` listens at [`ADDRESS`]. The packet filter turns every other TCP port of the address to this one.
pub const CARRIER_PORT: u16 = 2371;

/// The port of [`ADDRESS`] at which the host's own resolver answers, as DNS over TCP, whoever else has the number there.
pub const RESOLVER_PORT: u16 = 53;

/// Whom containers ask for names that are on no network with names of its own.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 65, 7);

/// What the host is called.
pub const NAMES: [&str; 2] = ["host.docker.internal", "gateway.docker.internal"];
