//! The images the tests use: real programs from Debian packages, put into layers here.

mod debian;
mod layer;
mod recipe;
mod servers;
mod special;

pub use debian::{busybox_program, busybox_tree};
pub use layer::{Compression, Layer, Tree, digest};
pub use recipe::{Recipe, Style, architecture};

use crate::registry::Registry;
use serde_json::json;

/// An image the registry serves to everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Image {
    /// One static busybox; `sh` is its command.
    Busybox,
    /// Debian bookworm, minimal, with procps, a whiteout and an opaque folder: five layers.
    Debian,
    /// Busybox with every field of the configuration in use; see [`special::configured`].
    Configured,
    /// Busybox behind an index of several platforms.
    ManyPlatforms,
    /// Busybox with Docker's own media types (schema 2).
    DockerTypes,
    /// Busybox in a zstd layer.
    Zstd,
    /// Busybox with files for volumes; see [`special::volumes`].
    Volumes,
    /// Debian with nginx.
    Nginx,
    /// Debian with PostgreSQL 15 and the database cluster that its package makes.
    Postgres,
    /// Debian with Redis.
    Redis,
}

impl Image {
    /// Its repository in the registry.
    pub fn name(self) -> &'static str {
        match self {
            Image::Busybox => "busybox",
            Image::Debian => "debian",
            Image::Configured => "tests/configured",
            Image::ManyPlatforms => "tests/many-platforms",
            Image::DockerTypes => "tests/docker-types",
            Image::Zstd => "tests/zstd",
            Image::Volumes => "tests/volumes",
            Image::Nginx => "tests/nginx",
            Image::Postgres => "tests/postgres",
            Image::Redis => "tests/redis",
        }
    }

    /// Uploads it and tells its full name.
    pub(crate) fn publish(self, registry: &Registry) -> String {
        let name = self.name();
        match self {
            Image::Busybox => registry.publish(name, &busybox()).reference,
            Image::Debian => registry.publish(name, &debian::recipe()).reference,
            Image::Configured => registry.publish(name, &special::configured()).reference,
            Image::ManyPlatforms => special::publish_many_platforms(registry, name),
            Image::DockerTypes => registry.publish(name, &busybox().style(Style::Docker)).reference,
            Image::Zstd => registry.publish(name, &special::zstd()).reference,
            Image::Volumes => registry.publish(name, &special::volumes()).reference,
            Image::Nginx => registry.publish(name, &servers::nginx()).reference,
            Image::Postgres => registry.publish(name, &servers::postgres()).reference,
            Image::Redis => registry.publish(name, &servers::redis()).reference,
        }
    }
}

/// The small image as a recipe, to be varied.
pub fn busybox() -> Recipe {
    Recipe::new().layer(debian::busybox_tree().finish(Compression::Gzip)).config(json!({ "Cmd": ["sh"] }))
}
