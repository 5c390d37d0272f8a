//! What is known here of a name: pure, but for who is on which network now.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use rand::seq::SliceRandom;

use crate::endpoint::{Endpoint, way_out_6};
use crate::network::{Member, Network};
use crate::{Networks, host, way_out};

/// Seconds that an answer may be remembered, as dockerd has it.
const REMEMBERED: u32 = 600;

/// The answer to a question of the container `id`; `None` where the name is nobody's here.
pub(super) fn answer(networks: &Networks, id: &str, asked: &Message) -> Option<Message> {
    let query = asked.queries.first()?;
    let own = networks.named(id);
    let records = if query.query_type == RecordType::PTR {
        vec![record(query.name.clone(), RData::PTR(PTR(pointer(&own, query.name())?)))]
    } else {
        let name = query.name().to_utf8().trim_end_matches('.').to_lowercase();
        let mut addresses = addresses(&own, id, &name)?;
        addresses.shuffle(&mut rand::rng());
        // A name that has addresses of another kind only is there all the same.
        let data = addresses.into_iter().filter_map(|address| match (address, query.query_type) {
            (IpAddr::V4(address), RecordType::A) => Some(RData::A(A(address))),
            (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(AAAA(address))),
            _ => None,
        });
        data.map(|data| record(query.name.clone(), data)).collect()
    };
    Some(saying(asked, records))
}

/// The answer to a question for the host's names, where the machine has one.
pub(super) fn of_the_host(networks: &Networks, asked: &Message) -> Option<Message> {
    let query = asked.queries.first()?;
    let name = query.name().to_utf8().trim_end_matches('.').to_lowercase();
    let is_it = networks.host.is_some() && host::is_called(&name);
    let data = (query.query_type == RecordType::A).then_some(RData::A(A(contract::host::ADDRESS)));
    is_it.then(|| saying(asked, data.map(|data| record(query.name.clone(), data)).into_iter().collect()))
}

fn saying(asked: &Message, records: Vec<Record>) -> Message {
    let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
    answer.metadata.recursion_desired = asked.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.queries.clone_from(&asked.queries);
    answer.answers = records;
    answer
}

fn record(name: Name, data: RData) -> Record {
    Record::from_rdata(name, REMEMBERED, data)
}

/// Addresses of those who have the name on the first of the networks where somebody has it.
fn addresses(own: &[Arc<Network>], id: &str, name: &str) -> Option<Vec<IpAddr>> {
    let plain = own.iter().find_map(|network| on_network(network, id, name));
    plain.or_else(|| {
        // `name.network`
        let (name, of) = name.rsplit_once('.')?;
        let network = own.iter().find(|network| network.record.name.to_lowercase() == of)?;
        on_network(network, id, name)
    })
}

fn on_network(network: &Network, id: &str, name: &str) -> Option<Vec<IpAddr>> {
    let linked = network.find_member(|other, member| {
        let link = member.links.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
        link.filter(|_| other == id).map(|(_, target)| target.to_lowercase())
    });
    let wanted = linked.as_deref().unwrap_or(name);
    let mut found = Vec::new();
    let nothing: Option<()> = network.find_member(|_, member| {
        if is_called(member, wanted) {
            found.extend(member.endpoint.addresses());
        }
        None
    });
    debug_assert!(nothing.is_none());
    (!found.is_empty()).then_some(found)
}

fn is_called(member: &Member, name: &str) -> bool {
    let mut names = std::iter::once(&member.name).chain(&member.names);
    names.any(|known| known.eq_ignore_ascii_case(name))
}

/// `name.network` of whoever has the address.
fn pointer(own: &[Arc<Network>], name: &Name) -> Option<Name> {
    let address = name.parse_arpa_name().ok()?.addr();
    own.iter().find_map(|network| {
        let called = network.find_member(|_, member| {
            member.endpoint.addresses().any(|own| own == address).then(|| member.name.clone())
        })?;
        Name::from_str_relaxed(format!("{called}.{}.", network.record.name)).ok()
    })
}

impl Networks {
    /// The networks of a container on which it is called by names, in the order in which they are asked.
    fn named(&self, id: &str) -> Vec<Arc<Network>> {
        let mut own: Vec<(i64, Arc<Network>)> = self
            .list()
            .into_iter()
            .filter(|network| !network.is_default())
            .filter_map(|network| {
                let place = |other: &str, member: &Member| (other == id).then_some(member.endpoint.priority);
                Some((network.find_member(place)?, network))
            })
            .collect();
        own.sort_by(|(one, a), (other, b)| other.cmp(one).then_with(|| a.record.name.cmp(&b.record.name)));
        own.into_iter().map(|(_, network)| network).collect()
    }

    /// Whether one of a container's places leads outside.
    pub(super) fn has_way_out(&self, id: &str) -> bool {
        let networks = self.list();
        let place = |network: &Arc<Network>| {
            network.find_member(|other, member| (other == id).then(|| member.endpoint.clone()))
        };
        let places: Vec<Endpoint> = networks.iter().filter_map(place).collect();
        way_out(&places).or_else(|| way_out_6(&places)).is_some()
    }
}
