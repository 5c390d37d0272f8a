//! A container's published ports, from what its creator asked to what the host opened.

// All of it runs on a launching thread, or before the API is served.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use networks::Endpoint;
use networks::ports::{Published, Wanted, wanted};

use super::config::{Config, HostConfig};
use super::error::ContainerError;
use super::record::Record;
use super::registry::Shared;

/// What is asked.
///
/// # Errors
/// [`ContainerError::Invalid`] with dockerd's words.
pub(super) fn asked(config: &Config, host: &HostConfig) -> Result<Vec<Wanted>, ContainerError> {
    wanted(&host.port_bindings, &config.exposed_ports, host.publish_all_ports)
        .map_err(ContainerError::Invalid)
}

/// Opens the container's ports, before anything of it runs. Without a place on a bridge there is nothing that they could lead
/// to.
pub(super) fn publish(
    shared: &Shared,
    record: &Record,
    endpoints: &BTreeMap<String, Endpoint>,
) -> Result<Vec<Published>, ContainerError> {
    let Some((endpoint, address)) = networks::published(endpoints.values()) else { return Ok(Vec::new()) };
    let wanted = asked(&record.config, &record.host)?;
    let failed = |source| ContainerError::Ports {
        name: record.name.clone(),
        endpoint: endpoint.endpoint_id.clone(),
        source: Box::new(source),
    };
    let ports = shared.ports.publish(&record.id, address, &wanted).map_err(failed)?;
    super::runs::keep_ports(shared, &record.id, &ports)
        .map_err(ContainerError::machine("note the container's ports"))?;
    Ok(ports)
}

/// The ports of a run that an engine before this one began.
pub(super) fn resume(shared: &Shared, id: &str, endpoints: &BTreeMap<String, Endpoint>) -> Vec<Published> {
    let ports = super::runs::find_ports(shared, id);
    if let Some((_, address)) = networks::published(endpoints.values()).filter(|_| !ports.is_empty()) {
        shared.ports.resume(id, address, ports.clone());
    }
    ports
}
