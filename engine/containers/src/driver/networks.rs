//! What is told and held of a container's networks.

use model::events::Subject;

use super::Driver;
use crate::record::Record;
use crate::registry::Shared;

impl Driver {
    /// Of each of its networks, those without a bridge as well.
    pub(super) fn network_events(&self, action: &str) {
        let record = self.container.record();
        let bare = matches!(record.host.network_mode.as_str(), "host" | "none");
        let mode = Some(&record.host.network_mode).filter(|_| bare && record.endpoints.is_empty());
        record.endpoints.keys().chain(mode).for_each(|network| self.network_event_of(network, action));
    }

    pub(crate) fn network_event_of(&self, network: &str, action: &str) {
        let Ok(found) = self.shared.networks.find(network) else { return };
        let (id, name, kind) = (self.container.id(), &found.record.name, &found.record.driver);
        let attributes = [("container", id), ("name", name), ("type", kind)];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        self.shared.events.publish(Subject::Network, action, &found.id, attributes);
    }
}

/// Ids of the networks on which a run is.
pub(super) fn held(shared: &Shared, record: &Record) -> Vec<String> {
    let places = record.endpoints.values().map(|place| place.network_id.clone());
    let mode = shared.networks.id(&record.host.network_mode).filter(|_| record.endpoints.is_empty());
    places.chain(mode).filter(|id| !id.is_empty()).collect()
}
