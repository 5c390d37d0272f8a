//! A container's places on networks: what it asks for, and where it is put.

// All of it runs on a launching thread or a file worker.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use contract::keeper::Name;
use networks::dns::Asker;
use networks::{Ask, Attachment, DEFAULT, Endpoint, Guest, Mac, NameSockets, Owner};

use super::config::HostConfig;
use super::error::ContainerError;
use super::record::{EndpointSettings, Record};
use super::registry::Shared;
use super::state::State;

/// The modes that are no networks of bridges.
pub(super) const HOST: &str = "host";
pub(super) const NONE: &str = "none";

/// The container whose network a container uses.
pub(super) fn joined(host: &HostConfig) -> Option<&str> {
    host.network_mode.strip_prefix("container:")
}

impl Record {
    pub(super) fn guest(&self) -> Guest<'_> {
        Guest { id: &self.id, name: &self.name }
    }

    /// What it is called on networks of the user's own, beside its name: aliases, the short id, the host's name.
    pub(super) fn names_on(&self, settings: &EndpointSettings) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let own = [self.id.get(..12).unwrap_or(&self.id).to_owned(), self.config.hostname.clone()];
        for name in settings.aliases.iter().cloned().chain(own) {
            if !name.is_empty() && name != self.name && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// All names by which it is known on a network, in Docker's order; none on the default bridge.
    pub fn dns_names(&self, network: &str) -> Vec<String> {
        let Some(settings) = self.spec.endpoints.get(network).filter(|_| network != DEFAULT) else {
            return vec![];
        };
        std::iter::once(self.name.clone()).chain(self.names_on(settings)).collect()
    }

    /// What it asks of each of its networks, in the order of its interfaces.
    pub(super) fn asks(&self) -> Vec<Ask> {
        let bridged = |name: &&String| !matches!(name.as_str(), HOST | NONE);
        let mut asks: Vec<Ask> = self
            .spec
            .endpoints
            .keys()
            .filter(bridged)
            .filter_map(|network| self.ask(network, self.spec.endpoints.get(network)?).ok())
            .collect();
        asks.sort_by_key(|ask| (std::cmp::Reverse(ask.priority), ask.network != self.host.network_mode));
        asks
    }

    /// What it asks of one network.
    pub(super) fn ask(&self, network: &str, settings: &EndpointSettings) -> Result<Ask, ContainerError> {
        const INTERFACE: &str = "com.docker.network.endpoint.ifname";
        let has_names = network != DEFAULT;
        let links = settings.links.iter().filter(|_| has_names);
        Ok(Ask {
            network: network.to_owned(),
            address: settings.ipv4().to_owned(),
            ipv6: settings.ipv6().to_owned(),
            link_local: settings.addresses.as_ref().map_or(vec![], |asked| asked.link_local.clone()),
            mac: mac(settings)?,
            priority: settings.priority,
            interface: settings.driver_opts.get(INTERFACE).cloned().unwrap_or_default(),
            names: if has_names { self.names_on(settings) } else { vec![] },
            links: links.map(|link| split_link(link)).map(|(target, alias)| (alias, target)).collect(),
        })
    }
}

/// `name:alias`, or a name that is its own alias.
pub(super) fn split_link(link: &str) -> (String, String) {
    let (target, alias) = link.split_once(':').unwrap_or((link, link));
    (target.trim_start_matches('/').to_owned(), alias.to_owned())
}

/// The hardware address that was asked for.
pub(super) fn mac(settings: &EndpointSettings) -> Result<Option<Mac>, ContainerError> {
    let asked = Some(&settings.mac).filter(|text| !text.is_empty());
    let invalid = |_| ContainerError::Invalid(format!("address {}: invalid MAC address", settings.mac));
    asked.map(|text| text.parse()).transpose().map_err(invalid)
}

/// A container's sandbox for its run. Blocks.
pub(super) fn attach(shared: &Shared, record: &Record, owner: Owner) -> Result<Attachment, ContainerError> {
    let networks = &shared.networks;
    if let Some(other) = joined(&record.host) {
        return join(shared, other);
    }
    let others = record.spec.endpoints.keys().any(|name| !matches!(name.as_str(), HOST | NONE));
    if record.host.network_mode == HOST {
        return Ok(networks.machine());
    }
    if record.spec.endpoints.contains_key(NONE) {
        return if others { Err(private_mode()) } else { Ok(networks.none(owner)?) };
    }
    Ok(networks.attach(record.guest(), &record.asks(), owner)?)
}

pub(super) fn private_mode() -> ContainerError {
    let text =
        "container cannot be connected to multiple networks with one of the networks in private (none) mode";
    ContainerError::Invalid(text.to_owned())
}

