//! The configuration blob of an image, whose digest is the image's id.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use super::ImageError;
use model::reference::Digest;
use model::timestamp::Timestamp;

/// What the image says about containers made from it: the `config` of the image specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `user[:group]`, empty is root.
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    /// `port/protocol`.
    #[serde(deserialize_with = "keys")]
    pub exposed_ports: BTreeSet<String>,
    /// `KEY=value` words.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// Program and first arguments.
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// Arguments, or program and arguments without an entrypoint.
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    /// Paths of volumes.
    #[serde(deserialize_with = "keys")]
    pub volumes: BTreeSet<String>,
    /// Absolute path, empty is `/`.
    #[serde(deserialize_with = "or_default")]
    pub working_dir: String,
    /// Labels.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// Signal that `stop` sends.
    pub stop_signal: Option<String>,
    /// How to ask whether the container is well.
    pub healthcheck: Option<Healthcheck>,
    /// Shell of shell forms.
    #[serde(deserialize_with = "or_default")]
    pub shell: Vec<String>,
    /// Build instructions for images made from this one.
    #[serde(deserialize_with = "or_default")]
    pub on_build: Vec<String>,
}

/// Docker's health check; times are nanoseconds, zero is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`, `CMD …` or `CMD-SHELL …`.
    #[serde(deserialize_with = "or_default")]
    pub test: Vec<String>,
    /// Between checks.
    pub interval: i64,
    /// Longest check.
    pub timeout: i64,
    /// Failures do not count in the beginning.
    pub start_period: i64,
    /// Between checks in the beginning.
    pub start_interval: i64,
    /// Failures in a row that make a container unhealthy.
    pub retries: i64,
}

/// One step of an image's making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// When, if told.
    pub created: Option<Timestamp>,
    /// The instruction.
    pub created_by: String,
    /// Who, if told.
    pub author: String,
    /// Free text.
    pub comment: String,
    /// The step made no layer.
    pub empty_layer: bool,
}

/// The configuration blob.
#[derive(Debug, Clone, Default)]
pub(super) struct Document {
    pub(super) architecture: String,
    pub(super) os: String,
    pub(super) variant: String,
    pub(super) created: Option<Timestamp>,
    pub(super) author: String,
    pub(super) comment: String,
    pub(super) config: ImageConfig,
    pub(super) diff_ids: Vec<Digest>,
    pub(super) history: Vec<History>,
}

#[derive(Deserialize)]
struct RawDocument {
    #[serde(default, deserialize_with = "or_default")]
    architecture: String,
    #[serde(default, deserialize_with = "or_default")]
    os: String,
    #[serde(default, deserialize_with = "or_default")]
    variant: String,
    #[serde(default)]
    created: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    author: String,
    #[serde(default, deserialize_with = "or_default")]
    comment: String,
    #[serde(default, deserialize_with = "or_default")]
    config: ImageConfig,
    rootfs: RawRootfs,
    #[serde(default, deserialize_with = "or_default")]
    history: Vec<RawHistory>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default, deserialize_with = "or_default")]
    diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct RawHistory {
    #[serde(default)]
    created: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    created_by: String,
    #[serde(default, deserialize_with = "or_default")]
    author: String,
    #[serde(default, deserialize_with = "or_default")]
    comment: String,
    #[serde(default, deserialize_with = "or_default")]
    empty_layer: bool,
}

impl Document {
    pub(super) fn parse(bytes: &[u8]) -> Result<Document, ImageError> {
        let raw: RawDocument = serde_json::from_slice(bytes)
            .map_err(|error| ImageError::Malformed(format!("its configuration: {error}")))?;
        let time = |text: Option<String>| text.as_deref().and_then(Timestamp::parse_rfc3339);
        let history = raw.history.into_iter().map(|step| History {
            created: time(step.created),
            created_by: step.created_by,
            author: step.author,
            comment: step.comment,
            empty_layer: step.empty_layer,
        });
        Ok(Document {
            architecture: raw.architecture,
            os: raw.os,
            variant: raw.variant,
            created: time(raw.created),
            author: raw.author,
            comment: raw.comment,
            config: raw.config,
            diff_ids: raw.rootfs.diff_ids,
            history: history.collect(),
        })
    }
}

/// Go writes `null` for empty lists, maps and structures.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// `{"80/tcp": {}}`: a set in Go. Read from a plain list as well, which is how we write one.
fn keys<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Map(BTreeMap<String, serde::de::IgnoredAny>),
        List(BTreeSet<String>),
    }
    Ok(match Option::deserialize(from)? {
        Some(Either::Map(map)) => map.into_keys().collect(),
        Some(Either::List(list)) => list,
        None => BTreeSet::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_are_nothing() {
        let text = br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"ExposedPorts":
            {"80/tcp":{}},"Volumes":null,"Labels":null,"Healthcheck":{"Test":["NONE"]},"Unknown":1},
            "rootfs":{"type":"layers","diff_ids":null},"history":[{"created":"2020-01-02T03:04:05Z",
            "created_by":"x","empty_layer":true}],"created":"nonsense"}"#;
        let document = Document::parse(text).unwrap();
        assert_eq!(document.config.cmd, ["sh"]);
        assert!(document.config.exposed_ports.contains("80/tcp"));
        assert!(document.config.env.is_empty() && document.created.is_none());
        assert!(document.history[0].empty_layer && document.history[0].created.is_some());
        let again: ImageConfig =
            serde_json::from_value(serde_json::to_value(&document.config).unwrap()).unwrap();
        assert_eq!(again, document.config);
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for bad in ["", "{}", "[]", r#"{"rootfs":{"diff_ids":["x"]}}"#, r#"{"rootfs":{},"config":7}"#] {
            assert!(matches!(Document::parse(bad.as_bytes()), Err(ImageError::Malformed(_))), "{bad}");
        }
    }
}
