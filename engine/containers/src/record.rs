//! What the store keeps of a container.

use serde::{Deserialize, Serialize};

use super::config::{Config, HostConfig};
use super::health::Health;
use super::restart::Restarts;
use super::state::Ended;
use model::timestamp::Timestamp;
use networks::Endpoint;

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

/// A container as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
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
    /// See [`Recorded`].
    pub state: Recorded,
    /// Its place on its network, kept over runs.
    pub endpoint: Option<Endpoint>,
    /// What its restart policy did so far.
    #[serde(default)]
    pub restarts: Restarts,
    /// What its probes say.
    #[serde(default)]
    pub health: Option<Health>,
    /// End of the run before the one that goes on.
    #[serde(default)]
    pub finished_at: Timestamp,
}

impl Record {
    /// Program and arguments.
    pub fn command(&self) -> Vec<String> {
        let words = [&self.config.entrypoint, &self.config.cmd];
        words.into_iter().flatten().flatten().cloned().collect()
    }

    /// The holder's name in the store.
    pub(super) fn holder(&self) -> String {
        format!("container:{}", self.id)
    }

    /// Attributes of the container's events: labels, image and name.
    pub(super) fn attributes(&self) -> std::collections::BTreeMap<String, String> {
        let mut attributes = self.config.labels.clone();
        attributes.insert("image".to_owned(), self.config.image.clone());
        attributes.insert("name".to_owned(), self.name.clone());
        attributes
    }
}
