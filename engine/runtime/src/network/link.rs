//! rtnetlink: links, addresses and routes of one network namespace, see rtnetlink(7).

use super::message::{self, Batch, Reply, flags};
use super::netlink::{Netlink, NetworkError, Protocol};

/// `RTM_*` of linux/rtnetlink.h.
pub(super) const NEW_LINK: u16 = 16;
pub(super) const DELETE_LINK: u16 = 17;
pub(super) const GET_LINK: u16 = 18;
pub(super) const SET_LINK: u16 = 19;
pub(super) const NEW_ADDRESS: u16 = 20;
pub(super) const NEW_ROUTE: u16 = 24;

/// `IFLA_*` of linux/if_link.h.
pub(super) mod attribute {
    pub(crate) const ADDRESS: u16 = 1;
    pub(crate) const NAME: u16 = 3;
    pub(crate) const MTU: u16 = 4;
    pub(crate) const PARENT: u16 = 5;
    pub(crate) const MASTER: u16 = 10;
    pub(crate) const PROTOCOL_INFO: u16 = 12;
    pub(crate) const LINK_INFO: u16 = 18;
    pub(crate) const ALIAS: u16 = 20;
    pub(crate) const FAMILY_SETTINGS: u16 = 26;
    pub(crate) const NAMESPACE_FD: u16 = 28;
    pub(crate) const SEND_QUEUES: u16 = 31;
    pub(crate) const RECEIVE_QUEUES: u16 = 32;
    /// In `LINK_INFO`.
    pub(crate) const KIND: u16 = 1;
    /// In `LINK_INFO`.
    pub(crate) const DATA: u16 = 2;
    /// In `DATA` of a veth: the other end, with a link header of its own.
    pub(crate) const VETH_PEER: u16 = 1;
    /// In `LINK_INFO` of a bridge port.
    pub(crate) const PORT_KIND: u16 = 4;
    /// In `LINK_INFO` of a bridge port.
    pub(crate) const PORT_DATA: u16 = 5;
    /// In `PORT_DATA` and `PROTOCOL_INFO`.
    pub(crate) const PORT_STATE: u16 = 1;
    /// In `PORT_DATA` and `PROTOCOL_INFO`: whether frames may leave where they came in.
    pub(crate) const PORT_HAIRPIN: u16 = 4;
    /// In `PORT_DATA`: whether the port is kept from the others that are isolated.
    pub(crate) const PORT_ISOLATED: u16 = 33;
    /// In `PORT_DATA` and `PROTOCOL_INFO`.
    pub(crate) const PORT_FLUSH: u16 = 24;
}

const AF_UNSPEC: u8 = 0;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;
pub(super) const AF_BRIDGE: u8 = 7;

/// `struct ifinfomsg`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LinkHeader {
    pub(super) family: u8,
    /// 0 where the name tells which link.
    pub(super) index: u32,
    /// Left as it is where `None`.
    pub(super) up: Option<bool>,
}

impl LinkHeader {
    pub(super) fn of(index: u32) -> LinkHeader {
        LinkHeader { index, ..LinkHeader::default() }
    }

    pub(super) fn up(index: u32) -> LinkHeader {
        LinkHeader { index, up: Some(true), ..LinkHeader::default() }
    }

    pub(super) fn down(index: u32) -> LinkHeader {
        LinkHeader { index, up: Some(false), ..LinkHeader::default() }
    }

    pub(super) fn bytes(self) -> [u8; 16] {
        const UP: u32 = 1;
        let flags = if self.up == Some(true) { UP } else { 0 };
        let changed = if self.up.is_some() { UP } else { 0 };
        let mut bytes = [0; 16];
        bytes[0] = if self.family == 0 { AF_UNSPEC } else { self.family };
        bytes[4..8].copy_from_slice(&self.index.to_ne_bytes());
        bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
        bytes[12..16].copy_from_slice(&changed.to_ne_bytes());
        bytes
    }
}

/// What is told of a link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) kind: Option<String>,
    pub(super) alias: Option<String>,
    pub(super) mtu: u32,
}

