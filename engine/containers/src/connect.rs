//! Connecting a container with a network and disconnecting it, whether it runs or not. The texts are dockerd's.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use networks::{Endpoint, NameSockets, NetworksError};
use store::Durability;

use super::driver::{Driver, Order};
use super::error::ContainerError;
use super::files::on_files;
use super::network_files;
use super::places::{self, HOST, NONE};
use super::record::{EndpointSettings, Record};
use super::registry::{Containers, Shared};
use super::state::State;

/// What a driver is asked to do.
#[derive(Debug)]
pub(super) struct Connection {
    /// Name of the network.
    pub network: String,
    /// What is asked of the place.
    pub settings: EndpointSettings,
}

impl Containers {
    /// Gives the container a place on the network: at once where it runs, else when it starts. Durable when this returns.
    ///
    /// # Errors
    /// One of both is not there, or they cannot come together.
    pub async fn connect(
        &self,
        network: &str,
        reference: &str,
        settings: EndpointSettings,
    ) -> Result<(), ContainerError> {
        let container = self.find(reference)?;
        let network = self.shared.networks.find(network)?.record.name.clone();
        container.order(|answer| Order::Connect(Box::new(Connection { network, settings }), answer)).await
    }

    /// Takes the container's place on the network away. With `force`, or where the container does not run, the network need not
    /// be there any more.
    ///
    /// # Errors
    /// One of both is not there, or they are not connected.
    pub async fn disconnect(
        &self,
        network: &str,
        reference: &str,
        force: bool,
    ) -> Result<(), ContainerError> {
        let found = self.shared.networks.find(network).map(|network| network.record.name.clone());
        let container = self.find(reference)?;
        let stands = container.snapshot().state.running().is_none();
        let network = match found {
            Err(NetworksError::NotFound(_)) if force || stands => network.to_owned(),
            found => found?,
        };
        container.order(|answer| Order::Disconnect(network, answer)).await
    }
}

impl Driver {
    pub(super) async fn connect(&mut self, asked: Connection) -> Result<(), ContainerError> {
        let record = self.container.record();
        may_connect(&record, &asked.network)?;
        self.meet_end()?;
        let ask = record.ask(&asked.network, &asked.settings)?;
        self.shared.networks.find(&asked.network)?.check(&ask, &asked.settings.aliases)?;
        let Some(pid) = self.state().running().map(|running| running.pid) else {
            self.amend(|record| {
                record.spec_mut().endpoints.insert(asked.network, asked.settings);
            });
            return self.save_or(record).await;
        };
        let (shared, before) = (self.shared.clone(), record.clone());
        let connected = on_files(move || -> Result<(Endpoint, Option<NameSockets>), ContainerError> {
            let netns = sandbox(pid)?;
            let needs_names = !ask.network.is_empty() && ask.network != networks::DEFAULT;
            let sockets = (needs_names && !shared.networks.has_names(&before.id))
                .then(|| open_names(&netns))
                .transpose()?;
            let place = shared.networks.connect(before.guest(), &ask, netns, &before.endpoints)?;
            Ok((place, sockets))
        });
        let (place, sockets) = connected.await??;
        let after = self.amend(|record| {
            record.spec_mut().endpoints.insert(asked.network.clone(), asked.settings);
            record.endpoints.insert(asked.network.clone(), place.clone());
        });
        let (shared, container) = (self.shared.clone(), self.container.clone());
        on_files(move || -> Result<(), ContainerError> {
            if let Some(sockets) = sockets {
                places::serve_names(&shared, &after, sockets)?;
            }
            let noted = super::runs::keep(&shared, &after.id, &after.endpoints);
            noted.map_err(ContainerError::machine("note the container's place on its network"))?;
            let written = network_files::connected(&shared, &container, &after, &place);
            written.map_err(ContainerError::machine("write the container's network files"))
        })
        .await??;
        self.save_spec().await?;
        self.save(Durability::Soon).await?;
        self.network_event_of(&asked.network, "connect");
        Ok(())
    }

