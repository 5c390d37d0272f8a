//! Finding a network.

use std::sync::Arc;

use super::Networks;
use super::error::NetworksError;
use super::network::Network;

impl Networks {
    /// The network that `reference` names: a full id, a name, or the beginning of one id only.
    ///
    /// # Errors
    /// None or several are so named.
    pub fn find(&self, reference: &str) -> Result<Arc<Network>, NetworksError> {
        let missing = || NetworksError::NotFound(reference.to_owned());
        if reference.is_empty() {
            return Err(missing());
        }
        let by_id = self.by_id.read().expect("no writer of the networks panics");
        if let Some(network) = by_id.get(reference) {
            return Ok(network.clone());
        }
        if let Some(network) = by_id.values().find(|network| network.record.name == reference) {
            return Ok(network.clone());
        }
        let from = by_id.range(reference.to_owned()..);
        let mut begun = from.take_while(|(id, _)| id.starts_with(reference)).map(|(_, network)| network);
        match (begun.next(), begun.count()) {
            (Some(network), 0) => Ok(network.clone()),
            (None, _) => Err(missing()),
            (Some(_), others) => {
                let (name, matches) = (reference.to_owned(), others + 1);
                Err(NetworksError::Ambiguous { name, matches, by: "ID prefix" })
            }
        }
    }

    /// Id of a network of that name.
    pub fn id(&self, name: &str) -> Option<String> {
        self.find(name).ok().map(|network| network.id.clone())
    }
}
