//! Making a network: recorded, then made in the kernel; what fails leaves nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::timestamp::Timestamp;
use store::Durability;

use super::error::NetworksError;
use super::ipam::{self, AskedPool, Needs};
use super::link::Link;
use super::network::Network;
use super::record::{Ipam, NETWORKS, NetworkRecord, Pool};
use super::{Networks, PREDEFINED, bridges, config_only};

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
    /// Where it is said to be known; only a swarm has another than `local`.
    pub scope: String,
    /// It would be a swarm's way in.
    pub ingress: bool,
    /// It is only what others are made from.
    pub config_only: bool,
    /// Name of the network of configuration only that it is made from; empty where none.
    pub config_from: String,
    /// Nothing passes between it and the outside.
    pub internal: bool,
    /// Its containers have IPv4 addresses.
    pub has_ipv4: bool,
    /// Its containers have IPv6 addresses.
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
        bridges::check(&network, &self.list())?;
        // Before it is recorded: what the kernel refuses was never acknowledged.
        bridges::add(&network)?;
        let (id, record) = (network.id.clone(), network.record.clone());
        let recorded =
            self.store.write(Durability::Synced, move |writer| writer.put(NETWORKS, id.as_str(), &record));
        if let Err(error) = recorded {
            bridges::remove(&network, &self.list());
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
        if request.config_only {
            return Network::new(model::id::new_id(), config(request)?);
        }
        let request = if request.config_from.is_empty() { request } else { filled(request, &networks)? };
        check_driver(&request)?;
        let (id, mut record) = (model::id::new_id(), described(&request));
        let link = Link::read(&id, &record)?;
        if matches!(link, Link::Bridge(_)) && !record.has_ipv4 && !record.has_ipv6 {
            return Err(NetworksError::Invalid("IPv4 or IPv6 must be enabled".to_owned()));
        }
        let gateway = link.chooses_gateway(record.internal);
        let needs = Needs { ipv4: record.has_ipv4, ipv6: record.has_ipv6, gateway };
        let mut machine = ipam::routed(&std::fs::read_to_string("/proc/net/route").unwrap_or_default());
        machine.extend(super::host::own(self.host.as_ref()));
        record.ipam.pools = ipam::choose(&request.pools, &bridges::subnets(&networks), &machine, needs)?;
        if let Link::Bridge(options) = &link {
            one_subnet(&record)?;
            let hidden = |pool: &&mut Pool| options.isolated && pool.subnet.addr().is_ipv4();
            record.ipam.pools.iter_mut().filter(hidden).for_each(|pool| pool.hides_gateway = true);
        }
        Network::new(id, record)
    }
}

/// The request with what the configuration network says that it names.
fn filled(request: Create, networks: &[Arc<Network>]) -> Result<Create, NetworksError> {
    let from = &request.config_from;
    let is_it = |network: &&Arc<Network>| network.record.config_only && network.record.name == *from;
    let config = networks.iter().find(is_it).ok_or_else(|| NetworksError::NoConfig(from.clone()))?;
    Ok(config_only::filled(request, &config.record))
}

/// A network of configuration only keeps what was asked for.
fn config(request: Create) -> Result<NetworkRecord, NetworksError> {
    let mut record = described(&request);
    record.ipam.pools = ipam::kept(&request.pools)?;
    config_only::DRIVER.clone_into(&mut record.driver);
    Ok(record)
}

/// What the store keeps, but for the subnets.
fn described(request: &Create) -> NetworkRecord {
    let request = request.clone();
    let (driver, options) = (request.ipam_driver, request.ipam_options);
    NetworkRecord {
        name: request.name,
        driver: if request.driver.is_empty() { "bridge".to_owned() } else { request.driver },
        created: Timestamp::now(),
        options: request.options,
        labels: request.labels,
        internal: request.internal,
        has_ipv4: request.has_ipv4,
        has_ipv6: request.has_ipv6,
        attachable: request.attachable,
        ipam: Ipam { driver, options, pools: Vec::new() },
        config_only: request.config_only,
        config_from: request.config_from,
    }
}

/// A bridge has one subnet of each family.
fn one_subnet(record: &NetworkRecord) -> Result<(), NetworksError> {
    let of = |is_ipv4: bool| record.pools().filter(|pool| pool.subnet.addr().is_ipv4() == is_ipv4).count();
    if of(true) > 1 || of(false) > 1 {
        let text = "bridge driver doesn't support multiple subnets";
        return Err(NetworksError::Forbidden(text.to_owned()));
    }
    Ok(())
}

fn check(request: &Create) -> Result<(), NetworksError> {
    let name = &request.name;
    if name.trim().is_empty() {
        return Err(NetworksError::Invalid("invalid name: name is empty".to_owned()));
    }
    if PREDEFINED.iter().any(|(known, _)| known == name) || name == "default" {
        let text = format!("operation is not permitted on predefined {name} network ");
        return Err(NetworksError::Forbidden(text));
    }
    if request.ingress && !request.config_only {
        let text = "Ingress network can only be global scope network";
        return Err(NetworksError::Forbidden(text.to_owned()));
    }
    ipam::check(&request.pools)?;
    config_only::check(request)?;
    if request.scope == "swarm" {
        let text = "cannot create a swarm scoped network when swarm is not active";
        return Err(NetworksError::Forbidden(text.to_owned()));
    }
    Ok(())
}

/// Whether there are the drivers of a network that others can be on.
fn check_driver(request: &Create) -> Result<(), NetworksError> {
    let driver = &request.driver;
    match driver.as_str() {
        "" | "bridge" | "macvlan" | "ipvlan" => {}
        "host" | "null" => {
            let text = format!("only one instance of \"{driver}\" network is allowed");
            return Err(NetworksError::Forbidden(text));
        }
        "overlay" => {
            let text = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
                        this node to swarm and try again.";
            return Err(NetworksError::Forbidden(text.to_owned()));
        }
        _ => return Err(NetworksError::NoDriver(driver.clone())),
    }
    match request.ipam_driver.as_str() {
        "" | "default" => Ok(()),
        other => Err(NetworksError::NoDriver(other.to_owned())),
    }
}
