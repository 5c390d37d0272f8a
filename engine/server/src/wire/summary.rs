//! A container as `GET /containers/json` lists it.
//!
//! A list may have a thousand rows and is asked for again and again, so a row is written straight from the container's
//! record, without a tree of JSON values in between.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use containers::{Container, Record, Size, Snapshot, State};
use images::Images;
use model::timestamp::Timestamp;
use networks::Networks;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use super::endpoint::endpoints;
use super::inspect::has_place;
use super::mounts;
use crate::app::App;
use crate::version::ApiVersion;

/// What the rows of one list have in common.
pub struct Rows<'a> {
    images: &'a Images,
    networks: &'a Networks,
    app: &'a App,
    version: ApiVersion,
    now: Timestamp,
    /// The ids that references name now.
    named: HashMap<String, Option<String>>,
}

/// One row.
pub struct Row {
    record: Arc<Record>,
    snapshot: Snapshot,
    image: String,
    networks: Value,
    mounts: Vec<Value>,
    version: ApiVersion,
    now: Timestamp,
    size: Option<Size>,
}

impl<'a> Rows<'a> {
    /// Of a list that is made now.
    pub fn new(app: &'a App, version: ApiVersion) -> Rows<'a> {
        let (images, networks) = (&*app.images, &*app.networks);
        Rows { images, networks, app, version, now: Timestamp::now(), named: HashMap::new() }
    }

    /// The row of a container, with its size where it was asked for.
    pub fn row(&mut self, container: &Container, size: Option<Size>) -> Row {
        let (record, snapshot) = (container.record(), container.snapshot());
        Row {
            image: self.image(&record),
            networks: endpoints(&record, &snapshot, self.networks),
            mounts: mounts::show(&record, |name| self.app.volumes.mountpoint(name).display().to_string()),
            record,
            snapshot,
            version: self.version,
            now: self.now,
            size,
        }
    }

    /// The image as the creator named it, or by its id: a tag that moved names another image.
    fn image(&mut self, record: &Record) -> String {
        let named = &record.config.image;
        if !self.named.contains_key(named) {
            let id = self.images.resolve(named).ok().map(|image| image.id.to_string());
            self.named.insert(named.clone(), id);
        }
        match self.named.get(named) {
            Some(Some(id)) if *id == record.image_id => named.clone(),
            _ => record.image_id.clone(),
        }
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (record, state) = (&*self.record, &self.snapshot.state);
        let mut row = serializer.serialize_map(None)?;
        row.serialize_entry("Id", &record.id)?;
        row.serialize_entry("Names", &[format!("/{}", record.name)])?;
        row.serialize_entry("Image", &self.image)?;
        row.serialize_entry("ImageID", &record.image_id)?;
        row.serialize_entry("Command", &command(&record.command()))?;
        row.serialize_entry("Created", &record.created.seconds())?;
        row.serialize_entry("Ports", &ports(record, &self.snapshot))?;
        row.serialize_entry("Labels", &record.config.labels)?;
        row.serialize_entry("State", state.status())?;
        row.serialize_entry("Status", &status(state, health(record), self.now))?;
        row.serialize_entry("HostConfig", &self.host())?;
        row.serialize_entry("NetworkSettings", &HashMap::from([("Networks", &self.networks)]))?;
        row.serialize_entry("Mounts", &self.mounts)?;
        if self.version >= ApiVersion(1, 52) {
            let streak = record.health.as_ref().map_or(0, |health| health.failing_streak);
            let status = health(record).unwrap_or("none");
            row.serialize_entry("Health", &json!({ "Status": status, "FailingStreak": streak }))?;
        }
        if let Some(size) = self.size {
            row.serialize_entry("SizeRw", &size.writable)?;
            row.serialize_entry("SizeRootFs", &size.total)?;
        }
        row.end()
    }
}

impl Row {
    fn host(&self) -> Value {
        let host = &self.record.host;
        let mut value = json!({ "NetworkMode": host.network_mode });
        if self.version >= ApiVersion(1, 46) && !host.annotations.is_empty() {
            value["Annotations"] = json!(host.annotations);
        }
        value
    }
}

/// The ports of a container that has a place on a bridge.
fn ports(record: &Record, snapshot: &Snapshot) -> Vec<Value> {
    if !has_place(record, snapshot) {
        return Vec::new();
    }
    let of_port = |(port, places): (String, Vec<(IpAddr, u16)>)| {
        let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
        let number = number.parse::<u16>().unwrap_or_default();
        let place = |(ip, port): &(IpAddr, u16)| json!({ "IP": ip.to_string(), "PrivatePort": number, "PublicPort": port, "Type": protocol });
        match places.is_empty() {
            true => vec![json!({ "PrivatePort": number, "Type": protocol })],
            false => places.iter().map(place).collect(),
        }
    };
    super::ports::all(record).into_iter().flat_map(of_port).collect()
}

/// Program and arguments; those with spaces in quotes.
fn command(words: &[String]) -> String {
    let quoted = |word: &String| if word.contains(' ') { format!("'{word}'") } else { word.clone() };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Docker's word for what the probes say.
pub fn health(record: &Record) -> Option<&'static str> {
    record.health.as_ref().map(|health| health.status.as_str())
}

/// Docker's sentence about a state.
fn status(state: &State, health: Option<&str>, now: Timestamp) -> String {
    match state {
        State::Created(_) => "Created".to_owned(),
        State::Running(running) => {
            let up = human(now.0.saturating_sub(running.started_at.0));
            match health {
                _ if running.paused => format!("Up {up} (Paused)"),
                Some("starting") => format!("Up {up} (health: starting)"),
                Some(health) => format!("Up {up} ({health})"),
                None => format!("Up {up}"),
            }
        }
        State::Exited(ended) => {
            let ago = human(now.0.saturating_sub(ended.finished_at.0));
            format!("Exited ({}) {ago} ago", ended.exit_code)
        }
        State::Restarting(ended) => {
            let ago = human(now.0.saturating_sub(ended.finished_at.0));
            format!("Restarting ({}) {ago} ago", ended.exit_code)
        }
        State::Damaged(_) => "Dead".to_owned(),
        State::Removing(_) | State::Removed(_) => "Removal In Progress".to_owned(),
    }
}

/// A duration in words, as Docker's go-units writes it.
fn human(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0).round() as u64);
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..=59, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..=59, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, 2..=47) => format!("{hours} hours"),
        (_, _, 48..=335) => format!("{} days", hours / 24),
        (_, _, 336..=1439) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..=17519) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_dockers_words() {
        let check =
            |seconds: u64, expected: &str| assert_eq!(human(seconds * 1_000_000_000), expected, "{seconds}");
        check(0, "Less than a second");
        check(1, "1 second");
        check(59, "59 seconds");
        check(60, "About a minute");
        check(119, "About a minute");
        check(120, "2 minutes");
        check(3600, "About an hour");
        check(2 * 3600, "2 hours");
        check(47 * 3600, "47 hours");
        check(48 * 3600, "2 days");
        check(15 * 24 * 3600, "2 weeks");
        check(90 * 24 * 3600, "3 months");
        check(3 * 365 * 24 * 3600, "3 years");
    }

    #[test]
    fn arguments_with_spaces_are_quoted() {
        let words = ["sh", "-c", "echo hi"].map(str::to_owned);
        assert_eq!(command(&words), "sh -c 'echo hi'");
    }
}
