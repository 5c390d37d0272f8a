//! A veth pair: one end in the bridge, the other in a sandbox.

use std::os::fd::{AsFd, AsRawFd};

use rand::RngExt;

use super::bridge::Bridge;
use super::interface::Interface;
use super::link::{self, AF_BRIDGE, AF_INET6, LinkHeader, Route, attribute};
use super::message::{Batch, flags};
use super::netlink::NetworkError;
use super::sandbox::Sandbox;

/// Name of the inner end until it is given another.
const FIRST_NAME: &str = "eth0";

/// A veth pair. Both ends disappear with the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cable {
    /// Name of the end in the bridge.
    pub name: String,
    /// Number of the end in the bridge.
    pub index: u32,
    /// The end in the sandbox.
    pub inner: Interface,
}

impl Cable {
    /// Plugs a new cable into `bridge` and `sandbox`. Both ends are up, so the bridge forwards from the first
    /// packet on; the inner end has no address and sends nothing.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn plug(route: &Route, bridge: &Bridge, sandbox: &Sandbox) -> Result<Cable, NetworkError> {
        let name = format!("veth{:07x}", rand::rng().random_range(0..0x1000_0000u32));
        // A sandbox with several networks has an eth0 already.
        let inner_name = match sandbox.route().find(FIRST_NAME)? {
            None => FIRST_NAME.to_owned(),
            Some(_) => name.clone(),
        };
        let mut batch = Batch::default();
        make(&mut batch, &name, &inner_name, bridge, sandbox);
        bring_up(&mut batch, &name, bridge);
        let outer = route.tell_and_find(&mut batch, &name)?;
        let mut batch = Batch::default();
        batch.add("bringing up the interface", link::SET_LINK, 0, &LinkHeader::up(0).bytes(), |a| {
            a.text(attribute::NAME, &inner_name)
        });
        let inner = sandbox.route().tell_and_find(&mut batch, &inner_name)?;
        let inner = Interface { index: inner.index, name: inner_name };
        Ok(Cable { name, index: outer.index, inner })
    }

    /// The cable whose outer end has this name, while it is there.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn find(
        route: &Route,
        sandbox: &Sandbox,
        name: &str,
        interface: &str,
    ) -> Result<Option<Cable>, NetworkError> {
        let (outer, inner) = (route.find(name)?, sandbox.route().find(interface)?);
        Ok(outer.zip(inner).map(|(outer, inner)| Cable {
            name: outer.name,
            index: outer.index,
            inner: Interface { index: inner.index, name: inner.name },
        }))
    }

    /// Plugs the outer end into a bridge; for a cable that was made without one. `alone` keeps it from the other ends
    /// there.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn join(&self, route: &Route, bridge: &Bridge, alone: bool) -> Result<(), NetworkError> {
        let mut batch = Batch::default();
        let header = LinkHeader::of(self.index).bytes();
        batch.add("plugging into the bridge", link::SET_LINK, 0, &header, |a| {
            a.number(attribute::MTU, bridge.mtu).number(attribute::MASTER, bridge.index)
        });
        // The kernel looks up what kind of port it is before it changes the master.
        batch.add("setting up the bridge's port", link::NEW_LINK, 0, &header, |a| {
            a.nested(attribute::LINK_INFO, |a| {
                a.text(attribute::PORT_KIND, "bridge").nested(attribute::PORT_DATA, |a| {
                    a.bytes(attribute::PORT_HAIRPIN, &[1]).bytes(attribute::PORT_ISOLATED, &[u8::from(alone)])
                })
            })
        });
        route.tell(&mut batch)
    }

    /// Takes the outer end out of the traffic at once: the port forwards nothing, and the bridge forgets what it
    /// learnt there. The kernel removes a dead sandbox's cable some milliseconds later by itself; until then the
    /// address may be given to another container, and must not answer from here too.
    ///
    /// # Errors
    /// What the kernel refuses; fine where the cable is gone.
    pub fn cut(&self, route: &Route) -> Result<(), NetworkError> {
        cut(route, self.index)
    }

    /// [`Cable::cut`] for who kept only the name of the outer end.
    ///
    /// # Errors
    /// What the kernel refuses; fine where the cable is gone.
    pub fn cut_named(route: &Route, name: &str) -> Result<(), NetworkError> {
        let Some(link) = route.find(name)? else { return Ok(()) };
        cut(route, link.index)
    }

    /// Removes both ends from a sandbox that lives on; fine where they are gone. It waits for the kernel to let
    /// go of them: some milliseconds.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn unplug(self, route: &Route) -> Result<(), NetworkError> {
        route.delete(self.index)
    }
}

