//! Images made on the spot, and an engine's data folder to pull them into.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use model::reference::{Digest, Reference};
use pinnace_images::registry::{Client, ClientConfig, Credentials};
use pinnace_images::{ImageError, Images, Pull, PullEvent, Pulled};
use store::Store;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image as a registry keeps it.
#[derive(Clone)]
pub struct Made {
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
}

impl Made {
    /// An image with one layer for each list of files.
    pub fn new(layers: &[&[(&str, &[u8])]]) -> Made {
        let tars: Vec<Vec<u8>> = layers.iter().map(|files| tar(files)).collect();
        let packed = tars.iter().map(|tar| gzip(tar)).collect();
        Made::of(&tars, packed, "linux", "amd64")
    }

    pub fn of(tars: &[Vec<u8>], layers: Vec<Vec<u8>>, os: &str, architecture: &str) -> Made {
        let diff_ids: Vec<_> = tars.iter().map(|tar| Digest::of(tar).to_string()).collect();
        let config = serde_json::json!({
            "architecture": architecture, "os": os, "created": "2024-05-06T07:08:09Z",
            "config": {"Cmd": ["sh"], "Env": ["A=b"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": tars.iter().map(|_| serde_json::json!({"created_by": "made"})).collect::<Vec<_>>(),
        });
        let config = serde_json::to_vec(&config).unwrap();
        let manifest = manifest(&config, &layers);
        Made { manifest, config, layers }
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    pub fn id(&self) -> String {
        Digest::of(&self.config).to_string()
    }

    /// Digest → bytes of everything but the manifest.
    pub fn blobs(&self) -> BTreeMap<String, Vec<u8>> {
        let all = self.layers.iter().chain([&self.config]);
        all.map(|bytes| (Digest::of(bytes).to_string(), bytes.clone())).collect()
    }
}

pub fn manifest(config: &[u8], layers: &[Vec<u8>]) -> Vec<u8> {
    let entry = |media_type: &str, bytes: &[u8]| serde_json::json!({"mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len()});
    serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": entry("application/vnd.oci.image.config.v1+json", config),
        "layers": layers.iter().map(|layer| entry(GZIP, layer)).collect::<Vec<_>>(),
    }))
    .unwrap()
}

pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, data) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        builder.append_data(&mut header, path, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that do not compress, the same every time.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

/// An engine's data folder.
pub struct Data {
    pub folder: tempfile::TempDir,
    pub images: Images,
}

impl Data {
    pub fn new() -> Data {
        let folder = tempfile::tempdir().unwrap();
        let images = open(folder.path());
        Data { folder, images }
    }

    /// The engine started again.
    pub fn again(self) -> Data {
        let Data { folder, images } = self;
        drop(images);
        let images = open(folder.path());
        Data { folder, images }
    }

    pub async fn pull(&self, name: &str) -> Result<Pulled, ImageError> {
        self.images.pull(request(name), &|_| {}).await
    }

    pub async fn pull_told(&self, name: &str) -> (Result<Pulled, ImageError>, Vec<PullEvent>) {
        let told = Mutex::new(Vec::new());
        let result = self.images.pull(request(name), &|event| told.lock().unwrap().push(event)).await;
        (result, told.into_inner().unwrap())
    }

    /// Names in one of the data folder's folders.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Waits until an abandoned pull has been cleared away.
    pub async fn becomes_empty(&self) {
        for _ in 0..200 {
            if ["tmp", "layers", "blobs/sha256"].iter().all(|folder| self.names(folder).is_empty()) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        let left: Vec<_> =
            ["tmp", "layers", "blobs/sha256"].iter().map(|folder| self.names(folder)).collect();
        panic!("left behind: {left:?}");
    }

    /// A file as a container of the image would see it, deletions aside.
    pub fn read(&self, image: &str, path: &str) -> Option<Vec<u8>> {
        let image = self.images.resolve(image).unwrap();
        let layers: Vec<PathBuf> = self.images.rootfs(&image.id).unwrap();
        layers.iter().rev().find_map(|layer| fs::read(layer.join(path)).ok())
    }
}

pub fn open(folder: &Path) -> Images {
    open_with(folder, ClientConfig { ca_certificates: "/nowhere".into(), ..ClientConfig::default() })
}

pub fn open_with(folder: &Path, config: ClientConfig) -> Images {
    let store = Store::open(&folder.join("meta.redb")).unwrap();
    Images::open(store, folder, runtime::ids::IdMap::default(), Arc::new(Client::new(config))).unwrap()
}

pub fn request(name: &str) -> Pull {
    let reference = Reference::parse(name).unwrap();
    Pull { reference, platform: None, credentials: Credentials::Anonymous }
}