    pub(super) async fn disconnect(&mut self, network: String) -> Result<(), ContainerError> {
        let record = self.container.record();
        self.meet_end()?;
        if record.host.network_mode == HOST && network == HOST {
            let text =
                "cannot disconnect container from host network - container was created in host network mode";
            return Err(ContainerError::Invalid(text.to_owned()));
        }
        if !record.spec.endpoints.contains_key(&network) {
            let (container, running) = (record.id.clone(), self.state().running().is_some());
            return Err(ContainerError::NotConnected { container, network, running });
        }
        let after = self.amend(|record| {
            record.spec_mut().endpoints.remove(&network);
            record.endpoints.remove(&network);
        });
        let running = self.state().running().map(|running| running.pid);
        let Some(pid) = running else { return self.save_or(record).await };
        if let Some(place) = record.endpoints.get(&network).cloned() {
            let (shared, container) = (self.shared.clone(), self.container.clone());
            let unplugged = on_files(move || unplug(&shared, &container, &after, &place, pid)).await;
            if let Err(error) = unplugged.and_then(|unplugged| unplugged) {
                self.amend(|now| {
                    now.spec = record.spec.clone();
                    now.endpoints = record.endpoints.clone();
                });
                return Err(error);
            }
        }
        self.save_spec().await?;
        self.save(Durability::Soon).await?;
        self.network_event_of(&network, "disconnect");
        Ok(())
    }

    fn meet_end(&self) -> Result<(), ContainerError> {
        match self.state() {
            State::Removing(_) | State::Removed(_) | State::Damaged(_) => {
                let id = self.container.id();
                let text = format!(
                    "container {id} is marked for removal and cannot be connected or disconnected to the network"
                );
                Err(ContainerError::Invalid(text))
            }
            _ => Ok(()),
        }
    }

    /// Writes what the container shall be; where that fails it is as it was.
    async fn save_or(&self, before: Arc<Record>) -> Result<(), ContainerError> {
        let saved = self.save_spec().await;
        if saved.is_err() {
            self.amend(|record| {
                record.spec = before.spec.clone();
                record.endpoints = before.endpoints.clone();
            });
        }
        saved
    }

    /// Another name, told to those who answer for it.
    pub(super) fn renamed(&self, name: &str) {
        self.shared.networks.rename(self.container.id(), name);
    }
}

fn may_connect(record: &Record, network: &str) -> Result<(), ContainerError> {
    let invalid = |text: &str| Err(ContainerError::Invalid(text.to_owned()));
    if record.host.network_mode == HOST || places::joined(&record.host).is_some() {
        return invalid(
            "container sharing network namespace with another container or host cannot be connected to any other \
             network",
        );
    }
    if network == HOST {
        return invalid(
            "cannot connect container to host network - container must be created in host network mode",
        );
    }
    let known = &record.spec.endpoints;
    if (network == NONE && !known.is_empty()) || (known.contains_key(NONE) && network != NONE) {
        return Err(places::private_mode());
    }
    Ok(())
}

/// The network namespace of a process. The kernel answers from memory.
#[allow(clippy::disallowed_methods)]
fn sandbox(pid: u32) -> Result<OwnedFd, ContainerError> {
    let file = std::fs::File::open(format!("/proc/{pid}/ns/net")).map(OwnedFd::from);
    file.map_err(ContainerError::machine("open the network namespace of a container"))
}

fn open_names(netns: &OwnedFd) -> Result<NameSockets, ContainerError> {
    let netns = netns.as_fd().try_clone_to_owned();
    let netns = netns.map_err(ContainerError::machine("open the network namespace of a container"))?;
    Ok(networks::name_sockets(netns)?)
}

/// Blocks.
fn unplug(
    shared: &Shared,
    container: &super::container::Container,
    after: &Record,
    place: &Endpoint,
    pid: u32,
) -> Result<(), ContainerError> {
    let others: &BTreeMap<String, Endpoint> = &after.endpoints;
    shared.networks.disconnect(&after.id, place, sandbox(pid).ok(), others)?;
    let noted = super::runs::keep(shared, &after.id, others);
    noted.map_err(ContainerError::machine("note the container's place on its network"))?;
    let written = network_files::disconnected(shared, container, after, place);
    written.map_err(ContainerError::machine("write the container's network files"))
}
