//! Networks: the three that every engine has (`bridge`, `host`, `none`), those of the user's own, and the places of
//! containers on them.
//!
//! ```text
//!   create ── record in the store ── bridge ── packet filter        remove: the same way back
//!   attach ── address ── cable from the stock ── joined to the bridge ── names are answered ── detach
//! ```
//!
//! Networks of the drivers `macvlan` and `ipvlan` have a parent in the place of a bridge, an interface of the machine's; their
//! containers have children of it in the place of cables, and the packet filter knows nothing of them.
//!
//! It deliberately knows no containers: who is on a network is known by an id and by what others may call it. What is
//! here and not in the store goes with the machine, and is told again by whoever knows who runs.

mod addresses_6;
mod attach;
mod bridges;
mod config_only;
mod create;
pub mod dns;
mod endpoint;
mod error;
mod files;
mod find;
mod host;
mod ipam;
mod leases;
mod link;
mod network;
mod options;
mod parents;
mod plug;
mod record;
mod remove;

pub mod ports;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use ipnet::{IpNet, Ipv4Net};
use model::events::{Events, Subject};
use model::timestamp::Timestamp;
use runtime::ids::IdMap;
use store::{Durability, Store};

pub use attach::{Attachment, Owner};
pub use create::Create;
pub use endpoint::{Ask, Endpoint, Guest, published, way_out};
pub use error::NetworksError;
pub use files::{HostsFile, hosts_with, hosts_without};
pub use host::Host;
pub use ipam::AskedPool;
pub use link::Plug;
pub use network::{DEFAULT, Member, Network};
pub use record::{Ipam, NetworkRecord, Pool};
pub use remove::Prune;
pub use runtime::network::{Mac, NameSockets};

use bridges::Bridges;
use record::NETWORKS;

/// Name of the default bridge's interface, as Docker has it.
const BRIDGE: &str = "docker0";
/// The default bridge's gateway and subnet, as Docker has them.
const GATEWAY: &str = "172.17.0.1/16";

/// The networks that always exist: (name, driver).
pub const PREDEFINED: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

/// All networks.
pub struct Networks {
    store: Store,
    resolv_conf: PathBuf,
    by_id: RwLock<BTreeMap<String, Arc<Network>>>,
    bridges: Bridges,
    /// Held while a network is made or removed: what a new one overlaps is asked in between.
    changing: Mutex<()>,
    pruning: std::sync::atomic::AtomicBool,
    events: OnceLock<Arc<Events>>,
    names: dns::Service,
    host: Option<Host>,
}

/// The default bridge's address, with the length of its subnet.
pub fn gateway() -> Ipv4Net {
    GATEWAY.parse().expect("the constant is an address with a prefix")
}

/// The sockets at which the processes of a sandbox ask for names. Blocks.
///
/// # Errors
/// What the kernel refuses.
pub fn name_sockets(netns: std::os::fd::OwnedFd) -> Result<NameSockets, NetworksError> {
    Ok(NameSockets::open(&runtime::network::Sandbox::adopt(netns)?)?)
}

impl Networks {
    /// Reads the networks; the predefined ones are made where they are missing. `resolv_conf` is the machine's; `mapped` is
    /// how the ids of containers stand to its. Names are answered on the runtime `names`. `host` is the machine's, where it has one.
    ///
    /// # Errors
    /// The store failed.
    pub fn open(
        store: &Store,
        resolv_conf: PathBuf,
        mapped: IdMap,
        names: tokio::runtime::Handle,
        host: Option<Host>,
    ) -> Result<Networks, NetworksError> {
        let by_id = known(store)?;
        Ok(Networks {
            store: store.clone(),
            names: dns::Service::new(names, resolv_conf.clone()),
            resolv_conf,
            by_id: RwLock::new(by_id),
            bridges: Bridges::new(mapped),
            changing: Mutex::new(()),
            pruning: false.into(),
            events: OnceLock::new(),
            host,
        })
    }

    /// Where what happens is told.
    pub fn publish_to(&self, events: Arc<Events>) {
        // The first one stays.
        let _ = self.events.set(events);
    }

    /// Makes the bridges and the packet filter. Blocks; starts that need a bridge wait for it.
    pub fn bring_up(&self) {
        let _changing = self.changing.lock().expect("no holder of the changes panics");
        self.bridges.bring_up(&self.list(), self.host.as_ref());
    }

    /// Every network, in the order of their ids.
    pub fn list(&self) -> Vec<Arc<Network>> {
        self.by_id.read().expect("no writer of the networks panics").values().cloned().collect()
    }

    fn event(&self, network: &Network, action: &str) {
        let record = &network.record;
        let attributes = [("name", &record.name), ("type", &record.driver)];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.clone())).into();
        self.publish(action, &network.id, attributes);
    }

    fn publish(&self, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        if let Some(events) = self.events.get() {
            events.publish(Subject::Network, action, id, attributes);
        }
    }
}

/// The networks of the store, and the predefined ones. Those whose rows cannot be read are told in the log.
fn known(store: &Store) -> Result<BTreeMap<String, Arc<Network>>, NetworksError> {
    let rows = store.read(|reader| reader.rows(NETWORKS))?;
    rows.damaged.iter().for_each(|row| tracing::error!("a network is damaged: {row}"));
    let mut by_id = BTreeMap::new();
    for (id, record) in rows.readable {
        let name = record.name.clone();
        match Network::new(id.clone(), completed(record)) {
            Ok(network) => drop(by_id.insert(id, Arc::new(network))),
            Err(error) => tracing::error!(network = name, %error, "a network cannot be understood"),
        }
    }
    for (name, driver) in PREDEFINED {
        if by_id.values().any(|network: &Arc<Network>| network.record.name == name) {
            continue;
        }
        let (name, driver, created) = (name.to_owned(), driver.to_owned(), Timestamp::now());
        let record = NetworkRecord { name, driver, created, has_ipv4: true, ..NetworkRecord::default() };
        let (id, row) = (model::id::new_id(), record.clone());
        by_id.insert(id.clone(), Arc::new(Network::new(id.clone(), completed(record))?));
        store.write(Durability::Soon, move |writer| writer.put(NETWORKS, id.as_str(), &row))?;
    }
    Ok(by_id)
}

/// The default bridge's row says only that there is one: what it is, is this release's to say.
fn completed(mut record: NetworkRecord) -> NetworkRecord {
    if record.name != DEFAULT {
        return record;
    }
    let subnet = IpNet::V4(bridges::default_subnet());
    let pool = Pool { gateway: Some(gateway().addr().into()), ..Pool::of(subnet) };
    record.ipam = Ipam { pools: vec![pool], ..Ipam::default() };
    let options = [
        ("com.docker.network.bridge.default_bridge", "true"),
        ("com.docker.network.bridge.enable_icc", "true"),
        ("com.docker.network.bridge.enable_ip_masquerade", "true"),
        ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
        ("com.docker.network.bridge.name", BRIDGE),
        ("com.docker.network.driver.mtu", "1500"),
    ];
    record.options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    record
}
