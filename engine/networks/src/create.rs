//! Making a network: recorded, then made in the kernel; what fails leaves nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::timestamp::Timestamp;
use store::Durability;

use super::error::NetworksError;
use super::ipam::{self, AskedPool};
use super::network::Network;
use super::record::{Ipam, NETWORKS, NetworkRecord};
use super::{Networks, PREDEFINED, bridges};

/// What a client asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Create {
    /// Its name.
    pub name: String,
    /// Empty is `bridge`.
    pub driver: String,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Nothing passes between it and the outside.
    pub internal: bool,
    /// Its containers have IPv6 addresses as well.
    pub has_ipv6: bool,
    /// Shown as it was said.
    pub attachable: bool,
    /// Who gives the addresses; empty is `default`.
    pub ipam_driver: String,
    /// Shown as they were given.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Its subnets.
    pub pools: Vec<AskedPool>,
}

impl Networks {
    /// Makes a network; durable when this returns. Blocks. Returns its id.
    ///
    /// # Errors
    /// Those Docker's clients know: a name that is taken, a driver that is not there, addresses that cannot be.
    pub fn create(&self, request: Create) -> Result<String, NetworksError> {
        check(&request)?;
        self.bridges.await_machine();
        let _changing = self.changing.lock().expect("no holder of the changes panics");
        let network = Arc::new(self.plan(request)?);
        self.check_bridge(&network)?;
        // Before it is recorded: what the kernel refuses was never acknowledged.
        bridges::add(&network)?;
        let (id, record) = (network.id.clone(), network.record.clone());
        let recorded =
            self.store.write(Durability::Synced, move |writer| writer.put(NETWORKS, id.as_str(), &record));
        if let Err(error) = recorded {
            bridges::remove(&network);
            return Err(error.into());
        }
        self.by_id
            .write()
            .expect("no writer of the networks panics")
            .insert(network.id.clone(), network.clone());
        self.bridges.expect_others();
        self.event(&network, "create");
        Ok(network.id.clone())
    }

    fn plan(&self, request: Create) -> Result<Network, NetworksError> {
        let networks = self.list();
        if networks.iter().any(|network| network.record.name == request.name) {
            return Err(NetworksError::Exists(request.name));
        }
        let mut machine = ipam::routed(&std::fs::read_to_string("/proc/net/route").unwrap_or_default());
        machine.extend(super::host::own(self.host.as_ref()));
        let pools = ipam::choose(&request.pools, &bridges::subnets(&networks), &machine, request.has_ipv6)?;
        let mut record = NetworkRecord {
            name: request.name,
            driver: if request.driver.is_empty() { "bridge".to_owned() } else { request.driver },
            created: Timestamp::now(),
            options: request.options,
            labels: request.labels,
            internal: request.internal,
            has_ipv6: request.has_ipv6,
            attachable: request.attachable,
            ipam: Ipam { options: request.ipam_options, pools },
        };
        if super::options::Options::read(&record)?.isolated {
            record.ipam.pools.iter_mut().for_each(|pool| pool.hides_gateway |= pool.subnet.addr().is_ipv4());
        }
        Network::new(model::id::new_id(), record)
    }

    fn check_bridge(&self, network: &Network) -> Result<(), NetworksError> {
        let name = bridges::interface(network);
        let others = self.list();
        let of_a_bridge = |other: &&Arc<Network>| other.record.driver == "bridge";
        match others.iter().filter(of_a_bridge).find(|other| bridges::interface(other) == name) {
            None => Ok(()),
            Some(other) => Err(NetworksError::Forbidden(format!(
                "cannot create network {} ({name}): conflicts with network {} ({name}): networks have same bridge name",
                network.id, other.id
            ))),
        }
    }
}

fn check(request: &Create) -> Result<(), NetworksError> {
    let Create { name, driver, .. } = request;
    if name.trim().is_empty() {
        return Err(NetworksError::Invalid("invalid name: name is empty".to_owned()));
    }
    if PREDEFINED.iter().any(|(known, _)| known == name) || name == "default" {
        let text = format!("operation is not permitted on predefined {name} network ");
        return Err(NetworksError::Forbidden(text));
    }
    ipam::check(&request.pools)?;
    match driver.as_str() {
        "" | "bridge" => {}
        "host" | "null" => {
            let text = format!("only one instance of \"{driver}\" network is allowed");
            return Err(NetworksError::Forbidden(text));
        }
        "overlay" => {
            let text = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
                        this node to swarm and try again.";
            return Err(NetworksError::Forbidden(text.to_owned()));
        }
        "macvlan" | "ipvlan" => {
            let text = format!("the network driver {driver} is not supported by this release of Pinnace yet");
            return Err(NetworksError::NotSupported(text));
        }
        _ => return Err(NetworksError::NoDriver(driver.clone())),
    }
    match request.ipam_driver.as_str() {
        "" | "default" => Ok(()),
        other => Err(NetworksError::NoDriver(other.to_owned())),
    }
}
