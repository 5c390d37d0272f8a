//! An image before it has a name: layers, configuration, and the words of its manifest.

use super::layer::{Compression, Layer, digest};
use serde_json::{Value, json};

/// An image to be published.
#[derive(Clone)]
pub struct Recipe {
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// OCI, or Docker's older words.
    pub style: Style,
    config: Value,
    architecture: String,
}

/// Which media types the manifest uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `application/vnd.oci.image.*`
    Oci,
    /// `application/vnd.docker.*`, schema 2.
    Docker,
}

impl Recipe {
    /// No layer, no configuration, this machine's architecture.
    #[expect(clippy::new_without_default, reason = "an image without a layer is no sensible default")]
    pub fn new() -> Recipe {
        let architecture = architecture().to_owned();
        Recipe { layers: Vec::new(), style: Style::Oci, config: json!({}), architecture }
    }

    /// One more layer on top.
    pub fn layer(mut self, layer: Layer) -> Recipe {
        self.layers.push(layer);
        self
    }

    /// The fields that containers start from (`Cmd`, `Env` …).
    pub fn config(mut self, config: Value) -> Recipe {
        self.config = config;
        self
    }

    /// The words of the manifest.
    pub fn style(mut self, style: Style) -> Recipe {
        self.style = style;
        self
    }

    /// Another architecture than this machine's.
    pub fn architecture(mut self, architecture: &str) -> Recipe {
        self.architecture = architecture.to_owned();
        self
    }

    /// The configuration blob.
    pub fn config_bytes(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| &layer.diff_id).collect();
        let history: Vec<_> = self.layers.iter().map(|_| json!({ "created_by": "pinnace tests" })).collect();
        let config = json!({
            "created": "2026-01-02T03:04:05Z",
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": history,
        });
        config.to_string().into_bytes()
    }

    /// The manifest.
    pub fn manifest_bytes(&self) -> Vec<u8> {
        let config = self.config_bytes();
        let layers: Vec<_> = self.layers.iter().map(|layer| self.style.describe(layer)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": self.style.manifest_type(),
            "config": {
                "mediaType": self.style.config_type(), "digest": digest(&config), "size": config.len(),
            },
            "layers": layers,
        });
        manifest.to_string().into_bytes()
    }
}

impl Style {
    /// Media type of the manifest.
    pub fn manifest_type(self) -> &'static str {
        match self {
            Style::Oci => "application/vnd.oci.image.manifest.v1+json",
            Style::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    fn config_type(self) -> &'static str {
        match self {
            Style::Oci => "application/vnd.oci.image.config.v1+json",
            Style::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    fn describe(self, layer: &Layer) -> Value {
        let media_type = match (self, layer.compression) {
            (Style::Oci, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Style::Oci, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Style::Docker, Compression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Style::Docker, Compression::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        };
        json!({ "mediaType": media_type, "digest": layer.digest, "size": layer.bytes.len() })
    }
}

/// This machine's architecture in the words of image manifests (Go's GOARCH).
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