/// `IFLA_IFALIAS` of the interfaces of the machine that are made here, so that stale ones are known.
pub(super) const OURS: &str = "pinnace";

impl Link {
    /// Whether it was made here, by this engine or one before it.
    pub(super) fn is_ours(&self) -> bool {
        let is_made = matches!(self.kind.as_deref(), Some("bridge" | "vlan" | "dummy"));
        is_made && self.alias.as_deref() == Some(OURS)
    }

    fn read(reply: &Reply<'_>) -> Option<Link> {
        if reply.kind != NEW_LINK {
            return None;
        }
        let mut link = Link { index: message::u32_at(reply.payload, 4)?, ..Link::default() };
        for (kind, value) in message::attributes(reply.payload.get(16..)?) {
            match kind {
                attribute::NAME => link.name = message::text(value),
                attribute::ALIAS => link.alias = Some(message::text(value)),
                attribute::MTU => link.mtu = message::u32_at(value, 0)?,
                attribute::LINK_INFO => {
                    let mut inner = message::attributes(value);
                    link.kind =
                        inner.find(|(kind, _)| *kind == attribute::KIND).map(|(_, v)| message::text(v));
                }
                _ => {}
            }
        }
        Some(link)
    }
}

/// The links, addresses and routes of one network namespace.
#[derive(Debug)]
pub struct Route(Netlink);

impl Route {
    /// Those of the calling thread's network namespace, whichever thread uses the value later.
    ///
    /// # Errors
    /// No netlink socket.
    pub fn open() -> Result<Route, NetworkError> {
        Netlink::open(Protocol::Route).map(Route)
    }

    pub(super) fn tell(&self, batch: &mut Batch) -> Result<(), NetworkError> {
        self.0.tell(batch)
    }

    /// Sends the batch, whose last request is `GET_LINK`, and returns the link it finds.
    pub(super) fn tell_and_find(&self, batch: &mut Batch, name: &str) -> Result<Link, NetworkError> {
        batch.add("looking up an interface", GET_LINK, 0, &LinkHeader::default().bytes(), |a| {
            a.text(attribute::NAME, name)
        });
        let mut found = None;
        self.0.ask(batch, |reply| found = found.take().or(Link::read(&reply)))?;
        found.ok_or(NetworkError::NoAnswer { purpose: "looking up an interface" })
    }

    /// The link with this name.
    pub(super) fn find(&self, name: &str) -> Result<Option<Link>, NetworkError> {
        match self.tell_and_find(&mut Batch::default(), name) {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.errno() == Some(rustix::io::Errno::NODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every link.
    pub(super) fn links(&self) -> Result<Vec<Link>, NetworkError> {
        let mut batch = Batch::default();
        batch.add("listing interfaces", GET_LINK, flags::DUMP, &LinkHeader::default().bytes(), |a| a);
        let mut links = Vec::new();
        self.0.ask(&batch, |reply| links.extend(Link::read(&reply)))?;
        Ok(links)
    }

    /// Removes a link; fine where there is none.
    pub(super) fn delete(&self, index: u32) -> Result<(), NetworkError> {
        let mut batch = Batch::default();
        batch.add("removing an interface", DELETE_LINK, 0, &LinkHeader::of(index).bytes(), |a| a);
        match self.tell(&mut batch) {
            Err(error) if error.errno() == Some(rustix::io::Errno::NODEV) => Ok(()),
            done => done,
        }
    }
}

/// Removes the bridges and parents that an earlier engine made and that no network has any more; tells their names.
///
/// # Errors
/// What the kernel refuses.
pub fn remove_stale(route: &Route, keep: &[&str]) -> Result<Vec<String>, NetworkError> {
    let stale =
        route.links()?.into_iter().filter(|link| link.is_ours() && !keep.contains(&link.name.as_str()));
    stale.map(|link| route.delete(link.index).map(|()| link.name)).collect()
}

/// Refuses what dev_valid_name() of the kernel would refuse with a bare EINVAL.
pub(super) fn check_name(name: &str) -> Result<(), NetworkError> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(bad) {
        return Err(NetworkError::Name { name: name.to_owned() });
    }
    Ok(())
}
