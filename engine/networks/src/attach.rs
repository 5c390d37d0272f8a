//! A container's places for its run, and giving them back.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use runtime::network::{Cable, Interface, Loose, NameSockets, Ready, Route, Sandbox, Stock};

use super::Networks;
use super::endpoint::{Ask, Endpoint, Guest, way_out, way_out_6};
use super::error::NetworksError;
use super::link::Link;
use super::network::{DEFAULT, Network};
use super::plug::Out;

/// What a start needs.
#[derive(Debug)]
pub struct Attachment {
    /// The network namespace; `None` is the machine's.
    pub netns: Option<OwnedFd>,
    /// The user namespace that it belongs to; `None` is the machine's.
    pub userns: Option<OwnedFd>,
    /// Its places, by the network's name.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Where its processes ask for names, where it is on a network that has names.
    pub names: Option<NameSockets>,
}

/// Whose a container's place is.
#[derive(Debug)]
pub enum Owner {
    /// A user namespace of the container's own, where ids are mapped.
    Own,
    /// The machine's.
    Machine,
    /// Another container's user namespace.
    Other(OwnedFd),
}

impl Networks {
    /// The machine's own network.
    pub fn machine(&self) -> Attachment {
        // What the machine's modules are waited for here, a root file system needs as well.
        self.bridges.await_machine();
        Attachment { netns: None, userns: None, endpoints: BTreeMap::new(), names: None }
    }

