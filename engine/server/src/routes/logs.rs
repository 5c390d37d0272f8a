//! Tag Container: logs and attach.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::BytesMut;
use containers::{Container, LogRequest, State};
use model::timestamp::Timestamp;
use process::log::{Attributes, Record};
use process::{Chunk, Stream};
use tokio::sync::mpsc;

use crate::app::App;
use crate::call::Call;
use crate::detach::DetachKeys;
use crate::hijack::{self, Form, Input, Typed};
use crate::query::Query;
use crate::reply::{self, ApiError, Reply};
use crate::websocket;

/// `GET /containers/{id}/logs`.
pub async fn logs(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let container = app.containers.find(&call.name)?;
    if matches!(container.snapshot().state, State::Damaged(_) | State::Removing(_) | State::Removed(_)) {
        let text = "can not get logs from container which is dead or marked for removal";
        return Err(ApiError::of(model::ErrorKind::Conflict, text));
    }
    let request = log_request(&call.query)?;
    let (timestamps, details) = (call.query.flag("timestamps"), call.query.flag("details"));
    let form = Form::of(container.record().config.tty);
    let mut records = container.logs(request).await?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        // What is there goes in one piece: a write for each line would cost more than the reading.
        while let Some(batch) = records.recv().await {
            let mut bytes = BytesMut::with_capacity(batch.len() * 64);
            for record in batch {
                form.put(&mut bytes, record.stream, text(&record, timestamps, details).as_bytes());
            }
            if sender.send(bytes.freeze()).await.is_err() {
                return;
            }
        }
    });
    Ok(reply::streaming(form.content_type(call.version), receiver))
}

fn log_request(query: &Query) -> Result<LogRequest, ApiError> {
    let time = |key: &str| match query.get(key) {
        None | Some("0") => Ok(None),
        Some(text) => Timestamp::parse_unix(text)
            .map(Some)
            .ok_or_else(|| ApiError::bad_request(format!("invalid value for {key}: {text:?}"))),
    };
    Ok(LogRequest {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        follow: query.flag("follow"),
        // Docker: anything that is no number means all.
        tail: query.get("tail").and_then(|tail| tail.parse().ok()),
        since: time("since")?,
        until: time("until")?,
    })
}

fn text(record: &Record, timestamps: bool, details: bool) -> Cow<'_, str> {
    if !timestamps && !details {
        return Cow::Borrowed(&record.text);
    }
    let time = if timestamps { record.time.rfc3339_fixed() + " " } else { String::new() };
    let details = if details { pairs(&record.attributes) + " " } else { String::new() };
    Cow::Owned(time + &details + &record.text)
}

/// `key=value,key=value`, both in a URL's encoding.
fn pairs(attributes: &Attributes) -> String {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pairs = attributes.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value)));
    pairs.collect::<Vec<_>>().join(",")
}

/// `POST /containers/{id}/attach`.
pub async fn attach(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    let (container, output, input) = attachment(&app, &call).await?;
    app.containers.told(&container, "attach");
    let form = Form::of(container.record().config.tty);
    hijack::upgrade(&mut call, form, std::future::ready(output), input).await
}

/// `GET /containers/{id}/attach/ws`.
pub async fn attach_websocket(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let (container, output, input) = attachment(&app, &call).await?;
    app.containers.told(&container, "attach");
    websocket::upgrade(&call, output, input)
}

/// The two directions that an attach asks for.
async fn attachment(
    app: &Arc<App>,
    call: &Call,
) -> Result<(Arc<Container>, mpsc::Receiver<Chunk>, Attached), ApiError> {
    let container = app.containers.find(&call.name)?;
    let keys = DetachKeys::parse(call.query.get("detachKeys"))?;
    if container.snapshot().state.status() == "paused" {
        let text = format!("container {} is paused, unpause the container before attach", call.name);
        return Err(ApiError::of(model::ErrorKind::Conflict, text));
    }
    if container.snapshot().state.status() == "restarting" {
        let text = format!("container {} is restarting, wait until the container is running", call.name);
        return Err(ApiError::of(model::ErrorKind::Conflict, text));
    }
    let record = container.record();
    let tty = record.config.tty;
    let (replay, stream) = (call.query.flag("logs"), call.query.flag("stream"));
    // Bound before anything else: the container may be started as soon as the answer is out.
    let live = stream.then(|| container.subscribe());
    let (stdout, stderr) = (call.query.flag("stdout"), call.query.flag("stderr"));
    let past = if replay && (stdout || stderr) {
        let request = LogRequest { stdout, stderr, ..LogRequest::default() };
        Some(container.logs(request).await?)
    } else {
        None
    };
    let output = merge(past, live, stdout, stderr);
    let typing = stream && call.query.flag("stdin") && record.config.open_stdin;
    let input = Attached {
        app: app.clone(),
        container: container.clone(),
        typing,
        closes: record.config.stdin_once && !tty,
        keys: tty.then_some(keys),
    };
    Ok((container, output, input))
}

/// The log's past, then what is printed now, of the wanted streams.
fn merge(
    past: Option<mpsc::Receiver<Vec<Record>>>,
    live: Option<mpsc::Receiver<Chunk>>,
    stdout: bool,
    stderr: bool,
) -> mpsc::Receiver<Chunk> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        if let Some(mut past) = past {
            while let Some(batch) = past.recv().await {
                for record in batch {
                    let chunk = Chunk { stream: record.stream, bytes: record.text.into() };
                    if sender.send(chunk).await.is_err() {
                        return;
                    }
                }
            }
        }
        let Some(mut live) = live else { return };
        loop {
            let chunk = tokio::select! {
                chunk = live.recv() => chunk,
                // Dropping the subscription keeps the container from waiting for a client that has gone.
                () = sender.closed() => None,
            };
            let Some(chunk) = chunk else { return };
            let wanted = match chunk.stream {
                Stream::Stdout => stdout,
                Stream::Stderr => stderr,
            };
            if wanted && sender.send(chunk).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// An attached client's keyboard.
struct Attached {
    app: Arc<App>,
    container: Arc<Container>,
    typing: bool,
    closes: bool,
    keys: Option<DetachKeys>,
}

impl Input for Attached {
    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<Typed> {
        if !self.typing {
            return Ok(Typed::On);
        }
        let (bytes, detach) = match &mut self.keys {
            Some(keys) => keys.filter(bytes),
            None => (bytes.to_vec(), false),
        };
        self.container.console.stdin.write(&bytes).await?;
        if detach {
            self.app.containers.told(&self.container, "detach");
        }
        Ok(if detach { Typed::Detach } else { Typed::On })
    }

    async fn finish(&mut self) {
        if self.typing && self.closes {
            self.app.containers.close_stdin(&self.container).await;
        }
    }
}