impl Cable {
    /// [`Cable::unplug`] for who kept only the name of the outer end.
    ///
    /// # Errors
    /// What the kernel refuses; fine where the cable is gone.
    pub fn unplug_named(route: &Route, name: &str) -> Result<(), NetworkError> {
        if name.is_empty() {
            return Ok(());
        }
        let found = route.find(name)?;
        found.map_or(Ok(()), |link| route.delete(link.index))
    }
}

fn cut(route: &Route, index: u32) -> Result<(), NetworkError> {
    const DISABLED: u8 = 0;
    let mut batch = Batch::default();
    let header = LinkHeader { family: AF_BRIDGE, ..LinkHeader::of(index) };
    batch.add("cutting the cable", link::SET_LINK, 0, &header.bytes(), |a| {
        a.nested(attribute::PROTOCOL_INFO, |a| {
            a.bytes(attribute::PORT_STATE, &[DISABLED]).bytes(attribute::PORT_FLUSH, &[])
        })
    });
    match route.tell(&mut batch) {
        Err(error) if error.errno() == Some(rustix::io::Errno::NODEV) => Ok(()),
        done => done,
    }
}

/// One queue each way: the kernel would make one for each possible processor, with its folder in sysfs.
fn make(batch: &mut Batch, name: &str, inner_name: &str, bridge: &Bridge, sandbox: &Sandbox) {
    let new = flags::CREATE | flags::EXCLUSIVE;
    let namespace = sandbox.netns().as_fd().as_raw_fd().cast_unsigned();
    batch.add("making a veth pair", link::NEW_LINK, new, &LinkHeader::default().bytes(), |a| {
        a.text(attribute::NAME, name)
            .number(attribute::MTU, bridge.mtu)
            .number(attribute::MASTER, bridge.index)
            .number(attribute::SEND_QUEUES, 1)
            .number(attribute::RECEIVE_QUEUES, 1)
            .nested(attribute::LINK_INFO, |a| {
                a.text(attribute::KIND, "veth").nested(attribute::DATA, |a| {
                    a.headed(attribute::VETH_PEER, &LinkHeader::default().bytes(), |a| {
                        a.text(attribute::NAME, inner_name)
                            .number(attribute::MTU, bridge.mtu)
                            .number(attribute::SEND_QUEUES, 1)
                            .number(attribute::RECEIVE_QUEUES, 1)
                            .number(attribute::NAMESPACE_FD, namespace)
                    })
                })
            })
    });
}

/// Up; as a hairpin, so that a container reaches its own published ports; and without an IPv6 address of its own:
/// a bridge port needs none, and making one costs timers and multicast.
///
/// `NEW_LINK` without `CREATE` changes a link, and takes the data of a bridge port, which `SET_LINK` does not.
fn bring_up(batch: &mut Batch, name: &str, bridge: &Bridge) {
    const ADDRESS_MODE: u16 = 8;
    const NONE: u8 = 1;
    let up = LinkHeader::up(0).bytes();
    batch.add("bringing up the veth pair", link::NEW_LINK, 0, &up, |a| {
        a.text(attribute::NAME, name);
        if bridge.index != 0 {
            a.nested(attribute::LINK_INFO, |a| {
                a.text(attribute::PORT_KIND, "bridge")
                    .nested(attribute::PORT_DATA, |a| a.bytes(attribute::PORT_HAIRPIN, &[1]))
            });
        }
        if has_ipv6() {
            a.nested(attribute::FAMILY_SETTINGS, |a| {
                a.nested(AF_INET6.into(), |a| a.bytes(ADDRESS_MODE, &[NONE]))
            });
        }
        a
    });
}

fn has_ipv6() -> bool {
    static HAS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *HAS.get_or_init(|| std::path::Path::new("/proc/sys/net/ipv6").exists())
}
