//! One network: what it is, and who is on it now.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

use ipnet::IpNet;
use runtime::network::Bridge;

use super::endpoint::{Ask, Endpoint, Guest};
use super::error::NetworksError;
use super::ipam;
use super::leases::{Lease, Leases};
use super::link::{Link, Plug};
use super::record::NetworkRecord;

/// The network that containers are on unasked.
pub const DEFAULT: &str = "bridge";

/// A network.
#[derive(Debug)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What it is.
    pub record: NetworkRecord,
    /// What its containers are given.
    pub(super) link: Link,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    leases: Leases,
    members: BTreeMap<String, Member>,
    bridge: Option<Bridge>,
    is_removed: bool,
}

/// Who is on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name of the container.
    pub name: String,
    /// What else it is called there.
    pub names: Vec<String>,
    /// What it calls others there.
    pub links: Vec<(String, String)>,
    /// Its place.
    pub endpoint: Endpoint,
    /// Its run is over, and its place is about to be given back.
    is_leaving: bool,
}

impl Network {
    pub(super) fn new(id: String, record: NetworkRecord) -> Result<Network, NetworksError> {
        let link = Link::read(&id, &record)?;
        let isolated = matches!(&link, Link::Bridge(options) if options.isolated);
        let leases = Leases::of(&id, &record, !isolated);
        let state = State { leases, members: BTreeMap::new(), bridge: None, is_removed: false };
        Ok(Network { id, record, link, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of a network's state panics")
    }

    /// Whether it is one of the three that always exist.
    pub fn is_predefined(&self) -> bool {
        super::PREDEFINED.iter().any(|(name, _)| *name == self.record.name)
    }

    /// Whether it is the default bridge, on which nobody has a name.
    pub fn is_default(&self) -> bool {
        self.record.name == DEFAULT
    }

    /// Those who are on it, by id.
    pub fn members(&self) -> Vec<(String, Member)> {
        let state = self.state();
        let staying = state.members.iter().filter(|(_, member)| !member.is_leaving);
        staying.map(|(id, member)| (id.clone(), member.clone())).collect()
    }

    /// Whether nobody is on it.
    pub fn is_dangling(&self) -> bool {
        self.state().members.values().all(|member| member.is_leaving)
    }

    /// How many of its addresses are taken.
    pub fn addresses_taken(&self) -> usize {
        self.state().leases.taken()
    }

    /// Looks at those who are on it, one after another, until `look` has found what it looks for.
    pub(super) fn find_member<T>(&self, mut look: impl FnMut(&str, &Member) -> Option<T>) -> Option<T> {
        let state = self.state();
        let mut staying = state.members.iter().filter(|(_, member)| !member.is_leaving);
        staying.find_map(|(id, member)| look(id, member))
    }

    pub(super) fn bridge(&self) -> Option<Bridge> {
        self.state().bridge.clone()
    }

    pub(super) fn set_bridge(&self, bridge: Bridge) {
        self.state().bridge = Some(bridge);
    }

    /// What cannot be asked of this network, in dockerd's words.
    ///
    /// # Errors
    /// [`NetworksError::Invalid`].
    pub fn check(&self, ask: &Ask, aliases: &[String]) -> Result<(), NetworksError> {
        if self.is_default() && !aliases.is_empty() {
            let text = "network-scoped aliases are only supported for user-defined networks";
            return Err(NetworksError::Invalid(format!("invalid endpoint settings:\n{text}")));
        }
        ipam::check_addresses(&self.record, self.is_default(), ask).map(drop)
    }

    /// Takes addresses and enters the guest. Its place is not connected yet.
    pub(super) fn admit(&self, guest: Guest<'_>, ask: &Ask) -> Result<Endpoint, NetworksError> {
        let asked = ipam::check_addresses(&self.record, self.is_default(), ask)?;
        let link_local = ipam::link_local(&asked.link_local)?;
        self.check_guest(guest, ask)?;
        let mut state = self.state();
        if state.is_removed {
            return Err(NetworksError::NotFound(self.record.name.clone()));
        }
        if state.members.get(guest.id).is_some_and(|member| !member.is_leaving) {
            let (container, network) = (guest.name.to_owned(), self.record.name.clone());
            return Err(NetworksError::Connected { container, network });
        }
        let lease = state.leases.take(&asked)?;
        let endpoint = self.place(ask, lease, link_local);
        state.enter(guest, &ask.names, &ask.links, endpoint.clone());
        Ok(endpoint)
    }

    /// Whether anybody can be here, and so.
    fn check_guest(&self, guest: Guest<'_>, ask: &Ask) -> Result<(), NetworksError> {
        if self.record.config_only {
            let text = "cannot create endpoint on configuration-only network";
            return Err(NetworksError::Forbidden(text.to_owned()));
        }
        if self.link.plug() == Plug::Ipvlan && ask.mac.is_some() {
            return Err(NetworksError::Driver(format!(
                "failed to create endpoint {} on network {}: ipvlan interfaces do not support custom mac address \
                 assignment",
                guest.name, self.record.name
            )));
        }
        Ok(())
    }

    fn place(&self, ask: &Ask, lease: Lease, link_local: Vec<IpNet>) -> Endpoint {
        let (ipv4, ipv6) = (lease.ipv4.map(|net| net.addr()), lease.ipv6.map(|net| net.addr()));
        let gateway = |from: Option<IpAddr>| from.and_then(|from| self.record.way_out(from));
        let (gateway, gateway_6) = match self.link.has_gateway() {
            true => (gateway(ipv4.map(IpAddr::V4)), gateway(ipv6.map(IpAddr::V6))),
            false => (None, None),
        };
        let mac = ask.mac.unwrap_or_else(runtime::network::Mac::random).to_string();
        Endpoint {
            network: self.record.name.clone(),
            network_id: self.id.clone(),
            endpoint_id: model::id::new_id(),
            address: lease.ipv4,
            gateway: gateway.and_then(|gateway| match gateway {
                IpAddr::V4(gateway) => Some(gateway),
                IpAddr::V6(_) => None,
            }),
            ipv6: lease.ipv6,
            gateway_6: gateway_6.and_then(|gateway| match gateway {
                IpAddr::V6(gateway) => Some(gateway),
                IpAddr::V4(_) => None,
            }),
            link_local,
            plug: self.link.plug(),
            without_gateway: !self.link.has_gateway() && !self.record.internal,
            // The parent's, which is not this place's own.
            mac: if self.link.plug() == Plug::Ipvlan { String::new() } else { mac },
            interface: ask.interface.clone(),
            cable: String::new(),
            priority: ask.priority,
        }
    }

    /// Enters one whose place an engine before this one gave it.
    pub(super) fn resume(
        &self,
        guest: Guest<'_>,
        ask: &Ask,
        endpoint: &Endpoint,
    ) -> Result<(), NetworksError> {
        let mut state = self.state();
        state.leases.resume(endpoint.lease())?;
        state.enter(guest, &ask.names, &ask.links, endpoint.clone());
        Ok(())
    }

    /// The place as it is now that it has a cable.
    pub(super) fn settle(&self, id: &str, endpoint: &Endpoint) {
        if let Some(member) = self.state().members.get_mut(id) {
            member.endpoint.clone_from(endpoint);
        }
    }

    /// From now on it does not count as being there.
    pub(super) fn is_leaving(&self, id: &str) {
        if let Some(member) = self.state().members.get_mut(id) {
            member.is_leaving = true;
        }
    }

    /// Another name.
    pub(super) fn rename(&self, id: &str, name: &str) {
        if let Some(member) = self.state().members.get_mut(id) {
            name.clone_into(&mut member.name);
        }
    }

    /// The place of one who goes; [`Network::give_back`] comes when its cable is cut.
    pub(super) fn dismiss(&self, id: &str) -> Option<Endpoint> {
        self.state().members.remove(id).map(|member| member.endpoint)
    }

    pub(super) fn give_back(&self, endpoint: &Endpoint) {
        self.state().leases.give_back(endpoint.lease());
    }

    /// Nobody is admitted any more.
    ///
    /// # Errors
    /// Somebody is there.
    pub(super) fn close(&self) -> Result<(), NetworksError> {
        let mut state = self.state();
        let there: Vec<String> = state
            .members
            .values()
            .filter(|member| !member.is_leaving)
            .map(|member| format!("name:\"{}\" id:\"{}\"", member.name, short(&member.endpoint.endpoint_id)))
            .collect();
        if !there.is_empty() {
            return Err(NetworksError::InUse { name: self.record.name.clone(), endpoints: there.join(", ") });
        }
        state.is_removed = true;
        Ok(())
    }

    /// Takes [`Network::close`] back.
    pub(super) fn reopen(&self) {
        self.state().is_removed = false;
    }
}

impl State {
    fn enter(&mut self, guest: Guest<'_>, names: &[String], links: &[(String, String)], endpoint: Endpoint) {
        let member = Member {
            name: guest.name.to_owned(),
            names: names.to_vec(),
            links: links.to_vec(),
            endpoint,
            is_leaving: false,
        };
        self.members.insert(guest.id.to_owned(), member);
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
