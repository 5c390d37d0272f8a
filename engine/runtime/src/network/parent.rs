//! The interface of the machine's that [`Child`](super::Child)ren share: one that is there, or one that is made for them, a
//! VLAN on another (802.1Q) or a dummy that leads nowhere.

use super::link::{self, LinkHeader, OURS, Route, attribute};
use super::message::{Batch, Message, flags};
use super::netlink::NetworkError;

/// An interface of the machine's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
}

impl Parent {
    /// The interface with this name, if there is one.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn find(route: &Route, name: &str) -> Result<Option<Parent>, NetworkError> {
        // What cannot be a name is nobody's.
        if link::check_name(name).is_err() {
            return Ok(None);
        }
        Ok(route.find(name)?.map(|link| Parent { name: link.name, index: link.index }))
    }

    /// Makes the interface `name`, which passes on what has the VLAN's number `id` of the interface `over`; down.
    ///
    /// # Errors
    /// What the kernel refuses, for example a kernel without VLANs.
    pub fn make_vlan(route: &Route, name: &str, over: &Parent, id: u16) -> Result<Parent, NetworkError> {
        const ID: u16 = 1;
        make(route, name, |a| {
            a.number(attribute::PARENT, over.index).nested(attribute::LINK_INFO, |a| {
                a.text(attribute::KIND, "vlan").nested(attribute::DATA, |a| a.bytes(ID, &id.to_ne_bytes()))
            })
        })
    }

    /// Makes the interface `name`, which leads nowhere; down.
    ///
    /// # Errors
    /// What the kernel refuses, for example a kernel without dummies.
    pub fn make_dummy(route: &Route, name: &str) -> Result<Parent, NetworkError> {
        make(route, name, |a| a.nested(attribute::LINK_INFO, |a| a.text(attribute::KIND, "dummy")))
    }

    /// Brings up one that was made here and marks it as ours; it is removed where that fails.
    ///
    /// # Errors
    /// What the kernel refuses, for example that the interface below a VLAN is down.
    pub fn bring_up(&self, route: &Route) -> Result<(), NetworkError> {
        let mut batch = Batch::default();
        batch.add("bringing up an interface", link::SET_LINK, 0, &LinkHeader::up(self.index).bytes(), |a| {
            a.text(attribute::ALIAS, OURS)
        });
        route.tell(&mut batch).inspect_err(|_| drop(route.delete(self.index)))
    }

    /// Removes the interface of that name if it was made here; fine where there is none.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn remove_made(route: &Route, name: &str) -> Result<(), NetworkError> {
        if link::check_name(name).is_err() {
            return Ok(());
        }
        // A bridge is a network's own, whoever is on it.
        let is_parent = |link: &link::Link| link.is_ours() && link.kind.as_deref() != Some("bridge");
        let found = route.find(name)?.filter(is_parent);
        found.map_or(Ok(()), |link| route.delete(link.index))
    }
}

fn make(
    route: &Route,
    name: &str,
    describe: impl FnOnce(&mut Message) -> &mut Message,
) -> Result<Parent, NetworkError> {
    link::check_name(name)?;
    let mut batch = Batch::default();
    let new = flags::CREATE | flags::EXCLUSIVE;
    batch.add("making an interface", link::NEW_LINK, new, &LinkHeader::default().bytes(), |a| {
        describe(a.text(attribute::NAME, name))
    });
    let made = route.tell_and_find(&mut batch, name)?;
    Ok(Parent { name: made.name, index: made.index })
}
