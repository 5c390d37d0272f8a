//! Where a running container is on its networks, and which ports are published for it. It is true as long as the machine runs, so it lies beside PID 1 below
//! `/run/pinnace` and in no database, for an engine that returns: the note that PID 1 keeps has no room for it.

// The kernel keeps /run in memory and answers from there.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use networks::Endpoint;
use networks::ports::Published;

use super::registry::Shared;

fn place(shared: &Shared, id: &str) -> PathBuf {
    shared.settings.run.join("runs").join(id)
}

fn place_of_ports(shared: &Shared, id: &str) -> PathBuf {
    place(shared, id).with_extension("ports")
}

/// Written before the process is started, so that there is never a process whose address nobody knows.
pub(super) fn keep(shared: &Shared, id: &str, endpoints: &BTreeMap<String, Endpoint>) -> std::io::Result<()> {
    if endpoints.is_empty() {
        return Ok(());
    }
    let bytes = serde_json::to_vec(endpoints).expect("a map of structs of strings is always JSON");
    std::fs::write(place(shared, id), bytes)
}

/// What an engine before this one kept.
pub(super) fn find(shared: &Shared, id: &str) -> Option<BTreeMap<String, Endpoint>> {
    serde_json::from_slice(&std::fs::read(place(shared, id)).ok()?).ok()
}

/// As [`keep`], for its published ports.
pub(super) fn keep_ports(shared: &Shared, id: &str, ports: &[Published]) -> std::io::Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let bytes = serde_json::to_vec(ports).expect("a list of structs of numbers and addresses is always JSON");
    std::fs::write(place_of_ports(shared, id), bytes)
}

/// As [`find`], for its published ports.
pub(super) fn find_ports(shared: &Shared, id: &str) -> Vec<Published> {
    let bytes = std::fs::read(place_of_ports(shared, id)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// The run is over.
pub(super) fn forget(shared: &Shared, id: &str) {
    // Without a place on a network nothing was written.
    let _ = std::fs::remove_file(place(shared, id));
    let _ = std::fs::remove_file(place_of_ports(shared, id));
}
