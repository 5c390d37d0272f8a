//! Tag Container: rename, update, prune.

use std::sync::Arc;

use containers::{PruneContainers, Update};
use serde_json::{Map, Value, json};

use super::no_content;
use crate::app::App;
use crate::call::Call;
use crate::reply::{self, ApiError, Reply};
use crate::wire::{host, resources};

/// `POST /containers/{id}/rename`.
pub async fn rename(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let wanted = call.query.get("name").unwrap_or_default().to_owned();
    // A client that goes away leaves no half-made rename: it goes on to its end.
    let renaming = tokio::spawn(async move { app.containers.rename(&call.name, &wanted).await });
    renaming.await.map_err(|_| lost())??;
    Ok(no_content())
}

/// `POST /containers/{id}/update`.
pub async fn update(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    let mut fields: Map<String, Value> =
        call.json().await?.ok_or_else(|| ApiError::bad_request("invalid JSON: EOF"))?;
    fields = host::named(fields);
    let policy = fields.remove("RestartPolicy");
    let restart = policy.map(host::restart_policy).transpose()?.flatten();
    if let Some(field) = host::not_updated(&fields) {
        return Err(host::refuse(field));
    }
    let update = Update { resources: resources::read(&fields)?, restart };
    let updating = tokio::spawn(async move { app.containers.update(&call.name, update).await });
    let warnings = updating.await.map_err(|_| lost())??;
    Ok(reply::ok(&json!({ "Warnings": if warnings.is_empty() { Value::Null } else { json!(warnings) } })))
}

/// `POST /containers/prune`.
pub async fn prune(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let filters = call.query.filters(&["label", "label!", "until"])?;
    let which =
        PruneContainers { until: super::images::until(&filters)?, labels: super::images::labels(&filters) };
    let pruning = tokio::spawn(async move { app.containers.prune(&which).await });
    let (removed, space) = pruning.await.map_err(|_| lost())??;
    let removed = if removed.is_empty() { Value::Null } else { json!(removed) };
    Ok(reply::ok(&json!({ "ContainersDeleted": removed, "SpaceReclaimed": space })))
}

fn lost() -> ApiError {
    ApiError::of(model::ErrorKind::Internal, "the request was lost")
}
