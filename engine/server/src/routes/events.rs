//! Tag System: the event stream.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::ACCEPT;
use model::events::{Event, Subject};
use model::timestamp::Timestamp;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use crate::app::App;
use crate::call::Call;
use crate::query::{Filters, Query};
use crate::reply::{self, ApiError, Reply};
use crate::version::ApiVersion;

/// Filters for the id or name of what an event is about.
const ACTORS: [&str; 9] =
    ["config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"];

/// `GET /events`.
pub async fn stream(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let filters = call.query.all_filters()?;
    let (since, until) = (time(&call.query, "since")?, time(&call.query, "until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        let text = |key| call.query.get(key).unwrap_or_default();
        let (since, until) = (text("since"), text("until"));
        return Err(ApiError::bad_request(format!(
            "`since` time ({since}) cannot be after `until` time ({until})"
        )));
    }
    let (past, mut live) = app.events.subscribe();
    let (content_type, separator) = media(&call);
    let legacy = call.version < ApiVersion(1, 52);
    let (sender, receiver) = mpsc::channel(64);
    let line = move |event: &Event| Bytes::from(format!("{separator}{}\n", wire(event, legacy)));
    tokio::spawn(async move {
        let wanted = |event: &Event| {
            since.is_none_or(|since| event.time >= since)
                && until.is_none_or(|until| event.time <= until)
                && matches(&filters, event)
        };
        if since.is_some() || until.is_some() {
            for event in past.iter().filter(|event| wanted(event)) {
                if sender.send(line(event)).await.is_err() {
                    return;
                }
            }
        }
        let end = until.map(|until| until.0.saturating_sub(Timestamp::now().0));
        let over = async {
            match end {
                Some(nanos) => tokio::time::sleep(std::time::Duration::from_nanos(nanos)).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        loop {
            let event = tokio::select! {
                event = live.recv() => event,
                () = &mut over => return,
                () = sender.closed() => return,
            };
            match event {
                Ok(event) if wanted(&event) => {
                    if sender.send(line(&event)).await.is_err() {
                        return;
                    }
                }
                // Too slow a client loses events rather than making the engine keep them all.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
    Ok(reply::streaming(content_type, receiver))
}

fn time(query: &Query, key: &str) -> Result<Option<Timestamp>, ApiError> {
    let bad = |text: &str| ApiError::bad_request(format!("invalid value for {key}: {text:?}"));
    query.get(key).map(|text| Timestamp::parse_unix(text).ok_or_else(|| bad(text))).transpose()
}

/// What the client reads: its content type and what stands in front of each record.
fn media(call: &Call) -> (&'static str, &'static str) {
    let accept = call.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("application/json-seq") {
        ("application/json-seq", "\u{1e}")
    } else if accept.contains("application/x-ndjson") {
        ("application/x-ndjson", "")
    } else if call.version >= ApiVersion(1, 52) {
        ("application/jsonl", "")
    } else {
        ("application/json", "")
    }
}

/// Actions that something follows in an event.
const SUFFIXED: [&str; 3] = ["health_status", "exec_create", "exec_start"];

fn wire(event: &Event, legacy: bool) -> serde_json::Value {
    let mut value = json!({
        "Type": event.subject.as_str(), "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": "local", "time": event.time.seconds(), "timeNano": event.time.0,
    });
    if legacy && matches!(event.subject, Subject::Container | Subject::Image) {
        value["status"] = json!(event.action);
        value["id"] = json!(event.id);
        if let Some(image) = event.attributes.get("image") {
            value["from"] = json!(image);
        }
    }
    value
}

fn matches(filters: &Filters, event: &Event) -> bool {
    let attribute = |key: &str| event.attributes.get(key).map_or("", String::as_str);
    // Some actions carry a suffix: `exec_start: sh -c x`. Who asks for one of these has all asked for by their beginnings.
    let beginnings =
        filters.get("event").is_some_and(|wanted| wanted.iter().any(|one| SUFFIXED.contains(&one.as_str())));
    let action = |wanted: &String| event.action == *wanted || beginnings && event.action.starts_with(wanted);
    // The beginning of an id or of a name will do, whatever the event is about: dockerd's way.
    let actor = |key: &str| {
        let named = |wanted: &str| event.id.starts_with(wanted) || attribute("name").starts_with(wanted);
        filters.allows(key, |wanted| named(wanted.trim_start_matches('/')))
    };
    let image = |wanted: &String| {
        let name = if event.subject == Subject::Image { attribute("name") } else { attribute("image") };
        event.id == *wanted || name == wanted || untagged(name) == *wanted
    };
    filters.allows("type", |wanted| wanted == event.subject.as_str())
        && filters.allows("event", action)
        && filters.allows("scope", |wanted| wanted == "local")
        && ACTORS.iter().all(|key| actor(key))
        && filters.allows("image", image)
        && filters.allows_labels(&event.attributes)
}

/// The name of an image without its tag or digest, as people write it.
fn untagged(name: &str) -> String {
    model::reference::Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.familiar_name())
}
