//! Manifests and lists of manifests, in the forms of Docker (schema 2) and OCI, which have the same fields.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::ImageError;
use crate::registry::RawManifest;
use model::Platform;
use model::reference::Digest;

/// Most layers overlayfs stacks (OVL_MAX_STACK in fs/overlayfs/params.h).
const LAYERS_MAX: usize = 500;

/// A blob as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    /// Bytes of the blob.
    pub(super) size: u64,
    #[serde(default)]
    platform: Option<RawPlatform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

/// The manifest of one image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    /// Lowest first.
    pub(super) layers: Vec<Descriptor>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Image(Manifest),
    List(Vec<Descriptor>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    fs_layers: Option<IgnoredAny>,
}

pub(super) fn parse(raw: &RawManifest) -> Result<Parsed, ImageError> {
    let malformed = |text: &str| Err(ImageError::Malformed(format!("its manifest {text}")));
    let document: RawDocument = match serde_json::from_slice(&raw.bytes) {
        Ok(document) => document,
        Err(error) => return malformed(&format!("cannot be read: {error}")),
    };
    if document.schema_version == 1 || document.fs_layers.is_some() {
        return malformed("has Docker's schema 1, which is no longer supported");
    }
    if document.schema_version != 2 {
        return malformed(&format!("has the unknown schema version {}", document.schema_version));
    }
    if document.media_type.as_ref().is_some_and(|inner| *inner != raw.media_type) {
        return malformed("tells another media type than the registry");
    }
    // One text that is both would be two images with one digest (CVE-2021-41190).
    match (document.config, document.layers, document.manifests) {
        (Some(_), Some(layers), None) if layers.len() > LAYERS_MAX => malformed("has more than 500 layers"),
        (Some(config), Some(layers), None) => Ok(Parsed::Image(Manifest { config, layers })),
        (None, None, Some(list)) => Ok(Parsed::List(list)),
        _ => malformed("is neither that of an image nor a list"),
    }
}

/// The entry for the platform, the best when there are several. Attestations have the platform
/// `unknown/unknown` and so are never chosen.
pub(super) fn choose<'a>(entries: &'a [Descriptor], wanted: &Platform) -> Result<&'a Digest, ImageError> {
    let suits = |entry: &Descriptor| {
        let platform = entry.platform.clone()?;
        let RawPlatform { os, architecture, variant } = platform;
        wanted.suits(&Platform { os, architecture, variant })
    };
    let mut best: Option<(u32, &Digest)> = None;
    for entry in entries {
        let better = suits(entry).filter(|level| best.is_none_or(|(highest, _)| *level > highest));
        best = better.map(|level| (level, &entry.digest)).or(best);
    }
    best.map(|(_, digest)| digest).ok_or_else(|| ImageError::NoPlatform(wanted.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

    fn read(text: &str) -> Result<Parsed, String> {
        let bytes = text.replace('D', &format!("sha256:{}", "d".repeat(64))).into_bytes();
        let raw = RawManifest { media_type: OCI.into(), digest: Digest::of(&bytes), bytes: bytes.into() };
        parse(&raw).map_err(|error| error.to_string())
    }

    #[test]
    fn manifests_are_read() {
        let image = read(
            r#"{"schemaVersion":2,"config":{"digest":"D","size":2},"layers":[{"mediaType":"x","digest":"D","size":3}]}"#,
        );
        assert!(matches!(image, Ok(Parsed::Image(manifest)) if manifest.layers[0].size == 3));
        assert!(matches!(read(r#"{"schemaVersion":2,"manifests":[]}"#), Ok(Parsed::List(_))));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for (text, expected) in [
            ("<html>", "cannot be read"),
            ("{}", "cannot be read"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema 1"),
            (r#"{"schemaVersion":3}"#, "unknown schema version 3"),
            (r#"{"schemaVersion":2}"#, "neither"),
            (r#"{"schemaVersion":2,"mediaType":"other","manifests":[]}"#, "another media type"),
            (r#"{"schemaVersion":2,"config":{"digest":"D","size":2},"layers":[],"manifests":[]}"#, "neither"),
            (r#"{"schemaVersion":2,"config":{"digest":"D","size":-1},"layers":[]}"#, "cannot be read"),
            (
                r#"{"schemaVersion":2,"config":{"digest":"sha256:../..","size":1},"layers":[]}"#,
                "cannot be read",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
