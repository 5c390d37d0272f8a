//! Tag Image: pull, list, inspect, history, tag, remove, prune.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use images::{Filter, Image, ImageError, Images, Labels, Prune, Pull, PullEvent};
use model::reference::{Digest, Reference};
use model::timestamp::Timestamp;
use model::{ErrorKind, Platform, duration};
use serde_json::{Value, json};
use store::Holder;
use tokio::sync::{mpsc, oneshot};

use crate::app::App;
use crate::call::Call;
use crate::query::{Filters, Query};
use crate::reply::{self, ApiError, Reply};
use crate::version::ApiVersion;
use crate::wire::images as wire;

/// Records of a pull that wait for a slow client.
const QUEUE: usize = 64;

/// `POST /images/create`: pull. Answered when the registry has given a manifest, or with its refusal.
pub async fn create(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    if call.query.get("fromSrc").is_some() {
        let text = "importing an image is not supported by this release of Pinnace yet";
        return Err(ApiError::of(ErrorKind::NotImplemented, text));
    }
    let reference = pulled_reference(&call.query)?;
    let pull = Pull {
        reference,
        platform: call.query.get("platform").map(Platform::parse).transpose()?,
        credentials: wire::credentials(call.header("x-registry-auth")),
    };
    let (lines, receiver) = mpsc::channel(QUEUE);
    let (begun, beginning) = oneshot::channel();
    let images = app.images.clone();
    tokio::spawn(async move {
        run(images, pull, lines, begun).await;
        // A pull needs buffers that an idle engine should not keep.
        tokio::task::spawn_blocking(sys::heap::give_back);
    });
    let lost = |_| ApiError::of(ErrorKind::Internal, "the pull was cancelled");
    beginning.await.map_err(lost)??;
    Ok(reply::streaming("application/json", receiver))
}

/// Pulls until done, or until the client goes away.
async fn run(
    images: Arc<Images>,
    pull: Pull,
    lines: mpsc::Sender<Bytes>,
    begun: oneshot::Sender<Result<(), ApiError>>,
) {
    let (events, mut told) = mpsc::unbounded_channel();
    let work = async move {
        // The receiver outlives this future.
        let sink = |event: PullEvent| drop(events.send(event));
        pull_all(&images, pull, &sink).await
    };
    tokio::pin!(work);
    let mut begun = Some(begun);
    let result = loop {
        tokio::select! {
            biased;
            () = lines.closed() => return,
            Some(event) = told.recv() => {
                begun.take().map(|begun| begun.send(Ok(())));
                if lines.send(wire::progress(&event)).await.is_err() {
                    return;
                }
            }
            result = &mut work => break result,
        }
    };
    while let Ok(event) = told.try_recv() {
        begun.take().map(|begun| begun.send(Ok(())));
        if lines.send(wire::progress(&event)).await.is_err() {
            return;
        }
    }
    match (result, begun) {
        (Err(error), Some(begun)) => drop(begun.send(Err(error.into()))),
        (Err(error), None) => {
            tracing::warn!("pull: {error}");
            // The client may have gone.
            let _ = lines.send(wire::failure(&model::in_go_words(&error.to_string()))).await;
        }
        (Ok(()), begun) => drop(begun.map(|begun| begun.send(Ok(())))),
    }
}

/// The API means every tag when it gets none.
async fn pull_all(images: &Images, pull: Pull, sink: images::Sink<'_>) -> Result<(), ImageError> {
    if pull.reference.tag().is_some() || pull.reference.digest().is_some() {
        return images.pull(pull, sink).await.map(drop);
    }
    for tag in images.tags(&pull.reference, pull.credentials.clone()).await? {
        let reference = pull.reference.tagged(&tag)?;
        images.pull(Pull { reference, ..pull.clone() }, sink).await?;
    }
    Ok(())
}

