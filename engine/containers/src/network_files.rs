//! /etc/hosts, /etc/hostname and /etc/resolv.conf: made anew at each start, as dockerd does, and followed while the
//! container runs. What the container wrote into them stays until it ends.

// All of it runs on a launching thread or a file worker.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use networks::{DEFAULT, Endpoint, HostsFile, hosts_with, hosts_without};

use super::container::Container;
use super::error::ContainerError;
use super::places::{HOST, joined, links};
use super::record::Record;
use super::registry::Shared;

/// A longer file of the container's is left as it is, in bytes.
const EDITABLE: u64 = 1 << 20;

/// Where a container's files are: whoever uses another container's network has the other's.
pub(super) fn folder(shared: &Shared, container: &Container, record: &Record) -> PathBuf {
    let donor = joined(&record.host).and_then(|other| super::registry::find(shared, other).ok());
    donor.map_or_else(|| container.folder.clone(), |donor| donor.folder.clone())
}

/// The name of the host that it is: of the other's, whose network it uses.
pub(super) fn hostname(shared: &Shared, record: &Record) -> String {
    let donor = joined(&record.host).and_then(|other| super::registry::find(shared, other).ok());
    donor.map_or_else(|| record.config.hostname.clone(), |donor| donor.record().config.hostname.clone())
}

/// Makes them for a run.
pub(super) fn write(
    shared: &Shared,
    container: &Container,
    record: &Record,
    places: &BTreeMap<String, Endpoint>,
) -> Result<(), ContainerError> {
    if joined(&record.host).is_some() {
        return Ok(());
    }
    let links = links(shared, record)?;
    let text = hosts(shared, record, &links).text(places.values());
    let written = put(shared, container, record, "hosts", &text)
        .and_then(|()| put(shared, container, record, "hostname", &format!("{}\n", record.config.hostname)))
        .and_then(|()| {
            put(shared, container, record, "resolv.conf", &resolv_conf(shared, record, has_names(places)))
        });
    written.map_err(ContainerError::machine("write the container's network files"))
}

fn hosts<'a>(shared: &Shared, record: &'a Record, links: &'a [(std::net::IpAddr, String)]) -> HostsFile<'a> {
    HostsFile {
        host: shared.networks.host_gateway(),
        extra: &record.host.extra_hosts,
        links,
        hostname: &record.config.hostname,
        domain: &record.config.domainname,
    }
}

/// It belongs to the container, which may edit it. Its place on the disk stays, for it is mounted.
fn put(
    shared: &Shared,
    container: &Container,
    record: &Record,
    name: &str,
    text: &str,
) -> std::io::Result<()> {
    let path = container.folder.join(name);
    std::fs::write(&path, text)?;
    let ids = shared.ids(&record.host);
    let root = Some(ids.root()).filter(|_| ids.is_mapped());
    root.map_or(Ok(()), |_| std::os::unix::fs::chown(&path, root, root))
}

/// Whether one of the places is on a network that has names.
fn has_names(places: &BTreeMap<String, Endpoint>) -> bool {
    places.keys().any(|network| network != DEFAULT)
}

fn resolv_conf(shared: &Shared, record: &Record, names: bool) -> String {
    let host = &record.host;
    let machine = host.network_mode == HOST;
    shared.networks.resolv_conf(machine, names, &host.dns, &host.dns_search, &host.dns_options)
}

/// Another text where it is another now, unless the container changed the file.
fn follow_resolv_conf(
    shared: &Shared,
    container: &Container,
    record: &Record,
    had_names: bool,
) -> std::io::Result<()> {
    let names = has_names(&record.endpoints);
    if names == had_names {
        return Ok(());
    }
    let made = resolv_conf(shared, record, had_names);
    let path = container.folder.join("resolv.conf");
    // Another length is another text, however long.
    if std::fs::metadata(&path)?.len() != made.len() as u64 || std::fs::read(&path)? != made.as_bytes() {
        return Ok(());
    }
    put(shared, container, record, "resolv.conf", &resolv_conf(shared, record, names))
}

/// One more place of a container that runs.
pub(super) fn connected(
    shared: &Shared,
    container: &Container,
    record: &Record,
    place: &Endpoint,
) -> std::io::Result<()> {
    let lines = hosts(shared, record, &[]).lines(place);
    edit_hosts(shared, container, record, |text| hosts_with(text, &lines.concat()))?;
    let before = record.endpoints.keys().filter(|network| **network != place.network);
    let had_names = before.into_iter().any(|network| network != DEFAULT);
    follow_resolv_conf(shared, container, record, had_names)
}

/// One place less.
pub(super) fn disconnected(
    shared: &Shared,
    container: &Container,
    record: &Record,
    place: &Endpoint,
) -> std::io::Result<()> {
    let lines = hosts(shared, record, &[]).lines(place);
    edit_hosts(shared, container, record, |text| {
        lines.iter().fold(text.to_owned(), |text, line| hosts_without(&text, line))
    })?;
    let had_names = has_names(&record.endpoints) || place.network != DEFAULT;
    follow_resolv_conf(shared, container, record, had_names)
}

fn edit_hosts(
    shared: &Shared,
    container: &Container,
    record: &Record,
    edit: impl FnOnce(&str) -> String,
) -> std::io::Result<()> {
    let path = container.folder.join("hosts");
    // The container writes it as well, and as much as it likes.
    if std::fs::metadata(&path)?.len() > EDITABLE {
        return Ok(());
    }
    let text = std::fs::read(path)?;
    put(shared, container, record, "hosts", &edit(&String::from_utf8_lossy(&text)))
}
