//! Images on the wire: rows, inspection, history, progress of a pull, and the header with credentials.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use images::registry::Credentials;
use images::{Healthcheck, Image, ImageConfig, LayerStep, PullEvent, Removed};
use model::Platform;
use model::timestamp::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::reply::ApiError;
use crate::version::ApiVersion;

/// A row of `GET /images/json`; `shared_size` where it was asked for, `users` are the containers made of it.
pub fn summary(image: &Image, version: ApiVersion, shared_size: Option<u64>, users: usize) -> Value {
    let (mut tags, mut digests) = (image.repo_tags.clone(), image.repo_digests.clone());
    if version < ApiVersion(1, 43) {
        if tags.is_empty() {
            tags.push("<none>:<none>".to_owned());
        }
        if digests.is_empty() {
            digests.push("<none>@<none>".to_owned());
        }
    }
    let mut row = json!({
        "Id": image.id.as_str(), "ParentId": "", "RepoTags": tags, "RepoDigests": digests,
        "Created": image.created.map_or(0, Timestamp::seconds), "Size": image.size,
        "SharedSize": shared_size.map_or(json!(-1), |size| json!(size)), "Containers": if version < ApiVersion(1, 51) { json!(-1) } else { json!(users) },
        "Labels": image.config.labels,
    });
    if version < ApiVersion(1, 44) {
        row["VirtualSize"] = json!(image.size);
    }
    row
}

/// `GET /images/{name}/json`.
pub fn inspect(image: &Image, version: ApiVersion) -> Value {
    let mut all = json!({
        "Id": image.id.as_str(), "RepoTags": image.repo_tags, "RepoDigests": image.repo_digests,
        "Created": time(image.created), "Config": config(&image.config, version), "Architecture": image.architecture, "Os": image.os, "Size": image.size,
        "RootFS": { "Type": "layers", "Layers": image.diff_ids },
        "Metadata": { "LastTagTime": image.last_tagged.rfc3339() },
    });
    if !image.variant.is_empty() {
        all["Variant"] = json!(image.variant);
    }
    if version < ApiVersion(1, 44) {
        all["VirtualSize"] = json!(image.size);
    }
    if version < ApiVersion(1, 52) {
        all["GraphDriver"] = json!({ "Name": "overlay2", "Data": null });
    }
    let texts = [
        ("Parent", ""),
        ("Comment", image.comment.as_str()),
        ("DockerVersion", ""),
        ("Author", image.author.as_str()),
    ];
    for (key, text) in texts {
        if version < ApiVersion(1, 52) || !text.is_empty() {
            all[key] = json!(text);
        }
    }
    all
}

fn time(at: Option<Timestamp>) -> String {
    at.unwrap_or_default().rfc3339()
}

/// What a container of the image gets. Until 1.51 empty fields were shown, and until 1.49 some that an image has never had.
fn config(config: &ImageConfig, version: ApiVersion) -> Value {
    let list = |words: &[String]| if words.is_empty() { Value::Null } else { json!(words) };
    let text = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    let set = |keys: &std::collections::BTreeSet<String>| match keys.is_empty() {
        true => Value::Null,
        false => keys.iter().map(|key| (key.clone(), json!({}))).collect::<serde_json::Map<_, _>>().into(),
    };
    let mut all = if version < ApiVersion(1, 52) { legacy_config(version) } else { json!({}) };
    let fields = [
        ("User", text(&config.user)),
        ("Env", list(&config.env)),
        ("Cmd", list(&config.cmd)),
        ("Entrypoint", list(&config.entrypoint)),
        ("WorkingDir", text(&config.working_dir)),
        ("OnBuild", list(&config.on_build)),
        ("Volumes", set(&config.volumes)),
        ("Labels", if config.labels.is_empty() { Value::Null } else { json!(config.labels) }),
        ("ExposedPorts", set(&config.exposed_ports)),
        ("Shell", list(&config.shell)),
        ("StopSignal", json!(config.stop_signal)),
        ("Healthcheck", config.healthcheck.as_ref().map_or(Value::Null, health)),
    ];
    for (key, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
        all[key] = value;
    }
    all
}

