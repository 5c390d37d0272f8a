//! A real registry on this host (Debian's `docker-registry`), filled through its own HTTP API.

use crate::api::{Body, Client, Response};
use crate::guard::Guard;
use crate::images::{Image, Recipe, digest};
use crate::workspace::eventually;
use serde_json::Value;
use std::collections::HashMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// The registry of one test run; its storage goes with it.
pub struct Registry {
    /// `host:port` as the appliance reaches it.
    pub address: String,
    local: String,
    storage: tempfile::TempDir,
    served: Mutex<HashMap<Image, Arc<OnceLock<String>>>>,
    _guard: Guard,
}

/// An image as it stands in the registry.
pub struct Published {
    /// `host:port/name:tag`.
    pub reference: String,
    /// Digest of the manifest.
    pub manifest: String,
    /// Digest of the image configuration.
    pub config: String,
    /// Digests of the layers, lowest first.
    pub layers: Vec<String>,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Registry {
    /// Starts one on a free port of all addresses; `host` is this host's address for the appliance.
    pub fn start(host: &str) -> Registry {
        let storage =
            tempfile::Builder::new().prefix("pinnace-registry-").tempdir().expect("a temporary folder");
        let port = free_port();
        let config = storage.path().join("config.yml");
        std::fs::write(&config, configuration(storage.path(), port)).expect("the folder was just made");
        let (config, folder) = (config.to_string_lossy(), storage.path().to_string_lossy());
        let guard = Guard::new(
            "docker-registry serve \"$1\" & server=$!",
            "kill $server; wait $server; rm -rf \"$2\"",
            &[&config, &folder],
        );
        let local = format!("127.0.0.1:{port}");
        let client = Client::tcp(&local, PATIENCE);
        eventually("docker-registry (package docker-registry) answers", PATIENCE, || {
            client.try_connect().ok()
        });
        let served = Mutex::default();
        Registry { address: format!("{host}:{port}"), local, storage, served, _guard: guard }
    }

    /// Makes sure an image is there, and tells its full name.
    pub fn serves(&self, image: Image) -> String {
        let once = self.served.lock().expect("no test panics here").entry(image).or_default().clone();
        once.get_or_init(|| image.publish(self)).clone()
    }

    /// Full name of `name:latest` here.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}:latest", self.address)
    }

    /// Uploads an image as `name:latest`.
    pub fn publish(&self, name: &str, recipe: &Recipe) -> Published {
        for layer in &recipe.layers {
            self.put_blob(name, &layer.bytes);
        }
        let config = self.put_blob(name, &recipe.config_bytes());
        let manifest = recipe.manifest_bytes();
        let digest = self.put_manifest(name, "latest", recipe.style.manifest_type(), &manifest);
        let layers = recipe.layers.iter().map(|layer| layer.digest.clone()).collect();
        Published { reference: self.reference(name), manifest: digest, config, layers }
    }

    /// Uploads a blob and tells its digest.
    pub fn put_blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let start = self.call("POST", &format!("/v2/{name}/blobs/uploads/"), Body::Empty).is(202);
        let location = start.head.header("Location").expect("an upload has a location").to_owned();
        let path = location.split_once(&*self.local).map_or(&*location, |(_, path)| path);
        let joint = if path.contains('?') { '&' } else { '?' };
        let body = Body::Bytes("application/octet-stream", bytes);
        self.call("PUT", &format!("{path}{joint}digest={digest}"), body).is(201);
        digest
    }

    /// Uploads a manifest or an index under a tag (or its digest) and tells its digest.
    pub fn put_manifest(&self, name: &str, tag: &str, media_type: &str, bytes: &[u8]) -> String {
        let path = format!("/v2/{name}/manifests/{tag}");
        self.call("PUT", &path, Body::Bytes(media_type, bytes)).is(201);
        digest(bytes)
    }

    /// Uploads an index under `name:latest`.
    pub fn put_index(&self, name: &str, index: &Value) -> String {
        self.put_manifest(
            name,
            "latest",
            "application/vnd.oci.image.index.v1+json",
            index.to_string().as_bytes(),
        )
    }

    /// The file that holds a blob, for those who damage it.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("digests are sha256");
        let blobs = self.storage.path().join("docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    #[track_caller]
    fn call(&self, method: &str, path: &str, body: Body<'_>) -> Response {
        Client::tcp(&self.local, PATIENCE).call(method, path, body)
    }
}

/// A TCP port nobody listens on right now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("0.0.0.0", 0)).expect("a port is free");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn configuration(storage: &std::path::Path, port: u16) -> String {
    format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: \"0.0.0.0:{port}\", relativeurls: true}}\n",
        storage.display()
    )
}
