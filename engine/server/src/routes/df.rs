//! Tag System: disk usage.

use std::sync::Arc;

use containers::{Container, State};
use serde_json::{Value, json};

use super::containers::measure;
use super::ps::truth;
use crate::app::App;
use crate::call::Call;
use crate::reply::{self, ApiError, Reply};
use crate::version::ApiVersion;
use crate::wire::{images, summary::Rows};

/// What can be asked for.
const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

/// Sums of one kind, and the rows themselves.
#[derive(Default)]
struct Usage {
    rows: Vec<Value>,
    active: usize,
    total: u64,
    reclaimable: u64,
}

/// `GET /system/df`. There is no build cache yet: its list is empty.
pub async fn df(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let asked = if call.version >= TYPES { call.query.all("type") } else { Vec::new() };
    if let Some(kind) = asked.iter().find(|kind| !KINDS.contains(kind)) {
        return Err(ApiError::bad_request(format!("unknown object type: {kind}")));
    }
    let wanted = |kind: &str| asked.is_empty() || asked.contains(&kind);
    let rows = rows(&call)?;
    let mut all = json!({});
    if wanted("image") {
        add(&mut all, "Image", "Images", image_usage(&app, call.version), call.version, rows);
        if rows == Detail::Beside {
            all["LayersSize"] = json!(app.images.layers_size());
        }
    }
    if wanted("container") {
        add(
            &mut all,
            "Container",
            "Containers",
            container_usage(&app, call.version).await?,
            call.version,
            rows,
        );
    }
    if wanted("volume") {
        add(&mut all, "Volume", "Volumes", volume_usage(app).await?, call.version, rows);
    }
    if wanted("build-cache") {
        add(&mut all, "BuildCache", "BuildCache", Usage::default(), call.version, rows);
    }
    Ok(reply::ok(&all))
}

/// The first version whose answer has sums, and rows only on request.
const SPLIT: ApiVersion = ApiVersion(1, 52);

/// The first version in which a client names kinds.
const TYPES: ApiVersion = ApiVersion(1, 42);

/// Where the rows themselves are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Nowhere: only their sums were asked for.
    Absent,
    /// Among the sums.
    Within,
    /// In lists beside the sums. Older clients sum up themselves, and who says nothing may be one that was only taught
    /// the number of a newer version.
    Beside,
}

fn rows(call: &Call) -> Result<Detail, ApiError> {
    let verbose = call.query.get("verbose").filter(|text| !text.is_empty() && call.version >= SPLIT);
    match verbose.map(|text| (truth(text), text)) {
        None => Ok(Detail::Beside),
        Some((Some(true), _)) => Ok(Detail::Within),
        Some((Some(false), _)) => Ok(Detail::Absent),
        Some((None, text)) => Err(ApiError::bad_request(format!("invalid value for verbose: {text}"))),
    }
}

fn add(all: &mut Value, noun: &str, list: &str, usage: Usage, version: ApiVersion, rows: Detail) {
    if version >= SPLIT {
        let mut sums = json!({
            "ActiveCount": usage.active, "TotalCount": usage.rows.len(), "TotalSize": usage.total,
            "Reclaimable": usage.reclaimable,
        });
        if rows == Detail::Within {
            sums["Items"] = json!(usage.rows);
        }
        all[format!("{noun}Usage")] = sums;
    }
    if rows == Detail::Beside {
        all[list] = json!(usage.rows);
    }
}

/// Those with options are left out, as in dockerd: what they hold is elsewhere.
async fn volume_usage(app: Arc<App>) -> Result<Usage, ApiError> {
    super::volumes::blocking(move || {
        let mut usage = Usage::default();
        for volume in app.volumes.list().iter().filter(|volume| volume.options.is_empty()) {
            let (size, users) = (app.volumes.size(&volume.name), app.volumes.users(&volume.name)?.len());
            let mut row = super::volumes::volume(volume);
            row["UsageData"] = json!({ "RefCount": users, "Size": size });
            usage.total += size;
            match users {
                0 => usage.reclaimable += size,
                _ => usage.active += 1,
            }
            usage.rows.push(row);
        }
        Ok(usage)
    })
    .await
}

fn image_usage(app: &App, version: ApiVersion) -> Usage {
    let containers = app.containers.list();
    let mut usage = Usage { total: app.images.layers_size(), ..Usage::default() };
    let mut used = 0;
    for image in app.images.list() {
        let shared = app.images.shared_size(&image);
        let users = containers.iter().filter(|c| c.record().image_id == image.id.as_str()).count();
        let mut row = images::summary(&image, version, Some(shared), users);
        row["Containers"] = json!(users);
        usage.rows.push(row);
        if users > 0 {
            usage.active += 1;
            used += image.size;
        }
    }
    usage.reclaimable = usage.total.saturating_sub(used);
    usage
}

async fn container_usage(app: &Arc<App>, version: ApiVersion) -> Result<Usage, ApiError> {
    let mut usage = Usage::default();
    for container in app.containers.list() {
        let size = measure(app.clone(), container.clone()).await?;
        let row = Rows::new(app, version).row(&container, Some(size));
        usage.rows.push(json!(row));
        usage.total += size.writable;
        match in_use(&container) {
            true => usage.active += 1,
            false => usage.reclaimable += size.writable,
        }
    }
    Ok(usage)
}

fn in_use(container: &Container) -> bool {
    matches!(container.snapshot().state, State::Running(_) | State::Restarting(_))
}
