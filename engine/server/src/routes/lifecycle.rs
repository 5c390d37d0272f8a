//! Tag Container: what changes a container's state, and waiting for it.

use std::num::IntErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use containers::{ContainerError, WaitCondition, signal_number};
use hyper::StatusCode;
use serde_json::json;
use tokio::sync::mpsc;

use super::no_content;
use crate::app::App;
use crate::call::Call;
use crate::reply::{self, ApiError, Reply};
use crate::version::ApiVersion;

/// `POST /containers/{id}/start`.
pub async fn start(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    if call
        .json::<serde_json::Value>()
        .await?
        .is_some_and(|body| body.as_object().is_none_or(|o| !o.is_empty()))
    {
        let text = "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24";
        return Err(ApiError::bad_request(text));
    }
    to_its_end(async move { app.containers.start(&call.name).await }).await?;
    Ok(no_content())
}

/// What a request begins goes on to its end, and is told to those who listen, whether or not the client waits for it:
/// a handler is dropped where it stands when its connection closes.
pub(super) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ContainerError>> + Send + 'static,
) -> Result<T, ApiError> {
    let lost = |_| ApiError::of(model::ErrorKind::Unavailable, "the engine is going down");
    Ok(tokio::spawn(work).await.map_err(lost)??)
}

fn signal(call: &Call) -> Result<Option<i32>, ApiError> {
    call.query
        .get("signal")
        .filter(|text| !text.is_empty())
        .map(|text| {
            signal_number(text).ok_or_else(|| ApiError::bad_request(format!("invalid signal: {text}")))
        })
        .transpose()
}

/// Before 1.42 only a kill names a signal.
fn stop_signal(call: &Call) -> Result<Option<i32>, ApiError> {
    if call.version < ApiVersion(1, 42) { Ok(None) } else { signal(call) }
}

/// `POST /containers/{id}/stop`.
pub async fn stop(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let (signal, patience) = (stop_signal(&call)?, call.query.number("t")?);
    to_its_end(async move { app.containers.stop(&call.name, signal, patience).await }).await?;
    Ok(no_content())
}

/// `POST /containers/{id}/restart`.
pub async fn restart(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let (signal, patience) = (stop_signal(&call)?, call.query.number("t")?);
    to_its_end(async move { app.containers.restart(&call.name, signal, patience).await }).await?;
    Ok(no_content())
}

/// `POST /containers/{id}/kill`.
pub async fn kill(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let name = call.name.clone();
    let killed = match signal(&call) {
        Ok(signal) => {
            to_its_end(async move { app.containers.kill(&call.name, signal.unwrap_or(9)).await }).await
        }
        Err(error) => Err(error),
    };
    killed.map_err(|error| {
        let message = format!("cannot kill container: {name}: {}", error.message);
        ApiError { message, ..error }
    })?;
    Ok(no_content())
}

/// `POST /containers/{id}/pause`.
pub async fn pause(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    to_its_end(async move { app.containers.freeze(&call.name, true).await }).await?;
    Ok(no_content())
}

/// `POST /containers/{id}/unpause`.
pub async fn unpause(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    to_its_end(async move { app.containers.freeze(&call.name, false).await }).await?;
    Ok(no_content())
}

/// `DELETE /containers/{id}`.
pub async fn remove(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    if call.query.flag("link") {
        let text = "links are not supported by this release of Pinnace yet";
        return Err(ApiError::of(model::ErrorKind::NotImplemented, text));
    }
    let (force, volumes) = (call.query.flag("force"), call.query.flag("v"));
    to_its_end(async move { app.containers.remove(&call.name, force, volumes).await }).await?;
    Ok(no_content())
}

/// `POST /containers/{id}/resize`.
pub async fn resize(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let (rows, columns) = size(&call)?;
    app.containers.resize(&call.name, rows, columns)?;
    Ok(reply::empty(StatusCode::OK))
}

/// `h` and `w` of a resize.
pub fn size(call: &Call) -> Result<(u16, u16), ApiError> {
    let number = |key, what| {
        let text = call.query.get(key).unwrap_or_default();
        let error = |why| ApiError::bad_request(format!("invalid resize {what} {text:?}: {why}"));
        text.parse::<u32>().map_err(|cause| match cause.kind() {
            IntErrorKind::PosOverflow => error("value out of range"),
            _ => error("invalid syntax"),
        })
    };
    let fit = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    Ok((fit(number("h", "height")?), fit(number("w", "width")?)))
}

/// `POST /containers/{id}/wait`: the headers go out before the wait, since clients start the container only when
/// they have them.
pub async fn wait(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let condition = match call.query.get("condition") {
        None | Some("not-running") => WaitCondition::NotRunning,
        Some("next-exit") => WaitCondition::NextExit,
        Some("removed") => WaitCondition::Removed,
        Some(other) => return Err(ApiError::bad_request(format!("invalid condition: \"{other}\""))),
    };
    let ended = app.containers.find(&call.name)?.wait(condition);
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            code = ended => {
                let line = format!("{}\n", json!({ "StatusCode": code }));
                // The client may have gone.
                let _ = sender.send(Bytes::from(line)).await;
            }
            () = sender.closed() => {}
        }
    });
    Ok(reply::streaming("application/json", receiver))
}