/// The sandbox of another container that runs.
fn join(shared: &Shared, other: &str) -> Result<Attachment, ContainerError> {
    let containers = super::registry::find(shared, other);
    let missing = || ContainerError::Joining(other.to_owned());
    let donor = containers.map_err(|_| missing())?;
    let (record, snapshot) = (donor.record(), donor.snapshot());
    let Some(running) = snapshot.state.running() else {
        let (name, status) = (&record.name, snapshot.state.status());
        let text = if matches!(snapshot.state, State::Restarting(_)) {
            format!("cannot join network namespace of container {name}: container {name} is restarting")
        } else {
            format!("cannot join network namespace of a non running container: container {name} is {status}")
        };
        return Err(ContainerError::Conflict(text));
    };
    let namespace = |kind: &str| {
        let file = File::open(format!("/proc/{}/ns/{kind}", running.pid));
        file.map(OwnedFd::from).map_err(ContainerError::machine("open a namespace of a container"))
    };
    let userns = shared.ids(&record.host).is_mapped().then(|| namespace("user")).transpose()?;
    Ok(Attachment { netns: Some(namespace("net")?), userns, endpoints: BTreeMap::new(), names: None })
}

/// Under which name PID 1 holds the sockets at which a container asks for names.
pub(super) fn sockets_name(id: &str) -> Name {
    // All of an id is longer than a name may be.
    Name::new(format!("dns/{}", id.get(..32).unwrap_or(id))).expect("an id is hexadecimal digits")
}

/// Answers at the sockets; from then on they outlive the engine.
pub(super) fn serve_names(
    shared: &Shared,
    record: &Record,
    sockets: NameSockets,
) -> Result<(), ContainerError> {
    let failed = |error: std::io::Error| ContainerError::machine("answer for names")(error);
    let kept = shared.keeper.keep(sockets_name(&record.id), &[sockets.udp.as_fd(), sockets.tcp.as_fd()]);
    kept.map_err(|error| failed(std::io::Error::other(error)))?;
    resume_names(shared, record, sockets).map_err(failed)
}

/// Answers at sockets that PID 1 holds already.
pub(super) fn resume_names(shared: &Shared, record: &Record, sockets: NameSockets) -> std::io::Result<()> {
    let servers: Vec<IpAddr> = record.host.dns.iter().filter_map(|text| text.parse().ok()).collect();
    shared.networks.serve_names(Asker { id: record.id.clone(), servers }, sockets)
}

/// The run is over: nobody answers any more, and what was taken is given back. Blocks.
pub(super) fn detach(shared: &Shared, id: &str) {
    let had_names = shared.networks.has_names(id);
    shared.networks.detach(id);
    if had_names && let Err(error) = shared.keeper.release(sockets_name(id)) {
        tracing::error!(container = id, %error, "cannot tell PID 1 what is not needed");
    }
}

/// Lines of /etc/hosts for the containers that are linked to on the default bridge: (address, names).
pub(super) fn links(shared: &Shared, record: &Record) -> Result<Vec<(IpAddr, String)>, ContainerError> {
    if record.host.links.is_empty() || !record.spec.endpoints.contains_key(DEFAULT) {
        return Ok(vec![]);
    }
    let line = |link: &String| {
        let (target, alias) = split_link(link);
        let other = super::registry::find(shared, &target)?.record();
        let place: Option<&Endpoint> = other.endpoints.get(DEFAULT);
        let is_running = super::registry::find(shared, &target)?.snapshot().state.running().is_some();
        let place = place.filter(|_| is_running).ok_or_else(|| {
            let text = format!(
                "Cannot link to a non running container: /{} AS /{}/{alias}",
                other.name, record.name
            );
            ContainerError::Invalid(text)
        })?;
        // The default bridge has IPv4.
        let address = place.address.map(|address| IpAddr::V4(address.addr()));
        let names = format!("{alias} {} {}", other.config.hostname, other.name);
        Ok(address.map(|address| (address, names)))
    };
    record.host.links.iter().filter_map(|link| line(link).transpose()).collect()
}

/// What cannot be asked of a network; what is unknown now may be there when the container starts.
pub(super) fn check(shared: &Shared, record: &Record) -> Result<(), ContainerError> {
    for (network, settings) in &record.spec.endpoints {
        let Ok(found) = shared.networks.find(network) else { continue };
        let ask = record.ask(network, settings)?;
        if let Err(error) = found.check(&ask, &settings.aliases) {
            let text = format!("invalid config for network {network}: {error}");
            return Err(ContainerError::Invalid(text));
        }
    }
    Ok(())
}
