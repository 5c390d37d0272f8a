//! Taking networks away.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::timestamp::Timestamp;
use store::{Durability, Held};

use super::error::NetworksError;
use super::network::Network;
use super::record::NETWORKS;
use super::{Networks, bridges};

/// Which of the networks that nobody uses.
#[derive(Debug, Clone, Default)]
pub struct Prune {
    /// Made before.
    pub until: Option<Timestamp>,
}

impl Networks {
    /// Removes a network; durable when this returns. Blocks.
    ///
    /// # Errors
    /// There is none of that name, it is predefined, or somebody is on it.
    pub fn remove(&self, reference: &str) -> Result<(), NetworksError> {
        let _changing = self.changing.lock().expect("no holder of the changes panics");
        let network = self.find(reference)?;
        if network.is_predefined() {
            let name = &network.record.name;
            let text = format!("{name} is a pre-defined network and cannot be removed");
            return Err(NetworksError::Forbidden(text));
        }
        self.remove_this(&network)
    }

    fn remove_this(&self, network: &Arc<Network>) -> Result<(), NetworksError> {
        let name = &network.record.name;
        let is_used = |other: &Arc<Network>| other.record.config_from == *name;
        if network.record.config_only && self.list().iter().any(is_used) {
            return Err(NetworksError::ConfigInUse(name.clone()));
        }
        network.close()?;
        let id = network.id.clone();
        // Holds that are left belong to runs whose end is on its way to the disk: nobody is there any more.
        let removed = self.store.write(Durability::Synced, move |writer| {
            writer.delete(NETWORKS, id.as_str());
            writer.release_held(&Held::Network(id))
        });
        if let Err(error) = removed {
            network.reopen();
            return Err(error.into());
        }
        self.by_id.write().expect("no writer of the networks panics").remove(&network.id);
        bridges::remove(network, &self.list());
        self.event(network, "destroy");
        Ok(())
    }

    /// Removes those that nobody uses and that `fits` lets go. Returns their names. Blocks.
    ///
    /// # Errors
    /// Another prune is at work.
    pub fn prune(
        &self,
        which: &Prune,
        fits: impl Fn(&Network) -> bool,
    ) -> Result<Vec<String>, NetworksError> {
        if self.pruning.swap(true, Ordering::AcqRel) {
            return Err(NetworksError::Pruning);
        }
        let mut pruned = Vec::new();
        let old = |network: &Network| which.until.is_none_or(|until| network.record.created < until);
        // One of configuration only has nobody on it, ever, and is not unused for that.
        let spares = |network: &Network| network.is_predefined() || network.record.config_only;
        for network in self.list().iter().filter(|one| !spares(one) && old(one) && fits(one)) {
            let _changing = self.changing.lock().expect("no holder of the changes panics");
            // One that somebody came to in between, or that is gone, is not ours to take.
            let is_there = self.find(&network.id).is_ok();
            if is_there && self.remove_this(network).is_ok() {
                pruned.push(network.record.name.clone());
            }
        }
        self.pruning.store(false, Ordering::Release);
        self.publish("prune", "", [("reclaimed".to_owned(), "0".to_owned())].into());
        Ok(pruned)
    }
}
