//! A container as `GET /containers/json` lists it.

use containers::{Container, Record, State};
use images::Images;
use model::timestamp::Timestamp;
use networks::Networks;
use serde_json::{Value, json};

use super::inspect::{endpoint, endpoints, mounts};

/// One row.
pub fn summary(container: &Container, images: &Images, networks: &Networks) -> Value {
    let record = container.record();
    let state = container.snapshot().state;
    // A tag that moved names another image: the row then shows the id.
    let image = match images.resolve(&record.config.image) {
        Ok(image) if image.id.to_string() == record.image_id => record.config.image.clone(),
        _ => record.image_id.clone(),
    };
    json!({
        "Id": record.id, "Names": [format!("/{}", record.name)], "Image": image, "ImageID": record.image_id,
        "Command": command(&record.command()), "Created": record.created.seconds(), "Ports": ports(container, &record),
        "Labels": record.config.labels, "State": state.status(), "Status": status(&state, health(&record), Timestamp::now()),
        "HostConfig": { "NetworkMode": record.host.network_mode },
        "NetworkSettings": { "Networks": endpoints(container, networks) }, "Mounts": mounts(&record.host),
    })
}

/// The exposed ports of a container that has a place on a bridge: none is published by this release.
fn ports(container: &Container, record: &Record) -> Vec<Value> {
    let exposed = record.config.exposed_ports.iter().filter(|_| endpoint(container, record).is_some());
    let parts = exposed.filter_map(|port| port.split_once('/'));
    parts
        .filter_map(|(port, protocol)| {
            Some(json!({ "PrivatePort": port.parse::<u16>().ok()?, "Type": protocol }))
        })
        .collect()
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
