//! Networks of containers on one host: Linux bridges, veth pairs, network namespaces and nftables.
//!
//! ```text
//!      outside ── eth0 ── routing + nftables ── docker0 (Bridge) ─┬─ veth… ══ eth0 in a Sandbox
//!                         (Firewall)                              └─ veth… ══ eth0 in a Sandbox
//!                                                                   (Cable)
//! ```
//!
//! Instead of a cable a sandbox can have a [`Child`] of an interface of the machine's, its [`Parent`]: no bridge, no packet
//! filter, a place in the network that the parent is in.
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
mod child;
pub mod files;
mod firewall;
mod interface;
mod link;
mod message;
mod name_sockets;
mod netlink;
mod nft;
mod parent;
mod sandbox;
mod stock;

#[cfg(test)]
mod tests;

pub use address::{AddressError, Addresses, Mac, MacError};
pub use bridge::{Bridge, give_loopback};
pub use cable::Cable;
pub use child::{Child, IpvlanFlag, IpvlanMode, MacvlanMode};
pub use firewall::{Firewall, Host, Protected, Published, Subnet, Transport};
pub use interface::{Endpoint, Exit, Interface, turn_default_route, turn_default_route_6};
pub use link::{Route, remove_stale};
pub use name_sockets::{NAME_SERVER, NameSockets};
pub use netlink::NetworkError;
pub use parent::Parent;
pub use rustix::io::Errno;
pub use sandbox::Sandbox;
pub use stock::{Loose, Ready, Stock};
