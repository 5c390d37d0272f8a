//! /etc/hosts, /etc/hostname and /etc/resolv.conf: made at a start, and followed while the container runs. What somebody
//! wrote into them stays, as far as dockerd lets it: resolv.conf is left alone once it was changed in the container.

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

/// resolv.conf as it was made, by which it is known whether the container changed it.
const MADE: &str = "resolv.conf.made";

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
    let text = hosts(record, &links).text(places.values());
    let written = put(shared, container, record, "hosts", &text)
        .and_then(|()| put(shared, container, record, "hostname", &format!("{}\n", record.config.hostname)))
        .and_then(|()| write_resolv_conf(shared, container, record, places));
    written.map_err(ContainerError::machine("write the container's network files"))
}

fn hosts<'a>(record: &'a Record, links: &'a [(std::net::IpAddr, String)]) -> HostsFile<'a> {
    HostsFile {
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

/// Leaves the file alone where the container changed it.
fn write_resolv_conf(
    shared: &Shared,
    container: &Container,
    record: &Record,
    places: &BTreeMap<String, Endpoint>,
) -> std::io::Result<()> {
    let (file, made) = (container.folder.join("resolv.conf"), container.folder.join(MADE));
    // Another length is another text, however long.
    let length = |path: &PathBuf| std::fs::metadata(path).map(|found| found.len()).ok();
    if let (Some(now), Some(before)) = (length(&file), length(&made))
        && (now != before || std::fs::read(&file)? != std::fs::read(&made)?)
    {
        return Ok(());
    }
    let host = &record.host;
    let (machine, names) = (host.network_mode == HOST, places.keys().any(|network| network != DEFAULT));
    let text = shared.networks.resolv_conf(machine, names, &host.dns, &host.dns_search, &host.dns_options);
    put(shared, container, record, "resolv.conf", &text)?;
    std::fs::write(made, text)
}

/// One more place of a container that runs.
pub(super) fn connected(
    shared: &Shared,
    container: &Container,
    record: &Record,
    place: &Endpoint,
) -> std::io::Result<()> {
    let line = hosts(record, &[]).line(place);
    edit_hosts(shared, container, record, |text| hosts_with(text, &line))?;
    write_resolv_conf(shared, container, record, &record.endpoints)
}

/// One place less.
pub(super) fn disconnected(
    shared: &Shared,
    container: &Container,
    record: &Record,
    place: &Endpoint,
) -> std::io::Result<()> {
    let line = hosts(record, &[]).line(place);
    edit_hosts(shared, container, record, |text| hosts_without(text, &line))?;
    write_resolv_conf(shared, container, record, &record.endpoints)
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
