//! Networks: the three every engine has (`bridge`, `host`, `none`), and a container's place on one.
//!
//! It deliberately knows no containers: who is on a network is known by id only.

pub mod ports;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use ipnet::Ipv4Net;
use runtime::ids::IdMap;
use runtime::network::files::{self, Asked, Resolver};
use runtime::network::{
    self, AddressError, Addresses, Bridge, Cable, Firewall, Mac, NetworkError, Protected, Ready, Route,
    Sandbox, Stock, Subnet, Transport,
};
use serde::{Deserialize, Serialize};

use model::ErrorKind;
use store::{Durability, Store, StoreError, Table};

/// Id of a network → what it is.
const NETWORKS: Table<str, NetworkRecord> = Table::new("networks");

/// A network as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct NetworkRecord {
    name: String,
    driver: String,
}

/// Name of the default bridge's interface, as Docker has it.
const BRIDGE: &str = "docker0";
/// The default bridge's gateway and subnet, as Docker has them.
const GATEWAY: &str = "172.17.0.1/16";
/// Bytes of a packet.
const MTU: u32 = 1500;
/// Sandboxes kept ready.
const READY: usize = 4;
/// How long a start waits for the bridge while the machine boots.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ports of the machine that no container may reach, whatever comes to listen there: Docker's own.
const PROTECTED: [Protected; 2] = [
    Protected { transport: Transport::Tcp, port: 2375 },
    Protected { transport: Transport::Tcp, port: 2376 },
];

/// The networks that always exist: (name, driver).
pub const PREDEFINED: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

/// A container's place on a network while it runs. It goes with the machine, so it is kept on no disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name of the network.
    pub network: String,
    /// 64 hexadecimal digits.
    pub endpoint_id: String,
    /// With the subnet's prefix length.
    pub address: Ipv4Net,
    /// The subnet's way out.
    pub gateway: Ipv4Addr,
    /// Hardware address.
    pub mac: String,
}

