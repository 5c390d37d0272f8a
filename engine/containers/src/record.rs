//! What the store keeps of a container: what it shall be, apart from the little that changes with each run.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use store::{Holder, Table};

use super::config::{Config, HostConfig};
use super::health::Health;
use super::mounts::MountPoint;
use super::restart::Restarts;
use super::state::Ended;
use model::timestamp::Timestamp;
use networks::Endpoint;
use networks::ports::Published;

/// The state that survives a power cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recorded {
    /// Never ran, or could not be started.
    Created(Ended),
    /// Was started; whether it still runs only PID 1 knows.
    Started(Timestamp),
    /// Ran to its end.
    Exited(Ended),
    /// Ran to its end and waits to be started again.
    Restarting(Ended),
}

/// What a container shall be: written when it is created, renamed or updated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Without the leading slash.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// The image's id.
    pub image_id: String,
    /// Merged with the image's configuration.
    pub config: Config,
    /// As the creator said, defaults filled in.
    pub host: HostConfig,
    /// What it asks of its place on each of its networks, by the network's name.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// What is mounted; see [`Record::mount_points`].
    #[serde(default)]
    pub points: Option<Vec<MountPoint>>,
}

/// What a container asks of its place on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSettings {
    /// Hardware address; empty is a random one in each run.
    pub mac: String,
    /// Addresses, where the client spoke of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<AskedAddresses>,
    /// What it is called there beside its own names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// What it calls others there: `name:alias`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// Options of the driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
    /// Which of several ways out is taken: the highest.
    pub priority: i64,
}

/// Addresses that a container asks for, as the client wrote them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AskedAddresses {
    /// Empty: any.
    pub ipv4: String,
    /// Empty: any.
    pub ipv6: String,
    /// Those of the link alone, beside the network's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub link_local: Vec<String>,
}

impl EndpointSettings {
    /// The IPv6 address it asks for; empty is any.
    pub fn ipv6(&self) -> &str {
        self.addresses.as_ref().map_or("", |addresses| addresses.ipv6.as_str())
    }

    /// The address it asks for; empty is any.
    pub fn ipv4(&self) -> &str {
        self.addresses.as_ref().map_or("", |addresses| addresses.ipv4.as_str())
    }
}

/// What changes with each run: small, since each start and each end writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// See [`Recorded`].
    pub state: Recorded,
    /// What its restart policy did so far.
    #[serde(default)]
    pub restarts: Restarts,
    /// What its probes say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// End of the run before the one that goes on.
    #[serde(default)]
    pub finished_at: Timestamp,
}

impl ContainerSpec {
    /// Of a container of which only the name is known.
    pub(super) fn unknown(name: String) -> ContainerSpec {
        ContainerSpec {
            name,
            created: Timestamp::default(),
            image_id: String::new(),
            config: Config::default(),
            host: HostConfig::default(),
            endpoints: BTreeMap::new(),
            points: None,
        }
    }
}

impl ContainerState {
    /// Without a history.
    pub(super) fn of(state: Recorded) -> ContainerState {
        let finished_at = Timestamp::default();
        ContainerState { state, restarts: Restarts::default(), health: None, finished_at }
    }
}

/// Id → what the container shall be. There is a container where there is such a row.
pub(super) const CONTAINERS: Table<str, ContainerSpec> = Table::new("containers");
/// Id → its state.
pub(super) const STATES: Table<str, ContainerState> = Table::new("states");
/// Name → id. It is what makes a name one container's only.
pub(super) const NAMES: Table<str, String> = Table::new("names");

/// A container as it is known in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What it shall be; a record is read as one, see [`Deref`].
    pub spec: Arc<ContainerSpec>,
    /// See [`Recorded`].
    pub state: Recorded,
    /// What its restart policy did so far.
    pub restarts: Restarts,
    /// What its probes say.
    pub health: Option<Health>,
    /// End of the run before the one that goes on.
    pub finished_at: Timestamp,
    /// Its places on its networks in the newest run, by the network's name.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Its published ports in the newest run.
    pub ports: Vec<Published>,
}

impl Deref for Record {
    type Target = ContainerSpec;

    fn deref(&self) -> &ContainerSpec {
        &self.spec
    }
}

impl Record {
    /// What the two rows of a container tell.
    pub(super) fn new(id: String, spec: ContainerSpec, state: ContainerState) -> Record {
        let ContainerState { state, restarts, health, finished_at } = state;
        let (spec, endpoints, ports) = (Arc::new(spec), BTreeMap::new(), Vec::new());
        Record { id, spec, state, restarts, health, finished_at, endpoints, ports }
    }

    /// The row of its state.
    pub(super) fn state_row(&self) -> ContainerState {
        let Record { state, restarts, health, finished_at, .. } = self.clone();
        ContainerState { state, restarts, health, finished_at }
    }

    /// What it shall be, to be changed.
    pub(super) fn spec_mut(&mut self) -> &mut ContainerSpec {
        Arc::make_mut(&mut self.spec)
    }

    /// What it asks of its place on the network of its mode.
    pub fn endpoint_settings(&self) -> EndpointSettings {
        self.spec.endpoints.get(&self.host.network_mode).cloned().unwrap_or_default()
    }

    /// Program and arguments.
    pub fn command(&self) -> Vec<String> {
        let words = [&self.config.entrypoint, &self.config.cmd];
        words.into_iter().flatten().flatten().cloned().collect()
    }

    /// As whom it holds what it uses.
    pub(super) fn holder(&self) -> Holder {
        Holder::Container(self.id.clone())
    }

    /// Attributes of the container's events: labels, image and name.
    pub(super) fn attributes(&self) -> BTreeMap<String, String> {
        let mut attributes = self.config.labels.clone();
        attributes.insert("image".to_owned(), self.config.image.clone());
        attributes.insert("name".to_owned(), self.name.clone());
        attributes
    }
}
