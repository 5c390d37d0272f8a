//! Networks of containers on one host: Linux bridges, veth pairs, network namespaces and nftables.
//!
//! ```text
//!      outside ── eth0 ── routing + nftables ── docker0 (Bridge) ─┬─ veth… ══ eth0 in a Sandbox
//!                         (Firewall)                              └─ veth… ══ eth0 in a Sandbox
//!                                                                   (Cable)
//! ```
//!
//! A [`Sandbox`] is a network namespace that lives by its descriptor only: nothing is bind-mounted, so nothing is
//! left when the last process and the last descriptor are gone, however they went. The veth pair dies with it.
//! What is slow (a namespace, a veth pair) is made ahead by [`Ready`]'s [`Stock`]; a start only gives it
//! its addresses.
//!
//! All of it is synchronous: the kernel works netlink requests off inside the system call. Addresses
//! ([`Addresses`]) and file contents ([`files`]) are pure. It holds no state of containers and decides nothing.

mod address;
mod bridge;
mod cable;
pub mod files;
mod firewall;
mod link;
mod message;
mod name_sockets;
mod netlink;
mod nft;
mod sandbox;
mod stock;

#[cfg(test)]
mod tests;

pub use address::{AddressError, Addresses, Mac, MacError};
pub use bridge::{Bridge, give_loopback};
pub use cable::{Cable, Endpoint, turn_default_route};
pub use firewall::{Firewall, Host, Protected, Published, Subnet, Transport};
pub use link::Route;
pub use name_sockets::{NAME_SERVER, NameSockets};
pub use netlink::NetworkError;
pub use sandbox::Sandbox;
pub use stock::{Loose, Ready, Stock};
