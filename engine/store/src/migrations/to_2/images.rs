//! Images, their names and their layers. What schema 1 did not write down is read from the manifests and configurations
//! that it kept as files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::migrations::{Rewriter, Texts};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// What the old rows and the files say.
struct Old {
    blobs: PathBuf,
    /// Image id → digests of its manifests and lists of manifests, what the newest pull was given first.
    images: BTreeMap<String, Vec<String>>,
    /// Name → image id.
    references: BTreeMap<String, String>,
    /// Those manifests and lists that can be read, by digest.
    manifests: BTreeMap<String, Value>,
}

pub(super) fn run(rewriter: &mut Rewriter<'_>) -> Result<(), redb::Error> {
    let (images, references) = (rewriter.take("images")?, rewriter.take("references")?);
    let layers = rewriter.take("layers")?;
    let old = Old::read(rewriter.data(), &images, &references);
    for (id, row) in &images {
        let last_tagged = parse(row).and_then(|record| record.get("last_tagged").cloned());
        let record = last_tagged.map(|time| json!({ "last_tagged": time }).to_string().into_bytes());
        rewriter.put("images", id, record.as_ref().unwrap_or(row))?;
    }
    for (digest, document) in &old.manifests {
        if let Some(record) = old.manifest(digest, document) {
            rewriter.put("manifests", digest, record.to_string().as_bytes())?;
        }
    }
    for (name, row) in &references {
        let record = old.references.get(name).map(|id| old.reference(name, id).to_string().into_bytes());
        rewriter.put("references", name, record.as_ref().unwrap_or(row))?;
    }
    for (diff_id, row) in &layers {
        let record = parse(row).map(|record| old.layer(diff_id, &record).to_string().into_bytes());
        rewriter.put("layers", diff_id, record.as_ref().unwrap_or(row))?;
    }
    Ok(())
}

impl Old {
    fn read(data: &Path, images: &Texts, references: &Texts) -> Old {
        let blobs = data.join("blobs/sha256");
        let digests = |row: &Vec<u8>| serde_json::from_value(parse(row)?.get("manifests")?.clone()).ok();
        let images: BTreeMap<String, Vec<String>> =
            images.iter().filter_map(|(id, row)| Some((id.clone(), digests(row)?))).collect();
        let read = |digest: &String| Some((digest.clone(), blob(&blobs, digest)?));
        let manifests = images.values().flatten().filter_map(read).collect();
        let leads = |row: &Vec<u8>| serde_json::from_slice(row).ok();
        let references =
            references.iter().filter_map(|(name, row)| Some((name.clone(), leads(row)?))).collect();
        Old { blobs, images, references, manifests }
    }

    fn manifest(&self, digest: &str, document: &Value) -> Option<Value> {
        let kind = match document.get("manifests").and_then(Value::as_array) {
            Some(entries) => {
                json!({ "index": { "manifests": entries.iter().map(entry).collect::<Vec<_>>() } })
            }
            None => {
                let config = descriptor(document.get("config")?);
                let layers = document.get("layers")?.as_array()?.iter().map(descriptor);
                let platform = self.platform(config["digest"].as_str()?);
                json!({ "image": { "config": config, "layers": layers.collect::<Vec<_>>(), "platform": platform } })
            }
        };
        let target = self.target(digest)?;
        Some(json!({ "media_type": target["media_type"], "size": target["size"], "kind": kind }))
    }

    /// The platform that a configuration tells.
    fn platform(&self, config: &str) -> Value {
        let document = blob(&self.blobs, config).unwrap_or_default();
        platform(&document).unwrap_or(Value::Null)
    }

    /// A manifest or list as a registry's answer described it.
    fn target(&self, digest: &str) -> Option<Value> {
        let document = self.manifests.get(digest)?;
        let implied = if document.get("manifests").is_some() { INDEX } else { MANIFEST };
        let media_type = document.get("mediaType").and_then(Value::as_str).unwrap_or(implied);
        Some(json!({ "media_type": media_type, "digest": digest, "size": self.size(digest) }))
    }