fn legacy_config(version: ApiVersion) -> Value {
    let mut all = json!({
        "User": "", "Env": null, "Cmd": null, "Entrypoint": null, "WorkingDir": "", "OnBuild": null, "Volumes": null,
        "Labels": null,
    });
    if version < ApiVersion(1, 50) {
        for key in ["Hostname", "Domainname", "Image"] {
            all[key] = json!("");
        }
        for key in ["AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"] {
            all[key] = json!(false);
        }
    }
    all
}

/// Zero is "the default" and left out.
pub(super) fn health(healthcheck: &Healthcheck) -> Value {
    let mut all = json!({ "Test": healthcheck.test });
    let numbers = [
        ("Interval", healthcheck.interval),
        ("Timeout", healthcheck.timeout),
        ("StartPeriod", healthcheck.start_period),
        ("StartInterval", healthcheck.start_interval),
        ("Retries", healthcheck.retries),
    ];
    for (key, number) in numbers.into_iter().filter(|(_, number)| *number != 0) {
        all[key] = json!(number);
    }
    all
}

/// `GET /images/{name}/history`, newest first. Only the image itself has an id.
pub fn history(image: &Image) -> Value {
    let steps = image.history.iter().zip(&image.history_sizes).rev().enumerate();
    let row = |(at, (step, size)): (usize, (&images::History, &u64))| {
        let (id, tags) = match at {
            0 => (image.id.as_str(), json!(image.repo_tags)),
            _ => ("<missing>", Value::Null),
        };
        json!({
            "Id": id, "Created": step.created.map_or(0, Timestamp::seconds), "CreatedBy": step.created_by,
            "Tags": tags, "Size": size, "Comment": step.comment,
        })
    };
    steps.map(row).collect()
}

/// What is gone, as `DELETE /images` and prune tell it.
pub fn removed(all: &[Removed]) -> Value {
    let row = |one: &Removed| match one {
        Removed::Untagged(name) => json!({ "Untagged": name }),
        Removed::Deleted(id) => json!({ "Deleted": id }),
    };
    all.iter().map(row).collect()
}

/// One record of a pull's stream.
pub fn progress(event: &PullEvent) -> Bytes {
    line(&match event {
        PullEvent::From { repository, tag } => {
            json!({ "status": format!("Pulling from {repository}"), "id": tag })
        }
        PullEvent::Layer { id, step } => layer(id, step),
        PullEvent::Note(text) => json!({ "status": text }),
        PullEvent::Digest(digest) => json!({ "status": format!("Digest: {digest}") }),
        PullEvent::Status { reference, is_new: true } => {
            json!({ "status": format!("Status: Downloaded newer image for {reference}") })
        }
        PullEvent::Status { reference, is_new: false } => {
            json!({ "status": format!("Status: Image is up to date for {reference}") })
        }
    })
}

/// A failure after the first record: the status is sent already.
pub fn failure(message: &str) -> Bytes {
    line(&json!({ "errorDetail": { "message": message }, "error": message }))
}

/// Docker ends the records of a pull with CR LF.
fn line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\r\n"))
}

fn layer(id: &str, step: &LayerStep) -> Value {
    let plain = |status: &str| json!({ "status": status, "progressDetail": {}, "id": id });
    let counted = |status: &str, current: u64, total: u64| {
        json!({
            "status": status, "progressDetail": { "current": current, "total": total },
            "progress": bar(current, total), "id": id,
        })
    };
    match step {
        LayerStep::AlreadyExists => plain("Already exists"),
        LayerStep::PullingFsLayer => plain("Pulling fs layer"),
        LayerStep::Waiting => plain("Waiting"),
        LayerStep::Retrying { seconds: 1 } => plain("Retrying in 1 second"),
        LayerStep::Retrying { seconds } => plain(&format!("Retrying in {seconds} seconds")),
        LayerStep::Downloading { current, total } => counted("Downloading", *current, *total),
        LayerStep::VerifyingChecksum => plain("Verifying Checksum"),
        LayerStep::DownloadComplete => plain("Download complete"),
        LayerStep::Extracting { current, total } => counted("Extracting", *current, *total),
        LayerStep::PullComplete => plain("Pull complete"),
    }
}

