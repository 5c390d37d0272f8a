//! Tag Container: the list, and which containers a filter means.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use containers::{Container, State};
use regex_lite::Regex;

use super::containers::measure;
use crate::app::App;
use crate::call::Call;
use crate::query::Filters;
use crate::reply::{self, ApiError, Reply};
use crate::wire::mounts;
use crate::wire::ports::all as all_ports;
use crate::wire::summary::{Rows, health};

const FILTERS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATUSES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// `GET /containers/json`.
pub async fn list(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let wanted = Wanted::read(&app, call.query.filters(&FILTERS)?)?;
    let limit: Option<usize> = call.query.number::<i64>("limit")?.and_then(|n| usize::try_from(n).ok());
    let limit = limit.filter(|n| *n > 0);
    let all = call.query.flag("all") || limit.is_some() || wanted.filters.get("status").is_some();
    let shown: Vec<Arc<Container>> = app
        .containers
        .list()
        .into_iter()
        .filter(|container| all || container.snapshot().state.is_active())
        .filter(|container| wanted.covers(&app, container))
        .take(limit.unwrap_or(usize::MAX))
        .collect();
    let mut sizes = Vec::new();
    if call.query.flag("size") {
        for container in &shown {
            sizes.push(measure(app.clone(), container.clone()).await?);
        }
    }
    let mut rows = Rows::new(&app, call.version);
    let row = |(at, container): (usize, &Arc<Container>)| rows.row(container, sizes.get(at).copied());
    Ok(reply::ok(&shown.iter().enumerate().map(row).collect::<Vec<_>>()))
}

/// The filters, read once for all containers.
struct Wanted {
    filters: Filters,
    before: Option<Arc<Container>>,
    since: Option<Arc<Container>>,
    names: Vec<Pattern>,
    ids: Vec<Pattern>,
    exited: Vec<i32>,
    task: bool,
    expose: HashSet<String>,
    publish: HashSet<String>,
}

impl Wanted {
    fn read(app: &App, filters: Filters) -> Result<Wanted, ApiError> {
        let values = |key: &str| filters.get(key).unwrap_or_default();
        let invalid =
            |key: &str, value: &str| ApiError::bad_request(format!("invalid filter '{key}={value}'"));
        for (key, known) in [("status", &STATUSES[..]), ("health", &HEALTH[..])] {
            if let Some(bad) = values(key).iter().find(|value| !known.contains(&value.as_str())) {
                return Err(invalid(key, bad));
            }
        }
        let number = |text: &String| text.parse::<i32>().map_err(|_| invalid("exited", text));
        let exited = values("exited").iter().map(number).collect::<Result<_, _>>()?;
        let task = match values("is-task") {
            [] => false,
            [value] => truth(value).ok_or_else(|| invalid("is-task", value))?,
            several => return Err(invalid("is-task", &several.join(" "))),
        };
        // The last of several stands, as in dockerd.
        let bound = |key: &str| values(key).last().map(|name| app.containers.find(name)).transpose();
        let (before, since) = (bound("before")?, bound("since")?);
        let patterns = |key: &str| values(key).iter().map(|value| Pattern::new(value)).collect();
        let (names, ids) = (patterns("name"), patterns("id"));
        let (expose, publish) = (ports("expose", values("expose"))?, ports("publish", values("publish"))?);
        Ok(Wanted { before, since, names, ids, exited, task, expose, publish, filters })
    }