    /// A sandbox without any network. Blocks.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn none(&self, owner: Owner) -> Result<Attachment, NetworksError> {
        self.bridges.await_machine();
        let (netns, userns) = self.take(self.bridges.bare()?, owner)?.into_namespaces();
        Ok(Attachment { netns: Some(netns), userns, endpoints: BTreeMap::new(), names: None })
    }

    /// A sandbox with a place on each of the networks, in this order. Blocks. Nothing is left where one fails.
    ///
    /// # Errors
    /// A network is not there, an address cannot be had, or what the kernel refuses.
    pub fn attach(&self, guest: Guest<'_>, asks: &[Ask], owner: Owner) -> Result<Attachment, NetworksError> {
        let attached = match asks {
            [] => return self.none(owner),
            [one] if one.network == DEFAULT => self.attach_default(guest, one, owner),
            _ => self.attach_all(guest, asks, owner),
        };
        attached.inspect_err(|_| self.detach(guest.id)).map_err(NetworksError::at_start)
    }

    fn attach_default(&self, guest: Guest<'_>, ask: &Ask, owner: Owner) -> Result<Attachment, NetworksError> {
        let network = self.find(DEFAULT)?;
        let Link::Bridge(options) = &network.link else {
            return Err(NetworksError::Bridge("the default network is none of a bridge".to_owned()));
        };
        let Ready { sandbox, mut cable } = self.take(&*self.bridges.plugged()?, owner)?;
        let mut endpoint = network.admit(guest, ask)?;
        super::plug::name_interface(&mut endpoint, &network, &[]);
        super::plug::configure(options, &sandbox, &mut cable, &mut endpoint, Out::BOTH)?;
        network.settle(guest.id, &endpoint);
        let (netns, userns) = sandbox.into_namespaces();
        let endpoints = BTreeMap::from([(endpoint.network.clone(), endpoint)]);
        Ok(Attachment { netns: Some(netns), userns, endpoints, names: None })
    }

    fn attach_all(&self, guest: Guest<'_>, asks: &[Ask], owner: Owner) -> Result<Attachment, NetworksError> {
        self.bridges.await_machine();
        let mut places: Vec<(Arc<Network>, Endpoint)> = Vec::new();
        for ask in asks {
            let network = self.find(&ask.network)?;
            let mut endpoint = network.admit(guest, ask)?;
            let others: Vec<&str> = places.iter().map(|(_, other)| other.interface.as_str()).collect();
            super::plug::name_interface(&mut endpoint, &network, &others);
            places.push((network, endpoint));
        }
        let all = || places.iter().map(|(_, place)| place);
        let name = |place: Option<&Endpoint>| place.map(|place| place.network.clone());
        let (out, out_6) = (name(way_out(all())), name(way_out_6(all())));
        let has_bridge = places.first().is_some_and(|(network, _)| matches!(network.link, Link::Bridge(_)));
        let (sandbox, mut first, names) = self.sandbox(has_bridge, owner)?;
        let route = Route::open()?;
        for (network, endpoint) in &mut places {
            let is_out = |out: &Option<String>| out.as_ref() == Some(&endpoint.network);
            let is_out = Out { ipv4: is_out(&out), ipv6: is_out(&out_6) };
            let cable = first.take();
            super::plug::plug(&route, network, &sandbox, cable, endpoint, is_out)?;
            network.settle(guest.id, endpoint);
        }
        let (netns, userns) = sandbox.into_namespaces();
        let endpoints = places.into_iter().map(|(_, place)| (place.network.clone(), place)).collect();
        Ok(Attachment { netns: Some(netns), userns, endpoints, names: Some(names) })
    }

    /// A sandbox with the sockets for names; with a cable where its first place is on a bridge.
    fn sandbox(
        &self,
        has_bridge: bool,
        owner: Owner,
    ) -> Result<(Sandbox, Option<Cable>, NameSockets), NetworksError> {
        if has_bridge {
            let Loose { sandbox, cable, names } = self.take(self.bridges.loose()?, owner)?;
            return Ok((sandbox, Some(cable), names));
        }
        let sandbox = self.take(self.bridges.bare()?, owner)?;
        let names = NameSockets::open(&sandbox)?;
        Ok((sandbox, None, names))
    }

    fn take<T: Send + 'static>(&self, stock: &Stock<T>, owner: Owner) -> Result<T, NetworksError> {
        Ok(match owner {
            // Its root would have every capability over a sandbox that belongs to a user namespace.
            Owner::Machine if self.bridges.mapped.is_mapped() => stock.make(None)?,
            Owner::Own | Owner::Machine => stock.take()?,
            Owner::Other(user) => stock.make(Some(user))?,
        })
    }

    /// The container's run is over, as everybody is about to be told: its places count no more.
    pub fn leave(&self, id: &str) {
        self.list().iter().for_each(|network| network.is_leaving(id));
    }

    /// The container's run is over: its cables are cut, then its addresses are free. The kernel takes a while to bury a
    /// network namespace, and until then nobody else must answer for the addresses. Blocks.
    pub fn detach(&self, id: &str) {
        self.names.stop(id);
        for network in self.list() {
            let Some(endpoint) = network.dismiss(id) else { continue };
            if !endpoint.cable.is_empty()
                && let Err(error) = Route::open().and_then(|route| Cable::cut_named(&route, &endpoint.cable))
            {
                tracing::debug!(container = id, %error, "cannot cut a cable, it goes with its namespace");
            }
            network.give_back(&endpoint);
        }
    }

    /// A run that an engine before this one began keeps its places.
    pub fn resume(&self, guest: Guest<'_>, asks: &[Ask], endpoints: &BTreeMap<String, Endpoint>) {
        for endpoint in endpoints.values() {
            let found = if endpoint.network_id.is_empty() { &endpoint.network } else { &endpoint.network_id };
            let none = Ask::default();
            let ask = asks.iter().find(|ask| ask.network == endpoint.network).unwrap_or(&none);
            let resumed = self.find(found).and_then(|network| network.resume(guest, ask, endpoint));
            if let Err(error) = resumed {
                tracing::error!(container = guest.id, %error, "a running container's place is not free");
            }
        }
    }

    /// The container has another name.
    pub fn rename(&self, id: &str, name: &str) {
        self.list().iter().for_each(|network| network.rename(id, name));
    }

    /// One more place for a container that runs, in the sandbox `netns`, beside `others`; the way out is changed where the new
    /// place has it. Blocks.
    ///
    /// # Errors
    /// As [`Networks::attach`].
    pub fn connect(
        &self,
        guest: Guest<'_>,
        ask: &Ask,
        netns: OwnedFd,
        others: &BTreeMap<String, Endpoint>,
    ) -> Result<Endpoint, NetworksError> {
        let network = self.find(&ask.network)?;
        let mut endpoint = network.admit(guest, ask)?;
        let connected = Sandbox::adopt(netns).map_err(NetworksError::from).and_then(|sandbox| {
            let names: Vec<&str> = others.values().map(|other| other.interface.as_str()).collect();
            super::plug::name_interface(&mut endpoint, &network, &names);
            super::plug::plug(&Route::open()?, &network, &sandbox, None, &mut endpoint, Out::NONE)?;
            let is_it = |out: &&Endpoint| out.network == endpoint.network;
            let all = || others.values().chain([&endpoint]);
            super::plug::turn(&sandbox, way_out(all()).filter(is_it), way_out_6(all()).filter(is_it))
        });
        match connected {
            Ok(()) => {
                network.settle(guest.id, &endpoint);
                Ok(endpoint)
            }
            Err(error) => {
                network.dismiss(guest.id);
                let unplugged = Route::open().and_then(|route| Cable::unplug_named(&route, &endpoint.cable));
                if let Err(error) = unplugged {
                    tracing::warn!(container = guest.id, %error, "a cable is left of a place that was not made");
                }
                network.give_back(&endpoint);
                Err(error)
            }
        }
    }

    /// Takes one place of a container that runs away; the way out goes over one of `others` where it was there. Blocks.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn disconnect(
        &self,
        id: &str,
        endpoint: &Endpoint,
        netns: Option<OwnedFd>,
        others: &BTreeMap<String, Endpoint>,
    ) -> Result<(), NetworksError> {
        let found = if endpoint.network_id.is_empty() { &endpoint.network } else { &endpoint.network_id };
        let network = self.find(found).ok();
        if let Some(network) = &network {
            network.dismiss(id);
        }
        let sandbox = netns.map(Sandbox::adopt).transpose()?;
        match &sandbox {
            // There is none, or an engine of the first release did not note it.
            Some(sandbox) if endpoint.cable.is_empty() => {
                Interface::remove(sandbox, &endpoint.interface)?;
            }
            _ => Cable::unplug_named(&Route::open()?, &endpoint.cable)?,
        }
        if let Some(network) = &network {
            network.give_back(endpoint);
        }
        let had = |out: Option<&Endpoint>| out.is_some_and(|out| out.network == endpoint.network);
        let before = || others.values().chain([endpoint]);
        let out = way_out(others.values()).filter(|_| had(way_out(before())));
        let out_6 = way_out_6(others.values()).filter(|_| had(way_out_6(before())));
        if let Some(sandbox) = sandbox.filter(|_| out.or(out_6).is_some()) {
            super::plug::turn(&sandbox, out, out_6)?;
        }
        Ok(())
    }
}