/// The bar that clients without their own print as it is.
fn bar(current: u64, total: u64) -> String {
    let done = current.saturating_mul(50).checked_div(total).unwrap_or(0).min(50) as usize;
    let (done, left) = ("=".repeat(done), " ".repeat(50 - done));
    format!("[{done}>{left}] {:>8}/{}", human(current), human(total))
}

/// go-units' HumanSize: four significant digits of a decimal unit.
fn human(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1000.0 && unit < units.len() - 1 {
        size /= 1000.0;
        unit += 1;
    }
    let digits = match size {
        100.0.. => 1,
        10.0.. => 2,
        _ => 3,
    };
    let text = format!("{size:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", units[unit])
}

/// A platform in the form of the image specification, as clients write it into a query.
///
/// # Errors
/// 400 with dockerd's words.
pub fn platform(text: &str) -> Result<Platform, ApiError> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Wire {
        os: String,
        architecture: String,
        variant: String,
    }
    let broken = |error| ApiError::bad_request(format!("failed to parse platform: {error}"));
    let Wire { os, architecture, variant } = serde_json::from_str(text).map_err(broken)?;
    if os.is_empty() || architecture.is_empty() {
        return Err(ApiError::bad_request("both OS and Architecture must be provided"));
    }
    Ok(Platform { os, architecture, variant })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawCredentials {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// The body of `POST /auth`: the address of the registry and who logs in.
pub fn login(body: serde_json::Value) -> Result<(String, Credentials), serde_json::Error> {
    let address = body["serveraddress"].as_str().unwrap_or_default().to_owned();
    Ok((address, serde_json::from_value::<RawCredentials>(body)?.read()))
}

/// `X-Registry-Auth`: base64 in any of its forms. What is no credential is none, as for Docker.
pub fn credentials(header: Option<&str>) -> Credentials {
    let raw = header.and_then(decode64).and_then(|text| serde_json::from_slice::<RawCredentials>(&text).ok());
    raw.unwrap_or_default().read()
}

impl RawCredentials {
    fn read(mut self) -> Credentials {
        if self.username.is_empty()
            && let Some(pair) = decode64(&self.auth)
            && let Some((user, password)) = String::from_utf8_lossy(&pair).split_once(':')
        {
            (self.username, self.password) = (user.to_owned(), password.trim_end_matches('\0').to_owned());
        }
        if !self.registrytoken.is_empty() {
            return Credentials::RegistryToken(self.registrytoken);
        }
        if !self.identitytoken.is_empty() {
            return Credentials::IdentityToken(self.identitytoken);
        }
        if self.username.is_empty() {
            return Credentials::Anonymous;
        }
        Credentials::Password { username: self.username, password: self.password }
    }
}

fn decode64(text: &str) -> Option<Vec<u8>> {
    let either = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, either).decode(text.trim()).ok().filter(|bytes| !bytes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_in_every_base64() {
        let check = |header: Option<&str>, expected: &str| {
            assert_eq!(format!("{:?}", credentials(header)), expected, "{header:?}");
        };
        check(None, "Anonymous");
        check(Some("e30="), "Anonymous");
        check(Some("e30"), "Anonymous");
        check(Some("not base64!"), "Anonymous");
        let json = r#"{"username":"me??>","password":"s"}"#;
        let encode = |engine: base64::engine::GeneralPurpose| engine.encode(json);
        use base64::engine::general_purpose as all;
        for engine in [all::STANDARD, all::STANDARD_NO_PAD, all::URL_SAFE, all::URL_SAFE_NO_PAD] {
            check(Some(&encode(engine)), "Password(me??>)");
        }
        check(Some(&all::STANDARD.encode(r#"{"identitytoken":"t"}"#)), "IdentityToken");
        check(Some(&all::STANDARD.encode(r#"{"auth":"bWU6cw=="}"#)), "Password(me)");
    }

    #[test]
    fn bars_are_drawn_as_docker_draws_them() {
        assert_eq!(human(0), "0B");
        assert_eq!(human(1024), "1.024kB");
        assert_eq!(human(52_430_000), "52.43MB");
        assert_eq!(human(999_900), "999.9kB");
        assert_eq!(human(2_000_000_000), "2GB");
        let bar = bar(500, 1000);
        assert_eq!(bar, format!("[{}>{}]     500B/1kB", "=".repeat(25), " ".repeat(25)));
    }
}
