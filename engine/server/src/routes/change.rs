//! Tag Container: rename, update, prune.

use std::sync::Arc;

use containers::{PruneContainers, Update};
use serde_json::{Map, Value, json};

use super::lifecycle::to_its_end;
use super::no_content;
use crate::app::App;
use crate::call::Call;
use crate::reply::{self, ApiError, Reply};
use crate::wire::{host, resources};

/// `POST /containers/{id}/rename`.
pub async fn rename(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let wanted = call.query.get("name").unwrap_or_default().to_owned();
    to_its_end(async move { app.containers.rename(&call.name, &wanted).await }).await?;
    Ok(no_content())
}

/// `POST /containers/{id}/update`.
pub async fn update(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    let mut fields: Map<String, Value> =
        call.json().await?.ok_or_else(|| ApiError::bad_request("invalid JSON: EOF"))?;
    fields = host::named(fields);
    let policy = fields.remove("RestartPolicy");
    let restart = policy.map(host::restart_policy).transpose()?.flatten();
    let lists = resources::device_lists(&mut fields, call.version);
    host::keep_updated(&mut fields);
    let update = Update { resources: resources::read(&fields)?, lists, restart };
    let warnings = to_its_end(async move { app.containers.update(&call.name, update).await }).await?;
    Ok(reply::ok(&json!({ "Warnings": if warnings.is_empty() { Value::Null } else { json!(warnings) } })))
}

/// `POST /containers/prune`.
pub async fn prune(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let filters = call.query.filters(&["label", "label!", "until"])?;
    let which =
        PruneContainers { until: super::images::until(&filters)?, labels: super::images::labels(&filters) };
    let (removed, space) = to_its_end(async move { app.containers.prune(&which).await }).await?;
    let removed = if removed.is_empty() { Value::Null } else { json!(removed) };
    Ok(reply::ok(&json!({ "ContainersDeleted": removed, "SpaceReclaimed": space })))
}
