//! Tag Container: top and stats.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use containers::{Container, Sample, State};
use model::ErrorKind;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::app::App;
use crate::call::Call;
use crate::reply::{self, ApiError, Reply};
use crate::version::ApiVersion;
use crate::wire::stats::stats as wire;

/// `GET /containers/{id}/top`.
pub async fn top(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let container = app.containers.find(&call.name)?;
    let words = call.query.get("ps_args").unwrap_or_default().to_owned();
    let reading = tokio::task::spawn_blocking(move || app.containers.top(&container, &words));
    let top = reading.await.map_err(|_| lost())??;
    Ok(reply::ok(&json!({ "Titles": top.titles, "Processes": top.rows })))
}

fn lost() -> ApiError {
    ApiError::of(ErrorKind::Internal, "the reading was lost")
}

/// How far samples are apart.
const INTERVAL: Duration = Duration::from_secs(1);

/// `GET /containers/{id}/stats`.
pub async fn stats(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let stream = call.query.flag_or("stream", true);
    let at_once = call.query.flag("one-shot");
    if stream && at_once {
        return Err(ApiError::bad_request("cannot have stream=true and one-shot=true"));
    }
    let container = app.containers.find(&call.name)?;
    if stream {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(follow(app, container, call.version, sender));
        return Ok(reply::streaming("application/json", receiver));
    }
    let mut before = None;
    if !at_once {
        before = sample(&app, &container).await?;
        if before.is_some() {
            tokio::time::sleep(INTERVAL).await;
        }
    }
    let now = sample(&app, &container).await?;
    Ok(reply::ok(&wire(&container.record(), now.as_ref(), before.as_ref(), call.version)))
}

async fn sample(app: &Arc<App>, container: &Arc<Container>) -> Result<Option<Sample>, ApiError> {
    let (app, container) = (app.clone(), container.clone());
    tokio::task::spawn_blocking(move || app.containers.sample(&container)).await.map_err(|_| lost())
}

/// One record a second until the client goes or the container is removed.
async fn follow(app: Arc<App>, container: Arc<Container>, version: ApiVersion, sender: mpsc::Sender<Bytes>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before: Option<Sample> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = sender.closed() => return,
        }
        if matches!(container.snapshot().state, State::Removed(_)) {
            return;
        }
        let Ok(now) = sample(&app, &container).await else { return };
        let value = wire(&container.record(), now.as_ref(), before.as_ref(), version);
        if sender.send(line(&value)).await.is_err() {
            return;
        }
        before = now;
    }
}

fn line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}
