//! Tag Container: create, inspect.

use std::sync::Arc;

use containers::{Container, Size};
use hyper::StatusCode;
use model::Platform;
use serde_json::json;

use super::lifecycle::to_its_end;
use crate::app::App;
use crate::call::Call;
use crate::reply::{self, ApiError, Reply};
use crate::wire::create::Body;
use crate::wire::inspect::inspect as inspect_wire;

/// `POST /containers/create`.
pub async fn create(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    let body: Body = call.json().await?.ok_or_else(|| ApiError::bad_request("invalid JSON: EOF"))?;
    let mut create = body.into_create(call.version)?;
    create.platform = call.query.get("platform").map(Platform::parse).transpose()?;
    create.name = call.query.get("name").unwrap_or_default().to_owned();
    let created = to_its_end(async move { app.containers.create(create).await }).await?;
    Ok(reply::json(StatusCode::CREATED, &json!({ "Id": created.id, "Warnings": created.warnings })))
}

pub(super) async fn measure(app: Arc<App>, container: Arc<Container>) -> Result<Size, ApiError> {
    let measuring = tokio::task::spawn_blocking(move || app.containers.size(&container));
    measuring.await.map_err(|_| ApiError::of(model::ErrorKind::Internal, "the measuring was lost"))
}

/// `GET /containers/{id}/json`.
pub async fn inspect(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let container = app.containers.find(&call.name)?;
    let mut value = inspect_wire(&container, &app, call.version);
    if call.query.flag("size") {
        let size = measure(app, container).await?;
        (value["SizeRw"], value["SizeRootFs"]) = (json!(size.writable), json!(size.total));
    }
    Ok(reply::ok(&value))
}