    fn covers(&self, app: &App, container: &Container) -> bool {
        let (record, snapshot) = (container.record(), container.snapshot());
        let (created, state) = (record.created, &snapshot.state);
        let any =
            |patterns: &[Pattern], text: &str| patterns.is_empty() || patterns.iter().any(|p| p.fits(text));
        let exit = |code: &i32| exit_code(state) == Some(*code);
        let ports = || if state.running().is_some() { all_ports(&record) } else { BTreeMap::new() };
        // By the host's number, as in dockerd.
        let published = self.publish.is_empty()
            || ports().iter().any(|(port, places)| {
                let protocol = port.split_once('/').map_or("tcp", |(_, protocol)| protocol);
                places.iter().any(|(_, number)| self.publish.contains(&format!("{number}/{protocol}")))
            });
        let exposed = || record.config.exposed_ports.iter().any(|port| self.expose.contains(port));
        let network = |wanted: &String| {
            let id = |name: &str| app.networks.id(name).is_some_and(|id| id.starts_with(wanted.as_str()));
            record.spec.endpoints.keys().any(|name| name == wanted || id(name))
        };
        let ancestor = |wanted: &String| {
            record.config.image == *wanted
                || app.images.resolve(wanted).is_ok_and(|image| image.id.to_string() == record.image_id)
        };
        let volume = |wanted: &String| {
            let fields = ["Name", "Source", "Destination"];
            let place = |name: &str| app.volumes.mountpoint(name).display().to_string();
            mounts::show(&record, place)
                .iter()
                .any(|mount| fields.iter().any(|field| mount[field] == wanted.as_str()))
        };
        // There is no swarm, so no container is its task.
        !self.task
            && published
            && self.before.as_ref().is_none_or(|other| created < other.record().created)
            && self.since.as_ref().is_none_or(|other| created > other.record().created)
            && (any(&self.names, &record.name) || any(&self.names, &format!("/{}", record.name)))
            && any(&self.ids, &record.id)
            && (self.exited.is_empty() || self.exited.iter().any(exit))
            && (self.expose.is_empty() || exposed())
            && self.filters.allows("status", |wanted| wanted == state.status())
            && self.filters.allows("health", |wanted| wanted == health(&record).unwrap_or("none"))
            && self.filters.allows("network", network)
            && self.filters.allows("ancestor", ancestor)
            && self.filters.allows("volume", volume)
            && self.filters.allows_labels(&record.config.labels)
    }
}

/// Exit code of a container that ran and stands still.
fn exit_code(state: &State) -> Option<i32> {
    let ended = state.ended().filter(|ended| !state.is_active() && ended.started_at.0 != 0);
    ended.map(|ended| ended.exit_code)
}

/// A word that is the whole text or, as a regular expression, fits a part of it.
struct Pattern {
    word: String,
    expression: Option<Regex>,
}

impl Pattern {
    fn new(word: &str) -> Pattern {
        Pattern { word: word.to_owned(), expression: Regex::new(word).ok() }
    }

    fn fits(&self, text: &str) -> bool {
        self.word == text || self.expression.as_ref().is_some_and(|expression| expression.is_match(text))
    }
}

/// Go's words for yes and no.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Ports such as `80`, `80/udp` and `8000-8010/tcp`, each as `port/protocol`.
fn ports(key: &str, values: &[String]) -> Result<HashSet<String>, ApiError> {
    let mut all = HashSet::new();
    for value in values {
        if value.contains(':') {
            return Err(ApiError::bad_request(format!("filter for '{key}' should not contain ':': {value}")));
        }
        let (range, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) if first <= last => {
                all.extend((first..=last).map(|port| format!("{port}/{protocol}")));
            }
            _ => {
                let text = format!("error while looking up for {key} {value}: invalid syntax");
                return Err(ApiError::bad_request(text));
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_regular_expressions() {
        let check = |word: &str, text: &str, expected: bool| {
            assert_eq!(Pattern::new(word).fits(text), expected, "{word} {text}");
        };
        check("we", "web", true);
        check("^web$", "web", true);
        check("^web$", "web1", false);
        check("w.b|db", "db", true);
        check("(", "(", true);
        check("(", "x", false);
    }

    #[test]
    fn ports_are_read() {
        let words = |text: &str| ports("expose", &[text.to_owned()]).map_err(|error| error.message);
        assert_eq!(words("80").unwrap(), HashSet::from(["80/tcp".to_owned()]));
        assert_eq!(words("8-9/udp").unwrap(), HashSet::from(["8/udp".to_owned(), "9/udp".to_owned()]));
        assert!(words("x").unwrap_err().starts_with("error while looking up for expose x"));
        assert!(words("1:2").unwrap_err().contains("should not contain ':'"));
        assert!(words("9-8").is_err());
    }
}