    fn size(&self, digest: &str) -> u64 {
        std::fs::metadata(path(&self.blobs, digest)).map_or(0, |metadata| metadata.len())
    }

    /// A name with a digest names what has the digest. A tag names what a pull of its repository was given, or what any
    /// pull of the image was given where it was made by hand; and where nothing is left of that, the configuration.
    fn reference(&self, name: &str, id: &str) -> Value {
        let known = self.images.get(id).map(Vec::as_slice).unwrap_or_default();
        let pulled = |digest: &&String| {
            self.references.get(&format!("{}@{digest}", repository(name))).is_some_and(|other| other == id)
        };
        let target = match name.split_once('@') {
            Some((_, digest)) => self.target(digest),
            None => {
                let digest = known.iter().find(pulled).or(known.first());
                digest.and_then(|digest| self.target(digest))
            }
        };
        let config = || json!({ "media_type": CONFIG, "digest": id, "size": self.size(id) });
        json!({ "target": target.unwrap_or_else(config), "image": id })
    }

    /// Every compressed form that a manifest names for the layer, with the repositories that have it.
    fn layer(&self, diff_id: &str, record: &Value) -> Value {
        let mut blobs: BTreeMap<&str, (Value, BTreeSet<&str>)> = BTreeMap::new();
        for (id, digests) in &self.images {
            let config = blob(&self.blobs, id).unwrap_or_default();
            let diff_ids = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
            let places: Vec<usize> = (0..diff_ids.len()).filter(|at| diff_ids[*at] == diff_id).collect();
            let documents = digests.iter().filter_map(|digest| self.manifests.get(digest));
            let layers = documents.filter(|document| document["config"]["digest"] == id.as_str());
            for layer in layers.flat_map(|document| places.iter().map(move |at| &document["layers"][*at])) {
                let Some(digest) = layer["digest"].as_str() else { continue };
                let (_, origins) =
                    blobs.entry(digest).or_insert_with(|| (descriptor(layer), BTreeSet::new()));
                origins.extend(self.origins(id));
            }
        }
        let with_origins = |(mut form, origins): (Value, BTreeSet<&str>)| {
            form["origins"] = json!(origins);
            form
        };
        let blobs: Vec<Value> = blobs.into_values().map(with_origins).collect();
        json!({ "size": record["size"], "opaque": record["opaque"], "blobs": blobs })
    }

    /// Repositories that the image was pulled from: only a pull makes a name with a digest.
    fn origins(&self, id: &str) -> impl Iterator<Item = &str> {
        let pulled = self.references.iter().filter(move |(_, leads)| *leads == id);
        pulled.filter_map(|(name, _)| Some(name.split_once('@')?.0))
    }
}

/// A name without its tag or digest. A registry's port comes before the last slash.
fn repository(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(repository, _)| repository);
    let path = name.rfind('/').map_or(0, |slash| slash + 1);
    name[path..].find(':').map_or(name, |colon| &name[..path + colon])
}

fn descriptor(value: &Value) -> Value {
    json!({ "media_type": value["mediaType"].as_str().unwrap_or_default(), "digest": value["digest"], "size": value["size"] })
}

fn entry(value: &Value) -> Value {
    let mut entry = descriptor(value);
    entry["platform"] = value.get("platform").and_then(platform).unwrap_or(Value::Null);
    entry
}

fn platform(value: &Value) -> Option<Value> {
    let word = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let named = value.get("os").is_some() || value.get("architecture").is_some();
    named.then(
        || json!({ "os": word("os"), "architecture": word("architecture"), "variant": word("variant") }),
    )
}

fn parse(row: &[u8]) -> Option<Value> {
    serde_json::from_slice(row).ok().filter(Value::is_object)
}

fn path(blobs: &Path, digest: &str) -> PathBuf {
    // A digest was verified before it became a row; a spoilt one leads out of the folder no more than to no file.
    blobs.join(digest.trim_start_matches("sha256:").replace('/', ""))
}

fn blob(blobs: &Path, digest: &str) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path(blobs, digest)).ok()?).ok()
}
