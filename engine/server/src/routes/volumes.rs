//! Tag Volume.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::StatusCode;
use images::Labels;
use model::ErrorKind;
use serde::Deserialize;
use serde_json::{Value, json};
use volumes::{Ask, Volume, VolumeError};

use super::images::labels;
use super::ps::truth;
use super::{no_content, not_a_manager};
use crate::app::App;
use crate::call::Call;
use crate::query::Filters;
use crate::reply::{self, ApiError, Reply};
use crate::version::ApiVersion;

/// The first version whose prune leaves what somebody named, unless it is told.
const ANONYMOUS_ONLY: ApiVersion = ApiVersion(1, 42);

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Body {
    name: String,
    driver: String,
    driver_opts: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    cluster_volume_spec: Option<Value>,
}

/// A volume as it is shown.
pub(super) fn volume(volume: &Volume) -> Value {
    let map = |map: &BTreeMap<String, String>| if map.is_empty() { Value::Null } else { json!(map) };
    json!({
        "CreatedAt": volume.created.whole_seconds().rfc3339(), "Driver": volumes::DRIVER, "Labels": map(&volume.labels),
        "Mountpoint": volume.mountpoint.display().to_string(), "Name": volume.name, "Options": map(&volume.options),
        "Scope": "local",
    })
}

/// `POST /volumes/create`.
pub async fn create(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    let Body { name, driver, driver_opts, labels, cluster_volume_spec } =
        call.json().await?.unwrap_or_default();
    if cluster_volume_spec.is_some() {
        return Err(not_a_manager());
    }
    let ask = Ask { name, driver, options: driver_opts, labels };
    let (made, _claim) = blocking(move || app.volumes.create(ask)).await?;
    Ok(reply::json(StatusCode::CREATED, &volume(&made)))
}

/// `GET /volumes/{name}`.
pub async fn inspect(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    Ok(reply::ok(&volume(&*app.volumes.get(&call.name)?)))
}

/// `PUT /volumes/{name}`, which is for a swarm's volumes alone.
pub async fn update(_app: Arc<App>, _call: Call) -> Result<Reply, ApiError> {
    let text = "volume update only valid for cluster volumes, but swarm is unavailable";
    Err(ApiError::of(ErrorKind::Unavailable, text))
}

/// `GET /volumes`.
pub async fn list(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let filters = call.query.filters(&["dangling", "driver", "label", "name"])?;
    let dangling = dangling(&filters)?;
    let rows = blocking(move || rows(&app, &filters, dangling)).await?;
    Ok(reply::ok(&json!({ "Volumes": rows, "Warnings": null })))
}

/// Who has a volume is asked of the disk.
fn rows(app: &App, filters: &Filters, dangling: Option<bool>) -> Result<Vec<Value>, VolumeError> {
    let mut rows = Vec::new();
    for found in app.volumes.list() {
        let fits = filters.allows("name", |wanted| found.name.contains(wanted.as_str()))
            && filters.allows("driver", |wanted| wanted == volumes::DRIVER)
            && filters.allows_labels(&found.labels);
        if fits && (dangling.is_none() || dangling == Some(app.volumes.users(&found.name)?.is_empty())) {
            rows.push(volume(&found));
        }
    }
    Ok(rows)
}

fn dangling(filters: &Filters) -> Result<Option<bool>, ApiError> {
    let Some(values) = filters.get("dangling") else { return Ok(None) };
    let invalid = || ApiError::bad_request(format!("invalid filter 'dangling=[{}]'", values.join(" ")));
    match values {
        [value] => truth(value).map(Some).ok_or_else(invalid),
        _ => Err(invalid()),
    }
}

/// `DELETE /volumes/{name}`.
pub async fn remove(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let force = call.query.flag("force");
    match blocking(move || app.volumes.remove(&call.name)).await {
        Err(error) if force && error.status == StatusCode::NOT_FOUND => Ok(no_content()),
        other => other.map(|()| no_content()),
    }
}

/// `POST /volumes/prune`.
pub async fn prune(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let filters = call.query.filters(&["all", "label", "label!"])?;
    let all = call.version < ANONYMOUS_ONLY || all(&filters)?;
    let labels: Labels = labels(&filters);
    let wanted = move |volume: &Volume| (all || volume.is_anonymous()) && labels.match_map(&volume.labels);
    let (removed, space) = blocking(move || app.volumes.prune(wanted)).await?;
    Ok(reply::ok(&json!({ "VolumesDeleted": removed, "SpaceReclaimed": space })))
}

fn all(filters: &Filters) -> Result<bool, ApiError> {
    match filters.get("all") {
        None => Ok(false),
        Some([value]) => truth(value).ok_or_else(|| {
            let text = format!("invalid filter 'all': strconv.ParseBool: parsing {value:?}: invalid syntax");
            ApiError::bad_request(text)
        }),
        Some(values) => Err(ApiError::bad_request(format!("invalid filter 'all=[{}]'", values.join(" ")))),
    }
}

/// Runs what waits for the disk where it holds nobody up; it goes on to its end when the client has gone.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| ApiError::of(ErrorKind::Internal, "the request was lost"))??)
}
