//! An interface of a sandbox that shares an interface of the machine's, its parent: macvlan, with a hardware address of its
//! own, and ipvlan, with the parent's. Neither meets the machine's routing and packet filter.

use std::os::fd::{AsFd, AsRawFd};

use rand::RngExt;

use super::address::Mac;
use super::interface::Interface;
use super::link::{self, LinkHeader, Route, attribute};
use super::message::{Batch, Message, flags};
use super::netlink::NetworkError;
use super::parent::Parent;
use super::sandbox::Sandbox;

/// Whom a macvlan interface reaches (`MACVLAN_MODE_*` of linux/if_link.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Nobody on the same parent.
    Private = 1,
    /// Those on the same parent by way of the switch outside.
    Vepa = 2,
    /// Those on the same parent directly.
    Bridge = 4,
    /// It has the parent alone, with its hardware address.
    Passthru = 8,
}

/// How an ipvlan interface passes packets on (`IPVLAN_MODE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanMode {
    /// Frames: the parent's neighbours are its own.
    L2 = 0,
    /// Packets, by the parent's routes, without broadcasts.
    L3 = 1,
    /// The same, and the machine's packet filter sees them.
    L3s = 2,
}

/// Whom an ipvlan interface reaches (`IPVLAN_F_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanFlag {
    /// Those on the same parent directly.
    Bridge = 0,
    /// Nobody on the same parent.
    Private = 1,
    /// Those on the same parent by way of the switch outside.
    Vepa = 2,
}

/// The two kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Child {
    /// With a hardware address of its own.
    Macvlan(MacvlanMode),
    /// With the parent's hardware address.
    Ipvlan(IpvlanMode, IpvlanFlag),
}

impl Child {
    /// Makes the interface `name` in the sandbox, on a parent among the links of `route`. It is down. A macvlan has the
    /// hardware address `mac`, but the parent's in passthru mode.
    ///
    /// # Errors
    /// What the kernel refuses: it has no such interfaces, or the parent is another's alone.
    pub fn make(
        self,
        route: &Route,
        parent: &Parent,
        sandbox: &Sandbox,
        name: &str,
        mac: Option<Mac>,
    ) -> Result<Interface, NetworkError> {
        link::check_name(name)?;
        // Before Linux 6.13 a name must be free among the machine's interfaces too, and theirs is often eth0.
        let first = format!("child{:07x}", rand::rng().random_range(0..0x1000_0000u32));
        let namespace = sandbox.netns().as_fd().as_raw_fd().cast_unsigned();
        let new = flags::CREATE | flags::EXCLUSIVE;
        let mut batch = Batch::default();
        batch.add("making an interface", link::NEW_LINK, new, &LinkHeader::default().bytes(), |a| {
            a.text(attribute::NAME, &first)
                .number(attribute::PARENT, parent.index)
                .number(attribute::NAMESPACE_FD, namespace);
            if let Some(mac) = mac {
                a.bytes(attribute::ADDRESS, &mac.octets());
            }
            a.nested(attribute::LINK_INFO, |a| self.describe(a))
        });
        route.tell(&mut batch)?;
        let made = sandbox.route().find(&first)?;
        let made = made.ok_or(NetworkError::NoAnswer { purpose: "looking up the new interface" })?;
        let mut batch = Batch::default();
        batch.add("naming the interface", link::SET_LINK, 0, &LinkHeader::of(made.index).bytes(), |a| {
            a.text(attribute::NAME, name)
        });
        sandbox.route().tell(&mut batch).inspect_err(|_| drop(sandbox.route().delete(made.index)))?;
        Ok(Interface { index: made.index, name: name.to_owned() })
    }

    /// `IFLA_MACVLAN_MODE` is a number of 32 bits, `IFLA_IPVLAN_MODE` and `IFLA_IPVLAN_FLAGS` have 16.
    fn describe(self, a: &mut Message) -> &mut Message {
        const MODE: u16 = 1;
        const FLAGS: u16 = 2;
        match self {
            Child::Macvlan(mode) => {
                a.text(attribute::KIND, "macvlan").nested(attribute::DATA, |a| a.number(MODE, mode as u32))
            }
            Child::Ipvlan(mode, flag) => a.text(attribute::KIND, "ipvlan").nested(attribute::DATA, |a| {
                a.bytes(MODE, &(mode as u16).to_ne_bytes()).bytes(FLAGS, &(flag as u16).to_ne_bytes())
            }),
        }
    }
}
