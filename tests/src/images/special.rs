//! Images that exist to try one thing each.

use super::layer::{Compression, Tree, digest};
use super::recipe::{Recipe, Style, architecture};
use super::{busybox, debian};
use crate::registry::Registry;
use serde_json::{Value, json};

/// Busybox in a zstd layer.
pub fn zstd() -> Recipe {
    Recipe::new().layer(debian::busybox_tree().finish(Compression::Zstd)).config(json!({ "Cmd": ["sh"] }))
}

/// Busybox with a folder `/data` of user 1000 and group 1001, in it `file`, `hard` (the same file), `link`, and of the same user
/// `own` and an empty folder `sub`; and a folder `/declared` with a file `first`, which is a volume.
pub fn volumes() -> Recipe {
    let owner = (1000, 1001);
    let tree = Tree::default()
        .of(owner, "data/", 0o2750, None)
        .file("data/file", 0o755, b"hello\n")
        .of(owner, "data/own", 0o4755, Some(b"own\n"))
        .hard_link("data/hard", "data/file")
        .link("data/link", "file")
        .of(owner, "data/sub/", 0o700, None)
        .folder("declared")
        .file("declared/first", 0o644, b"first\n");
    let config = json!({ "Cmd": ["sh"], "Volumes": { "/declared": {} } });
    busybox().layer(tree.finish(Compression::Gzip)).config(config)
}

/// Busybox that answers `entry: ARGS…`, as user `guest`, in a folder that does not exist yet, with its own
/// environment and stop signal.
pub fn configured() -> Recipe {
    busybox().config(json!({
        "Entrypoint": ["echo", "entry:"],
        "Cmd": ["default", "words"],
        "User": "guest",
        "WorkingDir": "/made/by/engine",
        "Env": ["PATH=/bin", "COLOUR=green", "SIZE=7"],
        "Labels": { "org.example.kind": "configured" },
        "ExposedPorts": { "8080/tcp": {} },
        "StopSignal": "SIGUSR1",
    }))
}

/// An index with this machine's image, another architecture's, and an attestation that is no image.
pub fn publish_many_platforms(registry: &Registry, name: &str) -> String {
    let other = if architecture() == "amd64" { "arm64" } else { "amd64" };
    let note = busybox().config(json!({ "Labels": { "org.example.kind": "attestation" } }));
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            entry(registry, name, &busybox().architecture(other), other),
            entry(registry, name, &note, "unknown"),
            entry(registry, name, &busybox().config(json!({ "Cmd": ["echo", "mine"] })), architecture()),
        ],
    });
    registry.put_index(name, &index);
    registry.reference(name)
}

fn entry(registry: &Registry, name: &str, recipe: &Recipe, architecture: &str) -> Value {
    let published = registry.publish(name, recipe);
    let os = if architecture == "unknown" { "unknown" } else { "linux" };
    let manifest = recipe.manifest_bytes();
    debug_assert_eq!(published.manifest, digest(&manifest));
    json!({
        "mediaType": Style::Oci.manifest_type(),
        "digest": published.manifest,
        "size": manifest.len(),
        "platform": { "os": os, "architecture": architecture },
    })
}
