//! Tag Container: create, list, inspect.

use std::sync::Arc;

use core::containers::{Container, Create, Size};
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::app::App;
use crate::call::Call;
use crate::query::Filters;
use crate::reply::{self, ApiError, Reply};
use crate::wire::create::Body;
use crate::wire::inspect::inspect as inspect_wire;
use crate::wire::summary::summary;

/// `POST /containers/create`.
pub async fn create(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    let body: Body = call.json().await?.ok_or_else(|| ApiError::bad_request("invalid JSON: EOF"))?;
    let (config, host) = body.into_parts()?;
    if let Some(platform) = call.query.get("platform") {
        check_platform(&app, &config.image, platform)?;
    }
    let name = call.query.get("name").unwrap_or_default().to_owned();
    // A client that goes away does not leave a half-made container: the creation goes on to its end.
    let creating = tokio::spawn(async move { app.containers.create(Create { name, config, host }).await });
    let created =
        creating.await.map_err(|_| ApiError::of(core::ErrorKind::Internal, "the creation was lost"))??;
    Ok(reply::json(StatusCode::CREATED, &json!({ "Id": created.id, "Warnings": created.warnings })))
}

fn check_platform(app: &App, image: &str, platform: &str) -> Result<(), ApiError> {
    let found = app.images.resolve(image)?;
    let mut wanted = platform.split('/');
    let (os, arch) = (wanted.next().unwrap_or_default(), wanted.next());
    if found.os == os && arch.is_none_or(|arch| arch == found.architecture) {
        return Ok(());
    }
    let text = format!(
        "image with reference {image} was found but its platform ({}/{}) does not match the specified platform \
         ({platform})",
        found.os, found.architecture
    );
    Err(ApiError::of(core::ErrorKind::NotFound, text))
}

const FILTERS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "isolation",
];
const STATUSES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
/// Filters whose subjects this engine does not have yet.
const NOT_YET: [&str; 4] = ["expose", "health", "publish", "volume"];

/// `GET /containers/json`.
pub async fn list(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let filters = call.query.filters(&FILTERS)?;
    if let Some(key) = NOT_YET.iter().find(|key| filters.get(key).is_some()) {
        let text = format!("the filter {key} is not supported by this release of Pinnace yet");
        return Err(ApiError::of(core::ErrorKind::NotImplemented, text));
    }
    if let Some(bad) =
        filters.get("status").unwrap_or_default().iter().find(|s| !STATUSES.contains(&s.as_str()))
    {
        return Err(ApiError::bad_request(format!("invalid filter 'status={bad}'")));
    }
    let limit: Option<usize> = call.query.number::<i64>("limit")?.and_then(|n| usize::try_from(n).ok());
    let limit = limit.filter(|n| *n > 0);
    let bound = |key: &str| -> Result<Option<Arc<Container>>, ApiError> {
        let wanted = filters.get(key).and_then(<[String]>::first);
        Ok(wanted.map(|wanted| app.containers.find(wanted)).transpose()?)
    };
    let (before, since) = (bound("before")?, bound("since")?);
    let all = call.query.flag("all") || limit.is_some() || filters.get("status").is_some();
    let all = all || filters.get("exited").is_some();
    let wanted: Vec<Arc<Container>> = app
        .containers
        .list()
        .into_iter()
        .filter(|container| all || container.snapshot().state.is_active())
        .filter(|container| {
            let created = container.record().created;
            before.as_ref().is_none_or(|other| created < other.record().created)
                && since.as_ref().is_none_or(|other| created > other.record().created)
        })
        .filter(|container| matches(&app, &filters, container))
        .take(limit.unwrap_or(usize::MAX))
        .collect();
    let mut rows = Vec::with_capacity(wanted.len());
    for container in wanted {
        let mut row = summary(&container, &app.images, &app.networks);
        if call.query.flag("size") {
            add_size(&mut row, measure(app.clone(), container).await?);
        }
        rows.push(row);
    }
    Ok(reply::ok(&rows))
}

async fn measure(app: Arc<App>, container: Arc<Container>) -> Result<Size, ApiError> {
    let measuring = tokio::task::spawn_blocking(move || app.containers.size(&container));
    measuring.await.map_err(|_| ApiError::of(core::ErrorKind::Internal, "the measuring was lost"))
}

fn add_size(value: &mut Value, size: Size) {
    value["SizeRw"] = json!(size.writable);
    value["SizeRootFs"] = json!(size.total);
}

fn matches(app: &App, filters: &Filters, container: &Container) -> bool {
    let record = container.record();
    let state = container.snapshot().state;
    let exited = |wanted: &String| {
        state.ended().is_some_and(|ended| ended.finished_at.0 > 0 && ended.exit_code.to_string() == *wanted)
    };
    let ancestor = |wanted: &String| {
        record.config.image == *wanted
            || app.images.resolve(wanted).is_ok_and(|image| image.id.to_string() == record.image_id)
    };
    let name = |wanted: &String| {
        let slashed = format!("/{}", record.name);
        let pattern = wanted.trim_start_matches('^').trim_end_matches('$');
        match (wanted.starts_with('^'), wanted.ends_with('$')) {
            (true, true) => record.name == pattern || slashed == pattern,
            (true, false) => record.name.starts_with(pattern) || slashed.starts_with(pattern),
            (false, true) => record.name.ends_with(pattern),
            (false, false) => slashed.contains(pattern),
        }
    };
    let network = |wanted: &String| {
        let mode = record.host.network_mode.as_str();
        mode == wanted || app.networks.id(mode) == Some(wanted)
    };
    filters.allows("status", |wanted| wanted == state.status())
        && filters.allows("id", |wanted| record.id.starts_with(wanted.as_str()))
        && filters.allows("name", name)
        && filters.allows("exited", exited)
        && filters.allows("ancestor", ancestor)
        && filters.allows("network", network)
        && filters.allows("is-task", |wanted| matches!(wanted.as_str(), "false" | "0"))
        && filters.allows_labels(&record.config.labels)
}

/// `GET /containers/{id}/json`.
pub async fn inspect(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let container = app.containers.find(&call.name)?;
    let mut value = inspect_wire(&container, &app.networks, call.version);
    if call.query.flag("size") {
        add_size(&mut value, measure(app, container).await?);
    }
    Ok(reply::ok(&value))
}
