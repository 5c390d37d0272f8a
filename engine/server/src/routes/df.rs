//! Tag System: disk usage.

use std::sync::Arc;

use containers::{Container, State};
use serde_json::{Value, json};

use super::containers::measure;
use crate::app::App;
use crate::call::Call;
use crate::reply::{self, ApiError, Reply};
use crate::version::ApiVersion;
use crate::wire::{images, summary::summary};

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

/// `GET /system/df`. There are no volumes and no build cache yet: their lists are empty.
pub async fn df(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let asked = call.query.all("type");
    if let Some(kind) = asked.iter().find(|kind| !KINDS.contains(kind)) {
        return Err(ApiError::bad_request(format!("unknown object type: {kind}")));
    }
    let wanted = |kind: &str| asked.is_empty() || asked.contains(&kind);
    let verbose = call.query.flag("verbose");
    let mut all = json!({});
    if wanted("image") {
        add(&mut all, "Image", "Images", image_usage(&app, call.version), call.version, verbose);
        if !(verbose && call.version >= SPLIT) {
            all["LayersSize"] = json!(app.images.layers_size());
        }
    }
    if wanted("container") {
        add(&mut all, "Container", "Containers", container_usage(&app).await?, call.version, verbose);
    }
    for (kind, noun, list) in [("volume", "Volume", "Volumes"), ("build-cache", "BuildCache", "BuildCache")] {
        if wanted(kind) {
            add(&mut all, noun, list, Usage::default(), call.version, verbose);
        }
    }
    Ok(reply::ok(&all))
}

/// The first version whose answer has sums, and rows only on request.
const SPLIT: ApiVersion = ApiVersion(1, 52);

fn add(all: &mut Value, noun: &str, list: &str, usage: Usage, version: ApiVersion, verbose: bool) {
    if version >= SPLIT {
        let mut sums = json!({
            "ActiveCount": usage.active, "TotalCount": usage.rows.len(), "TotalSize": usage.total,
            "Reclaimable": usage.reclaimable,
        });
        if verbose {
            sums["Items"] = json!(usage.rows);
        }
        all[format!("{noun}Usage")] = sums;
    }
    // Older clients sum up themselves; dockerd still sends them the rows.
    if !(verbose && version >= SPLIT) {
        all[list] = json!(usage.rows);
    }
}

fn image_usage(app: &App, version: ApiVersion) -> Usage {
    let containers = app.containers.list();
    let mut usage = Usage { total: app.images.layers_size(), ..Usage::default() };
    let mut used = 0;
    for image in app.images.list() {
        let shared = app.images.shared_size(&image);
        let users = containers.iter().filter(|c| c.record().image_id == image.id.as_str()).count();
        let mut row = images::summary(&image, version, Some(shared));
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

async fn container_usage(app: &Arc<App>) -> Result<Usage, ApiError> {
    let mut usage = Usage::default();
    for container in app.containers.list() {
        let size = measure(app.clone(), container.clone()).await?;
        let mut row = summary(&container, &app.images, &app.networks);
        super::containers::add_size(&mut row, size);
        usage.rows.push(row);
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
