//! Manifests and indexes, in the forms of Docker (schema 2) and OCI, which have the same fields.

use model::Platform;
use model::reference::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::ImageError;
use crate::records::{Descriptor, IndexEntry, ManifestKind, ManifestRecord};
use crate::registry::RawManifest;

/// Most layers of an image. overlayfs stacks 500 (OVL_MAX_STACK in fs/overlayfs/params.h), and the lowest one of every
/// container is the engine's own.
const LAYERS_MAX: usize = 499;

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
    Index(Vec<IndexEntry>),
}

/// The fields of all forms. Go's readers take a descriptor without a media type and a platform without its parts, and one
/// odd entry must not make a whole index unusable.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<RawDescriptor>,
    #[serde(default)]
    layers: Option<Vec<RawDescriptor>>,
    #[serde(default)]
    manifests: Option<Vec<RawDescriptor>>,
    #[serde(default)]
    fs_layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl From<RawDescriptor> for Descriptor {
    fn from(raw: RawDescriptor) -> Descriptor {
        Descriptor { media_type: raw.media_type, digest: raw.digest, size: raw.size }
    }
}

impl From<RawDescriptor> for IndexEntry {
    fn from(mut raw: RawDescriptor) -> IndexEntry {
        // A platform that says nothing is none.
        let says = |platform: &RawPlatform| !platform.os.is_empty() || !platform.architecture.is_empty();
        let platform = raw.platform.take().filter(says);
        let platform =
            platform.map(|RawPlatform { os, architecture, variant }| Platform { os, architecture, variant });
        IndexEntry { manifest: raw.into(), platform }
    }
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
        (Some(_), Some(layers), None) if layers.len() > LAYERS_MAX => {
            malformed(&format!("has more than {LAYERS_MAX} layers"))
        }
        (Some(config), Some(layers), None) => {
            let layers = layers.into_iter().map(Descriptor::from).collect();
            Ok(Parsed::Image(Manifest { config: config.into(), layers }))
        }
        (None, None, Some(entries)) => Ok(Parsed::Index(entries.into_iter().map(IndexEntry::from).collect())),
        _ => malformed("is neither that of an image nor an index"),
    }
}

/// The entry for the platform, the best when there are several; where nobody asked for one, the best that this processor
/// runs. An entry without a platform is for any, and worse than all that have one. Attestations have the platform
/// `unknown/unknown` and so are never chosen.
pub(super) fn choose<'a>(
    entries: &'a [IndexEntry],
    asked: Option<&Platform>,
) -> Result<&'a Descriptor, ImageError> {
    let wanted = asked.cloned().unwrap_or_else(Platform::processor);
    let suits = |entry: &IndexEntry| match &entry.platform {
        Some(platform) => wanted.suits(platform).map(|level| level + 1),
        None => Some(0),
    };
    let mut best: Option<(u32, &Descriptor)> = None;
    for entry in entries {
        let better = suits(entry).filter(|level| best.is_none_or(|(highest, _)| *level > highest));
        best = better.map(|level| (level, &entry.manifest)).or(best);
    }
    let shown = || asked.cloned().unwrap_or_else(Platform::host).to_string();
    best.map(|(_, manifest)| manifest).ok_or_else(|| ImageError::NoPlatform(shown()))
}

/// What the store keeps of a manifest, once the platform of its configuration is known.
pub(super) fn record(raw: &RawManifest, parsed: Parsed, platform: Option<Platform>) -> ManifestRecord {
    let kind = match parsed {
        Parsed::Index(manifests) => ManifestKind::Index { manifests },
        Parsed::Image(Manifest { config, layers }) => ManifestKind::Image { config, layers, platform },
    };
    ManifestRecord { media_type: raw.media_type.clone(), size: raw.bytes.len() as u64, kind }
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
        assert!(matches!(read(r#"{"schemaVersion":2,"manifests":[]}"#), Ok(Parsed::Index(_))));
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

    #[test]
    fn more_layers_than_a_start_can_stack_are_refused() {
        let of = |count: usize| {
            let layers = vec![r#"{"mediaType":"x","digest":"D","size":3}"#; count].join(",");
            read(&format!(r#"{{"schemaVersion":2,"config":{{"digest":"D","size":2}},"layers":[{layers}]}}"#))
        };
        assert!(of(499).is_ok());
        assert!(of(500).unwrap_err().contains("more than 499 layers"));
    }

    /// As dockerd 28.5.2 chooses on a processor with the level v3; 0 is the first entry.
    #[test]
    fn entries_are_chosen_as_docker_chooses() {
        let check = |asked: &str, platforms: &[&str], expected: Option<usize>| {
            let entries = platforms.iter().enumerate().map(|(at, text)| {
                let digest = format!("sha256:{:064}", at).parse().unwrap();
                let manifest = Descriptor { media_type: String::new(), digest, size: 1 };
                let platform = (!text.is_empty()).then(|| Platform::parse(text).unwrap());
                IndexEntry { manifest, platform }
            });
            let entries: Vec<_> = entries.collect();
            let chosen = choose(&entries, Some(&Platform::parse(asked).unwrap()));
            let at = chosen.ok().and_then(|chosen| entries.iter().position(|e| e.manifest == *chosen));
            assert_eq!(at, expected, "{asked} {platforms:?}");
        };
        check("linux/amd64/v3", &["linux/amd64/v3"], Some(0));
        check("linux/amd64/v3", &["linux/amd64/v4"], None);
        check("linux/amd64/v3", &["linux/amd64", "linux/amd64/v3"], Some(1));
        check("linux/amd64/v3", &["", "linux/amd64"], Some(1));
        check("linux/amd64/v3", &["linux/386"], Some(0));
        check("linux/amd64", &["linux/amd64/v3"], None);
        check("linux/amd64", &[""], Some(0));
        check("linux/amd64", &["", "linux/386"], Some(1));
    }

    #[test]
    fn an_entry_that_lacks_fields_does_not_spoil_the_others() {
        let entry = |platform: &str| format!(r#"{{"digest":"D","size":1{platform}}}"#);
        let entries =
            [entry(""), entry(r#","platform":{}"#), entry(r#","platform":{"os":"linux"}"#)].join(",");
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{entries}]}}"#);
        let Ok(Parsed::Index(entries)) = read(&text) else { panic!("no index") };
        let known: Vec<_> = entries.iter().map(|entry| entry.platform.is_some()).collect();
        assert_eq!(known, [false, false, true]);
        assert!(choose(&entries[2..], Some(&Platform::host())).is_err());
    }
}