fn pulled_reference(query: &Query) -> Result<Reference, ApiError> {
    let name = query.get("fromImage").ok_or_else(|| ApiError::bad_request("fromImage is missing"))?;
    let reference = parse(name)?;
    let Some(tag) = query.get("tag") else { return Ok(reference) };
    match tag.parse::<Digest>() {
        Ok(digest) => Ok(reference.digested(&digest)),
        Err(_) => Ok(reference.tagged(tag).map_err(ImageError::from)?),
    }
}

fn parse(name: &str) -> Result<Reference, ApiError> {
    Ok(Reference::parse(name).map_err(ImageError::from)?)
}

/// `GET /images/json`.
pub async fn list(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    const KNOWN: [&str; 7] = ["before", "dangling", "label", "label!", "reference", "since", "until"];
    let filters = call.query.filters(&KNOWN)?;
    let filter = Filter {
        dangling: dangling(&filters)?,
        labels: labels(&filters),
        before: one(&filters, "before")?,
        since: one(&filters, "since")?,
        until: earliest(&filters)?,
        references: filters.get("reference").unwrap_or_default().to_vec(),
    };
    let shared_sizes = call.query.flag("shared-size");
    let mut users = HashMap::<String, usize>::new();
    for container in app.containers.list() {
        *users.entry(container.record().image_id.clone()).or_default() += 1;
    }
    let rows = app.images.list_filtered(&filter)?.into_iter().map(|image| {
        let shared_size = shared_sizes.then(|| app.images.shared_size(&image));
        let users = users.get(image.id.as_str()).copied().unwrap_or(0);
        wire::summary(&image, call.version, shared_size, users)
    });
    Ok(reply::ok(&rows.collect::<Vec<_>>()))
}

/// `GET /images/{name}/json`.
pub async fn inspect(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let image = app.images.resolve(&call.name)?.whole()?;
    meets_platform(&image, &call, ApiVersion(1, 49))?;
    Ok(reply::ok(&wire::inspect(&image, call.version)))
}

/// `GET /images/{name}/history`.
pub async fn history(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let image = app.images.resolve(&call.name)?.whole()?;
    meets_platform(&image, &call, ApiVersion(1, 48))?;
    Ok(reply::ok(&wire::history(&image)))
}

/// That the image is for the platform that was asked for, which versions before `since` do not know how to ask.
fn meets_platform(image: &Image, call: &Call, since: ApiVersion) -> Result<(), ApiError> {
    let asked = call.query.get("platform").filter(|text| !text.is_empty() && call.version >= since);
    let Some(asked) = asked.map(wire::platform).transpose()? else { return Ok(()) };
    let found = image.platform();
    if asked.runs(&found) {
        return Ok(());
    }
    let (reference, found, asked) = (call.name.clone(), found.to_string(), asked.to_string());
    Err(ImageError::OtherPlatform { reference, found, asked }.into())
}

/// `POST /images/{name}/tag`.
pub async fn tag(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let repository = call.query.get("repo").ok_or_else(|| ApiError::bad_request("repo is missing"))?;
    let mut target = parse(repository)?;
    if let Some(tag) = call.query.get("tag") {
        target = target.tagged(tag).map_err(ImageError::from)?;
    }
    blocking(move || app.images.tag(&call.name, &target)).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

/// `DELETE /images/{name}`. Without parents there is nothing for `noprune` to keep.
pub async fn delete(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    if call.query.get("platforms").is_some() {
        let text = "removing single platforms of an image is not supported by this release of Pinnace yet";
        return Err(ApiError::of(ErrorKind::NotImplemented, text));
    }
    let force = call.query.flag("force");
    let running = running(&app);
    let removed =
        blocking(move || app.images.delete(&call.name, force, &|holder| running.contains(holder))).await?;
    Ok(reply::ok(&wire::removed(&removed)))
}

/// `POST /images/prune`.
pub async fn prune(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let filters = call.query.filters(&["dangling", "label", "label!", "until"])?;
    let all = dangling(&filters)? == Some(false);
    let prune = Prune { all, until: until(&filters)?, labels: labels(&filters) };
    let pruned = blocking(move || app.images.prune(&prune)).await?;
    let removed = if pruned.removed.is_empty() { Value::Null } else { wire::removed(&pruned.removed) };
    Ok(reply::ok(&json!({ "ImagesDeleted": removed, "SpaceReclaimed": pruned.space })))
}

/// Holders of images that run.
fn running(app: &App) -> HashSet<Holder> {
    let containers = app.containers.list();
    let running = containers.iter().filter(|container| container.snapshot().state.is_active());
    running.map(|container| Holder::Container(container.id().to_owned())).collect()
}

/// Runs what waits for the disk where it holds nobody up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| ApiError::of(ErrorKind::Internal, "the request was lost"))??)
}

