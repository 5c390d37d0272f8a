//! One network: what it is, and who is on it now.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use runtime::network::{Addresses, Bridge};

use super::addresses_6::Addresses6;
use super::endpoint::{Ask, Endpoint, Guest};
use super::error::NetworksError;
use super::ipam;
use super::options::Options;
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
    pub(super) options: Options,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    addresses: Option<Addresses>,
    addresses_6: Option<Addresses6>,
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
        let options = Options::read(&record)?;
        let addresses = ipam::addresses(&record, !options.isolated);
        let addresses_6 = Addresses6::of(&record);
        let state =
            State { addresses, addresses_6, members: BTreeMap::new(), bridge: None, is_removed: false };
        Ok(Network { id, record, options, state: Mutex::new(state) })
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
        self.state().addresses.as_ref().map_or(0, Addresses::taken)
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
        ipam::check_addresses(&self.record, self.is_default(), &ask.address, &ask.ipv6).map(drop)
    }

    /// Takes an address and enters the guest. Its place has no cable yet.
    pub(super) fn admit(&self, guest: Guest<'_>, ask: &Ask) -> Result<Endpoint, NetworksError> {
        let asked = ipam::check_addresses(&self.record, self.is_default(), &ask.address, &ask.ipv6)?;
        let mut state = self.state();
        if state.is_removed {
            return Err(NetworksError::NotFound(self.record.name.clone()));
        }
        if state.members.get(guest.id).is_some_and(|member| !member.is_leaving) {
            let (container, network) = (guest.name.to_owned(), self.record.name.clone());
            return Err(NetworksError::Connected { container, network });
        }
        let missing = || NetworksError::Bridge(format!("the network {} has no addresses", self.record.name));
        let addresses = state.addresses.as_mut().ok_or_else(missing)?;
        let address = match asked.ipv4 {
            Some(address) => addresses.reserve(address)?,
            None => addresses.take()?,
        };
        let ipv6 = state.addresses_6.as_mut().map(|addresses| match asked.ipv6 {
            Some(address) => addresses.reserve(address),
            None => addresses.take(),
        });
        let ipv6 = ipv6.transpose().inspect_err(|_| {
            state.addresses.as_mut().map(|addresses| addresses.release(address.addr()));
        })?;
        let endpoint = Endpoint {
            network: self.record.name.clone(),
            network_id: self.id.clone(),
            endpoint_id: model::id::new_id(),
            address,
            gateway: self.record.way_out(),
            ipv6,
            gateway_6: self.record.way_out_6(),
            mac: ask.mac.unwrap_or_else(runtime::network::Mac::random).to_string(),
            interface: ask.interface.clone(),
            cable: String::new(),
            priority: ask.priority,
        };
        state.enter(guest, &ask.names, &ask.links, endpoint.clone());
        Ok(endpoint)
    }

    /// Enters one whose place an engine before this one gave it.
    pub(super) fn resume(
        &self,
        guest: Guest<'_>,
        ask: &Ask,
        endpoint: &Endpoint,
    ) -> Result<(), NetworksError> {
        let mut state = self.state();
        if let Some(addresses) = &mut state.addresses {
            addresses.reserve(endpoint.address.addr())?;
        }
        if let (Some(addresses), Some(ipv6)) = (&mut state.addresses_6, endpoint.ipv6) {
            addresses.reserve(ipv6.addr())?;
        }
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
        let mut state = self.state();
        if let Some(addresses) = &mut state.addresses {
            addresses.release(endpoint.address.addr());
        }
        if let (Some(addresses), Some(ipv6)) = (&mut state.addresses_6, endpoint.ipv6) {
            addresses.release(ipv6.addr());
        }
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