/// What a start needs.
#[derive(Debug)]
pub struct Attachment {
    /// The network namespace; `None` is the machine's.
    pub netns: Option<OwnedFd>,
    /// The user namespace that it belongs to; `None` is the machine's.
    pub userns: Option<OwnedFd>,
    /// On a bridge.
    pub endpoint: Option<Endpoint>,
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

/// A network operation failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworksError {
    /// The kernel refused.
    #[error("failed to set up container networking: {0}")]
    Kernel(#[from] NetworkError),
    /// No address is free.
    #[error("failed to set up container networking: {0}")]
    Address(#[from] AddressError),
    /// The default bridge could not be made.
    #[error("failed to set up container networking: the bridge is not there: {0}")]
    Bridge(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NetworksError {
    /// For the server's status map.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// All networks.
pub struct Networks {
    ids: BTreeMap<String, String>,
    resolv_conf: PathBuf,
    mapped: IdMap,
    bridge: Mutex<BridgeState>,
    changed: Condvar,
    /// Made when the first container without a network is started.
    bare: OnceLock<Stock<Sandbox>>,
    addresses: Mutex<Leases>,
}

enum BridgeState {
    Coming,
    Here(Arc<Stock<Ready>>),
    Failed(String),
}

struct Leases {
    pool: Addresses,
    by_container: BTreeMap<String, Lease>,
}

struct Lease {
    address: Ipv4Addr,
    /// The machine's end of the cable; unknown after the engine was restarted.
    cable: Option<String>,
}

/// The default bridge's address, with the length of its subnet.
pub fn gateway() -> Ipv4Net {
    GATEWAY.parse().expect("the constant is an address with a prefix")
}

impl Networks {
    /// Reads or makes the networks' ids. `resolv_conf` is the machine's; `mapped` is how the ids of containers stand to its.
    ///
    /// # Errors
    /// The store failed.
    pub fn open(store: &Store, resolv_conf: PathBuf, mapped: IdMap) -> Result<Networks, NetworksError> {
        let ids = known_ids(store)?;
        let mut pool = Addresses::new(gateway().trunc(), None);
        pool.reserve(gateway().addr())?;
        Ok(Networks {
            ids,
            resolv_conf,
            mapped,
            bridge: Mutex::new(BridgeState::Coming),
            changed: Condvar::new(),
            bare: OnceLock::new(),
            addresses: Mutex::new(Leases { pool, by_container: BTreeMap::new() }),
        })
    }

    /// Makes the default bridge and the packet filter. Blocks; starts that need the bridge wait for it.
    pub fn bring_up(&self) {
        let state = match bridge_up(self.mapped) {
            Ok(stock) => BridgeState::Here(Arc::new(stock)),
            Err(error) => {
                tracing::error!(%error, "the default bridge cannot be made");
                BridgeState::Failed(error.to_string())
            }
        };
        *self.bridge.lock().expect("no holder of the bridge panics") = state;
        self.changed.notify_all();
    }

    /// Addresses of the default bridge that containers have, and the gateway's.
    pub fn in_use(&self) -> usize {
        self.addresses.lock().expect("no holder of the addresses panics").by_container.len() + 1
    }

    /// Id of a network of that name.
    pub fn id(&self, name: &str) -> Option<&str> {
        self.ids.get(name).map(String::as_str)
    }

    /// A network namespace for a container's run, with its place on the network. Blocks. Without a `mac` one is
    /// made of the address.
    ///
    /// # Errors
    /// The bridge is not there, or no address is free.
    pub fn attach(
        &self,
        mode: &str,
        container: &str,
        mac: Option<Mac>,
        owner: Owner,
    ) -> Result<Attachment, NetworksError> {
        // Also without a bridge: what it waits for (the machine's modules) a root file system needs as well.
        drop(self.wait_for_bridge());
        match mode {
            "host" => Ok(Attachment { netns: None, userns: None, endpoint: None }),
            "none" => {
                let (netns, userns) = self.take_bare(owner)?.into_namespaces();
                Ok(Attachment { netns: Some(netns), userns, endpoint: None })
            }
            _ => self.attach_bridge(container, mac, owner),
        }
    }

    fn attach_bridge(
        &self,
        container: &str,
        mac: Option<Mac>,
        owner: Owner,
    ) -> Result<Attachment, NetworksError> {
        let mut ready = self.take_ready(owner)?;
        let address = {
            let mut leases = self.leases();
            let address = leases.pool.take()?;
            let lease = Lease { address: address.addr(), cable: Some(ready.cable.name.clone()) };
            leases.by_container.insert(container.to_owned(), lease);
            address
        };
        let mac = mac.unwrap_or_else(|| Mac::of_address(address.addr()));
        let place =
            network::Endpoint { interface: "eth0".to_owned(), address, mac, gateway: Some(gateway().addr()) };
        if let Err(error) = ready.cable.configure(&ready.sandbox, &place) {
            self.detach(container);
            return Err(error.into());
        }
        let endpoint = Endpoint {
            network: "bridge".to_owned(),
            endpoint_id: model::id::new_id(),
            address,
            gateway: gateway().addr(),
            mac: mac.to_string(),
        };
        let (netns, userns) = ready.sandbox.into_namespaces();
        Ok(Attachment { netns: Some(netns), userns, endpoint: Some(endpoint) })
    }

    fn wait_for_bridge(&self) -> std::sync::MutexGuard<'_, BridgeState> {
        let state = self.bridge.lock().expect("no holder of the bridge panics");
        let coming = |state: &mut BridgeState| matches!(state, BridgeState::Coming);
        self.changed.wait_timeout_while(state, PATIENCE, coming).expect("no holder of the bridge panics").0
    }

    fn take_bare(&self, owner: Owner) -> Result<Sandbox, NetworksError> {
        if self.bare.get().is_none() {
            // A second one, made by somebody else at the same time, is dropped.
            let _ = self.bare.set(Stock::bare(READY, self.mapped)?);
        }
        self.take(self.bare.get().expect("it was just set"), owner)
    }

    fn take<T: Send + 'static>(&self, stock: &Stock<T>, owner: Owner) -> Result<T, NetworksError> {
        Ok(match owner {
            // Its root would have every capability over a sandbox that belongs to a user namespace.
            Owner::Machine if self.mapped.is_mapped() => stock.make(None)?,
            Owner::Own | Owner::Machine => stock.take()?,
            Owner::Other(user) => stock.make(Some(user))?,
        })
    }

    fn take_ready(&self, owner: Owner) -> Result<network::Ready, NetworksError> {
        self.take(&*self.plugged()?, owner)
    }

    /// The stock of the bridge. Every start asks for the state of the bridge, so its lock is not held while a sandbox is made.
    fn plugged(&self) -> Result<Arc<Stock<Ready>>, NetworksError> {
        match &*self.wait_for_bridge() {
            BridgeState::Here(stock) => Ok(stock.clone()),
            BridgeState::Failed(why) => Err(NetworksError::Bridge(why.clone())),
            BridgeState::Coming => Err(NetworksError::Bridge("the machine is still booting".to_owned())),
        }
    }

    /// The container's run is over: its cable is cut, then its address is free. The kernel takes a while to bury a
    /// network namespace, and until then nobody else must answer for the address.
    pub fn detach(&self, container: &str) {
        let Some(lease) = self.leases().by_container.remove(container) else { return };
        if let Some(cable) = &lease.cable
            && let Err(error) = Route::open().and_then(|route| Cable::cut_named(&route, cable))
        {
            tracing::debug!(container, %error, "cannot cut a cable, it goes with its namespace");
        }
        self.leases().pool.release(lease.address);
    }

    /// A run that an engine before this one began keeps its address.
    pub fn resume(&self, container: &str, address: Ipv4Addr) {
        let mut leases = self.leases();
        if let Err(error) = leases.pool.reserve(address) {
            tracing::error!(container, %error, "a running container's address is not free");
            return;
        }
        leases.by_container.insert(container.to_owned(), Lease { address, cable: None });
    }

    /// Text of a container's /etc/hosts; `extra` are its own `name:address` words.
    pub fn hosts_file(
        &self,
        extra: &[String],
        hostname: &str,
        domain: &str,
        endpoint: Option<&Endpoint>,
    ) -> String {
        let extra: Vec<(String, IpAddr)> = extra
            .iter()
            .filter_map(|line| line.split_once([':', '=']))
            .filter_map(|(name, address)| match address {
                "host-gateway" => Some((name.to_owned(), gateway().addr().into())),
                address => Some((name.to_owned(), address.trim_matches(['[', ']']).parse().ok()?)),
            })
            .collect();
        let own: Vec<IpAddr> = endpoint.map(|endpoint| endpoint.address.addr().into()).into_iter().collect();
        files::hosts(true, &extra, &own, hostname, domain)
    }

    /// Text of a container's /etc/resolv.conf: the machine's where `shared` (it uses the machine's network), else
    /// what can be reached from the bridge; what the container asked for itself stands in place of either.
    pub fn resolv_conf(&self, shared: bool, dns: &[String], search: &[String], options: &[String]) -> String {
        let machine = Resolver::parse(&std::fs::read_to_string(&self.resolv_conf).unwrap_or_default());
        let servers: Vec<IpAddr> = dns.iter().filter_map(|text| text.parse().ok()).collect();
        let asked = Asked { servers: &servers, search, options };
        if shared {
            machine.overridden(asked).text()
        } else {
            machine.for_default_bridge(asked, false).text()
        }
    }

    fn leases(&self) -> std::sync::MutexGuard<'_, Leases> {
        self.addresses.lock().expect("no holder of the leases panics")
    }
}

/// Ids of the predefined networks by name. Those that are not known, or whose rows cannot be read, are made.
fn known_ids(store: &Store) -> Result<BTreeMap<String, String>, NetworksError> {
    let rows = store.read(|reader| reader.rows(NETWORKS))?;
    rows.damaged.iter().for_each(|row| tracing::error!("a network is damaged: {row}"));
    let mut ids: BTreeMap<_, _> = rows.readable.into_iter().map(|(id, network)| (network.name, id)).collect();
    for (name, driver) in PREDEFINED.iter().filter(|(name, _)| !ids.contains_key(*name)).collect::<Vec<_>>() {
        let id = model::id::new_id();
        ids.insert((*name).to_owned(), id.clone());
        let network = NetworkRecord { name: (*name).to_owned(), driver: (*driver).to_owned() };
        store.write(Durability::Soon, move |writer| writer.put(NETWORKS, id.as_str(), &network))?;
    }
    Ok(ids)
}

fn bridge_up(ids: IdMap) -> Result<Stock<Ready>, NetworksError> {
    let route = Route::open()?;
    let bridge = Bridge::ensure(&route, BRIDGE, gateway(), MTU)?;
    let subnet = Subnet {
        bridge: BRIDGE.to_owned(),
        addresses: gateway().trunc(),
        connected: true,
        internal: false,
        hidden: true,
    };
    Firewall.replace(&[subnet], &PROTECTED)?;
    Ok(Stock::plugged(&bridge, READY, ids)?)
}
