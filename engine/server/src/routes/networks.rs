//! Tag Network.

use std::sync::Arc;

use hyper::StatusCode;
use networks::{Network, Networks, NetworksError, Prune};
use serde_json::{Value, json};

use super::lifecycle::to_its_end;
use super::no_content;
use crate::app::App;
use crate::call::Call;
use crate::query::Filters;
use crate::reply::{self, ApiError, Reply};
use crate::version::ApiVersion;
use crate::wire::networks::{Body, Connection, containers, show, status};

const FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

/// `GET /networks`.
pub async fn list(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let filters = call.query.filters(&FILTERS)?;
    check(&filters)?;
    let rows = app.networks.list().into_iter().filter(|network| covers(&filters, network));
    let rows: Vec<Value> = rows
        .map(|network| {
            let mut row = show(&network);
            if call.version < ApiVersion(1, 52) {
                row["Containers"] = json!({});
            }
            row
        })
        .collect();
    Ok(reply::ok(&rows))
}

fn check(filters: &Filters) -> Result<(), ApiError> {
    let wrong = |key: &str, known: &[&str]| {
        let asked = filters.get(key).unwrap_or_default();
        asked.iter().find(|value| !known.contains(&value.as_str())).cloned()
    };
    if let Some(value) = wrong("type", &["custom", "builtin"]) {
        return Err(ApiError::bad_request(format!("invalid filter: 'type'='{value}'")));
    }
    if wrong("dangling", &["true", "1", "false", "0"]).is_some() {
        let text =
            "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")";
        return Err(ApiError::bad_request(text));
    }
    Ok(())
}

fn covers(filters: &Filters, network: &Network) -> bool {
    let record = &network.record;
    let kind = if network.is_predefined() { "builtin" } else { "custom" };
    // Of the predefined ones dockerd never says that nobody needs them.
    let dangling = || !network.is_predefined() && network.is_dangling();
    filters.allows("name", |wanted| record.name.contains(wanted.as_str()))
        && filters.allows("driver", |wanted| record.driver == *wanted)
        && filters.allows("id", |wanted| network.id.starts_with(wanted.as_str()))
        && filters.allows("scope", |wanted| wanted == "local")
        && filters.allows("type", |wanted| wanted == kind)
        && filters.allows("dangling", |wanted| matches!(wanted.as_str(), "true" | "1") == dangling())
        && filters.allows_labels(&record.labels)
}

/// `GET /networks/{id}`.
pub async fn inspect(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let network = app.networks.find(&call.name)?;
    let mut value = show(&network);
    value["Containers"] = containers(&network);
    if call.version >= ApiVersion(1, 52) {
        value["Status"] = status(&network);
    }
    Ok(reply::ok(&value))
}

/// What makes and removes networks waits for the kernel and the disk; it goes on when its client is gone.
async fn on_worker<T: Send + 'static>(
    app: Arc<App>,
    work: impl FnOnce(&Networks) -> Result<T, NetworksError> + Send + 'static,
) -> Result<T, ApiError> {
    let networks = app.networks.clone();
    let worked = tokio::task::spawn_blocking(move || work(&networks)).await;
    let lost = |_| ApiError::of(model::ErrorKind::Internal, "the work on a network was lost");
    Ok(worked.map_err(lost)??)
}

/// `POST /networks/create`.
pub async fn create(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    let body: Body = call.json().await?.ok_or_else(|| ApiError::bad_request("invalid JSON: EOF"))?;
    let request = body.into_create();
    let id = on_worker(app, move |networks| networks.create(request)).await?;
    Ok(reply::json(StatusCode::CREATED, &json!({ "Id": id, "Warning": "" })))
}

/// `DELETE /networks/{id}`.
pub async fn remove(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    on_worker(app, move |networks| networks.remove(&call.name)).await?;
    Ok(no_content())
}

/// `POST /networks/prune`.
pub async fn prune(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let filters = call.query.filters(&["label", "label!", "until"])?;
    let which = Prune { until: super::images::until(&filters)? };
    let labels = super::images::labels(&filters);
    let pruned = on_worker(app, move |networks| {
        networks.prune(&which, |network| labels.match_map(&network.record.labels))
    });
    let pruned = pruned.await?;
    let pruned = if pruned.is_empty() { Value::Null } else { json!(pruned) };
    Ok(reply::ok(&json!({ "NetworksDeleted": pruned })))
}

/// `POST /networks/{id}/connect`.
pub async fn connect(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    let body: Connection = call.json().await?.ok_or_else(|| ApiError::bad_request("invalid JSON: EOF"))?;
    let settings = body.endpoint_config.unwrap_or_default().read(call.version)?;
    to_its_end(async move { app.containers.connect(&call.name, &body.container, settings).await }).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `POST /networks/{id}/disconnect`.
pub async fn disconnect(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    let body: Connection = call.json().await?.ok_or_else(|| ApiError::bad_request("invalid JSON: EOF"))?;
    to_its_end(async move { app.containers.disconnect(&call.name, &body.container, body.force).await })
        .await?;
    Ok(reply::empty(StatusCode::OK))
}
