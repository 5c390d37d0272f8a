//! What an appliance in namespaces leaves on the host that the kernel does not take back by itself.

use super::{cgroup, network};
use crate::backend::BackendError;
use crate::host;
use crate::place::Place;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const FILE: &str = "namespace.json";

/// Noted before it is made, so that it can be removed after any end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Traces {
    /// Name of the host's end of the veth pair.
    pub link: String,
    /// Name of the nft table.
    pub table: String,
    /// The cgroup, once it is known.
    pub cgroup: Option<PathBuf>,
}

impl Traces {
    /// The names an appliance in this folder uses; `key` tells it from others on the host.
    pub fn of(key: u32) -> Traces {
        Traces {
            link: format!("{}{key:08x}", network::LINK_PREFIX),
            table: format!("pinnace-{key:08x}"),
            cgroup: None,
        }
    }

    /// Notes it in the appliance's folder.
    pub fn note(&self, place: &Place) -> Result<(), BackendError> {
        let path = place.dir().join(FILE);
        let text = serde_json::to_vec(self).expect("traces are plain data");
        host::write_private(&path, &text).map_err(BackendError::system(format!("write {}", path.display())))
    }

    /// Removes all of it, and the note last.
    pub fn remove(&self, place: &Place) {
        network::unlink(&self.link);
        network::unmasquerade(&self.table);
        network::stop_forwarding(&self.link);
        if let Some(path) = &self.cgroup
            && let Err(error) = cgroup::remove(path)
        {
            tracing::warn!("cannot remove the cgroup {}: {error}", path.display());
            return;
        }
        // It may never have been written.
        let _ = std::fs::remove_file(place.dir().join(FILE));
    }
}

/// Removes what a bridge that was killed left behind.
pub fn sweep(place: &Place) {
    let Ok(text) = std::fs::read(place.dir().join(FILE)) else { return };
    if let Ok(traces) = serde_json::from_slice::<Traces>(&text) {
        traces.remove(place);
    }
}
