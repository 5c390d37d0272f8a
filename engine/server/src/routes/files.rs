//! Tag Container: archive, changes, export.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use containers::{ChangeKind, Extraction, PathStat, State, on_files};
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::app::App;
use crate::call::Call;
use crate::pipes::{BodyReader, BodyWriter};
use crate::reply::{self, ApiError, Reply};

const PATH_STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

/// dockerd's words, with the space it forgets.
fn path(call: &Call) -> Result<String, ApiError> {
    let path = call.query.get("path").map(str::to_owned);
    path.ok_or_else(|| ApiError::bad_request("bad parameter: pathcannot be empty"))
}

fn add_stat(reply: &mut Reply, stat: &PathStat) {
    let value = json!({
        "name": stat.name, "size": stat.size, "mode": stat.mode, "mtime": stat.modified(),
        "linkTarget": stat.link_target,
    });
    let text = BASE64_STANDARD.encode(value.to_string());
    let value = HeaderValue::from_str(&text).expect("base64 is ASCII");
    reply.headers_mut().insert(PATH_STAT, value);
}

/// `HEAD /containers/{id}/archive`.
pub async fn stat(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let container = app.containers.find(&call.name)?;
    let path = path(&call)?;
    let stat = on_files(move || app.containers.stat_path(&container, &call.name, &path)).await??;
    let mut reply = reply::empty(StatusCode::OK);
    add_stat(&mut reply, &stat);
    Ok(reply)
}

/// `GET /containers/{id}/archive`.
pub async fn get(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let container = app.containers.find(&call.name)?;
    let path = path(&call)?;
    let (mut writer, pieces) = BodyWriter::new();
    let (found, stat) = oneshot::channel();
    let work = move || {
        let archived = match app.containers.archived(&container, &call.name, &path) {
            Ok(archived) => archived,
            Err(error) => return drop(found.send(Err(error))),
        };
        app.containers.told(&container, "archive-path");
        // A client that went away is noticed at the first write.
        let _ = found.send(Ok(archived.stat().clone()));
        if let Err(error) = archived.write(&mut writer) {
            writer.fail(error);
        }
    };
    tokio::spawn(on_files(work));
    let lost = |_| ApiError::of(model::ErrorKind::Internal, "the reading was lost");
    let stat = stat.await.map_err(lost)??;
    let mut reply = reply::streaming_or_cut("application/x-tar", pieces);
    add_stat(&mut reply, &stat);
    Ok(reply)
}

/// `PUT /containers/{id}/archive`.
pub async fn put(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    let container = app.containers.find(&call.name)?;
    let path = path(&call)?;
    let how = Extraction {
        keep_kinds: call.query.flag("noOverwriteDirNonDir"),
        container_user: call.query.flag("copyUIDGID"),
    };
    let body = BodyReader::new(call.pieces());
    on_files(move || app.containers.extract(&container, &call.name, &path, how, body)).await??;
    Ok(reply::empty(StatusCode::OK))
}

/// `GET /containers/{id}/changes`.
pub async fn changes(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let container = app.containers.find(&call.name)?;
    let changes = on_files(move || app.containers.changes(&container)).await??;
    let kind = |kind: ChangeKind| match kind {
        ChangeKind::Modified => 0,
        ChangeKind::Added => 1,
        ChangeKind::Deleted => 2,
    };
    let rows: Vec<Value> =
        changes.iter().map(|change| json!({ "Path": change.path, "Kind": kind(change.kind) })).collect();
    // An empty list of Go's that nobody has put anything into.
    Ok(reply::ok(&if rows.is_empty() { Value::Null } else { json!(rows) }))
}

/// `GET /containers/{id}/export`.
pub async fn export(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let container = app.containers.find(&call.name)?;
    if matches!(container.snapshot().state, State::Damaged(_) | State::Removing(_) | State::Removed(_)) {
        let text = format!("You cannot export container {} which is being removed", container.id());
        return Err(ApiError::of(model::ErrorKind::Conflict, text));
    }
    let (mut writer, pieces) = BodyWriter::new();
    let (found, opened) = oneshot::channel();
    let work = move || {
        let root = match app.containers.exported(&container) {
            Ok(root) => root,
            Err(error) => return drop(found.send(Err(error))),
        };
        // A client that went away is noticed at the first write.
        let _ = found.send(Ok(()));
        if let Err(error) = root.write(&mut writer) {
            writer.fail(error);
        }
    };
    tokio::spawn(on_files(work));
    let lost = |_| ApiError::of(model::ErrorKind::Internal, "the reading was lost");
    opened.await.map_err(lost)??;
    Ok(reply::streaming_or_cut("application/octet-stream", pieces))
}