fn dangling(filters: &Filters) -> Result<Option<bool>, ApiError> {
    let Some(value) = one(filters, "dangling")? else { return Ok(None) };
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "t" => Ok(Some(true)),
        "0" | "false" | "f" => Ok(Some(false)),
        _ => Err(ApiError::bad_request(format!("invalid filter 'dangling={value}'"))),
    }
}

fn one(filters: &Filters, key: &str) -> Result<Option<String>, ApiError> {
    match filters.get(key) {
        None => Ok(None),
        Some([value]) => Ok(Some(value.clone())),
        Some(_) => Err(ApiError::bad_request(format!("more than one {key} filter specified"))),
    }
}

pub(super) fn labels(filters: &Filters) -> Labels {
    let pairs = |key: &str| {
        let words = filters.get(key).unwrap_or_default().iter();
        let pair = |word: &String| match word.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (word.clone(), None),
        };
        words.map(pair).collect()
    };
    Labels { with: pairs("label"), without: pairs("label!") }
}

/// The time of the one `until`.
pub(super) fn until(filters: &Filters) -> Result<Option<Timestamp>, ApiError> {
    one(filters, "until")?.as_deref().map(time).transpose()
}

/// The first of all times named: the others follow from it.
fn earliest(filters: &Filters) -> Result<Option<Timestamp>, ApiError> {
    let times = filters.get("until").unwrap_or_default().iter().map(|text| time(text));
    Ok(times.collect::<Result<Vec<_>, _>>()?.into_iter().min())
}

/// A time, or how long ago.
fn time(text: &str) -> Result<Timestamp, ApiError> {
    let ago = |duration: Duration| {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Timestamp(Timestamp::now().0.saturating_sub(nanos))
    };
    let time = Timestamp::parse_rfc3339(text)
        .or_else(|| Timestamp::parse_unix(text))
        .or_else(|| duration::parse(text).map(ago));
    time.ok_or_else(|| ApiError::bad_request(format!("invalid filter 'until={text}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_pull_is_read() {
        let check = |query: &str, expected: Result<&str, &str>| {
            let got = pulled_reference(&Query::parse(query)).map(|reference| reference.to_string());
            let got = got.as_deref().map_err(|error| error.message.as_str());
            assert_eq!(got, expected, "{query}");
        };
        let hex = "d".repeat(64);
        check("fromImage=docker.io%2Flibrary%2Falpine&tag=3.20", Ok("docker.io/library/alpine:3.20"));
        check("fromImage=alpine:3.1", Ok("docker.io/library/alpine:3.1"));
        check("fromImage=alpine:3.1&tag=3.2", Ok("docker.io/library/alpine:3.2"));
        check("fromImage=alpine", Ok("docker.io/library/alpine"));
        check(&format!("fromImage=a/b&tag=sha256:{hex}"), Ok(&format!("docker.io/a/b@sha256:{hex}")));
        check("fromImage=alpine&tag=..", Err("invalid reference format"));
        check("tag=x", Err("fromImage is missing"));
    }

    #[test]
    fn of_several_times_the_earliest_counts_and_a_prune_takes_one() {
        let query = Query::parse("filters=%7B%22until%22%3A%5B%222%22%2C%221%22%5D%7D");
        let filters = query.filters(&["until"]).unwrap();
        assert_eq!(earliest(&filters).unwrap(), Some(Timestamp(1_000_000_000)));
        assert!(until(&filters).unwrap_err().message.contains("more than one until filter specified"));
    }
}
