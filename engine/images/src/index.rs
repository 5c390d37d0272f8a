//! What is known about images, in memory: rebuilt from the store at start, read without waiting for the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use model::Platform;
use model::reference::{Digest, Reference};
use model::timestamp::Timestamp;
use store::Damaged;

use super::records::{Descriptor, LayerRecord, ManifestKind, ManifestRecord, ReferenceRecord};
use super::{Image, ImageError, ImageId};

/// Shortest text that is tried as the beginning of an id.
const PREFIX_MIN: usize = 1;
/// Indexes may be in indexes.
pub(super) const NESTING_MAX: usize = 4;

#[derive(Default)]
pub(super) struct Index {
    /// Whole ones and damaged ones.
    pub(super) images: BTreeMap<ImageId, Arc<Image>>,
    pub(super) references: BTreeMap<Reference, ReferenceRecord>,
    /// Manifests and indexes of the images.
    pub(super) manifests: BTreeMap<Digest, ManifestRecord>,
    /// Layers whose files are here, used by an image or not.
    pub(super) layers: HashMap<Digest, Layer>,
    /// Names of which nobody knows what they name.
    pub(super) damaged_names: BTreeMap<Reference, Damaged>,
    /// Rows of manifests and layers that cannot be read. What lacks them is damaged itself, or can do without.
    pub(super) damaged_rows: Vec<Damaged>,
}

/// A layer whose files are here.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) record: LayerRecord,
    /// Its files are on disk for certain: a record names it, which comes after a sync.
    pub(super) durable: bool,
}

impl Index {
    /// Finds an image by name, name and tag, name and digest, by its id, by the digest of a manifest or an index that
    /// leads to it, or by the beginning of one of those.
    pub(super) fn resolve(&self, text: &str) -> Result<&Arc<Image>, ImageError> {
        if let Ok(digest) = text.parse().or_else(|_| format!("sha256:{text}").parse()) {
            return self.by_digest(&digest, 0).ok_or_else(|| ImageError::NotFound(text.to_owned()));
        }
        let reference = match Reference::parse(text) {
            Ok(reference) => reference.or_latest(),
            Err(error) => return self.by_prefix(text)?.ok_or(ImageError::Reference(error)),
        };
        if let Some(damaged) = self.damaged_names.get(&reference) {
            return Err(ImageError::DamagedName { name: reference.familiar(), damaged: damaged.clone() });
        }
        match self.by_reference(&reference) {
            Some(image) => Ok(image),
            None => self.by_prefix(text)?.ok_or_else(|| ImageError::NotFound(reference.familiar())),
        }
    }

    /// A digest says more than the tag beside it.
    pub(super) fn by_reference(&self, reference: &Reference) -> Option<&Arc<Image>> {
        let known = match reference.digest() {
            Some(digest) => self.references.get(&reference.digested(digest)),
            None => self.references.get(reference),
        };
        known.and_then(|known| self.images.get(&ImageId::new(known.image.clone())))
    }

    /// The image of that id, or the one that a manifest or an index leads to: of several the one that a name of the index
    /// leads to, else the best for this machine.
    fn by_digest(&self, digest: &Digest, depth: usize) -> Option<&Arc<Image>> {
        if let Some(image) = self.images.get(&ImageId::new(digest.clone())) {
            return Some(image);
        }
        match &self.manifests.get(digest)?.kind {
            ManifestKind::Image { config, .. } => self.images.get(&ImageId::new(config.digest.clone())),
            ManifestKind::Index { .. } if depth >= NESTING_MAX => None,
            ManifestKind::Index { manifests } => {
                let named = self.references.values().find(|known| known.target.digest == *digest);
                let named = named.and_then(|known| self.images.get(&ImageId::new(known.image.clone())));
                let host = Platform::processor();
                let here =
                    manifests.iter().filter_map(|entry| self.by_digest(&entry.manifest.digest, depth + 1));
                named.or_else(|| here.max_by_key(|image| host.suits(&image.platform())))
            }
        }
    }

    fn by_prefix(&self, text: &str) -> Result<Option<&Arc<Image>>, ImageError> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.len() < PREFIX_MIN || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let ids = self.images.keys().map(ImageId::digest).filter(|id| id.hex().starts_with(hex));
        let found: BTreeSet<&Digest> = match ids.collect::<BTreeSet<_>>() {
            ids if ids.is_empty() => {
                let manifests = self.manifests.keys().filter(|digest| digest.hex().starts_with(hex));
                manifests.filter_map(|digest| Some(self.by_digest(digest, 0)?.id.digest())).collect()
            }
            ids => ids,
        };
        match found.len() {
            0 => Ok(None),
            1 => Ok(found.first().and_then(|id| self.images.get(&ImageId::new((*id).clone())))),
            _ => Err(ImageError::Ambiguous(text.to_owned())),
        }
    }

    /// Whether the image is here and whole.
    pub(super) fn has(&self, id: &ImageId) -> bool {
        self.images.get(id).is_some_and(|image| image.damage.is_none())
    }

    /// Whether something of an image or its names is lost: then nothing is collected, so that what is left of it is
    /// still there when it is mended.
    pub(super) fn has_damage(&self) -> bool {
        !self.damaged_names.is_empty() || self.images.values().any(|image| image.damage.is_some())
    }

    /// Every name of an image, in order.
    pub(super) fn references_of(&self, id: &ImageId) -> Vec<Reference> {
        let own = self.references.iter().filter(|(_, known)| known.image == *id.digest());
        own.map(|(reference, _)| reference.clone()).collect()
    }

    /// What a further name of the image stands for: the same as the name it was asked for by, else the same as another
    /// name of it, else one of its manifests; and where none is known, its configuration.
    pub(super) fn reference_to(&self, source: &str, id: &ImageId) -> ReferenceRecord {
        let named = Reference::parse(source).ok().and_then(|name| self.references.get(&name.or_latest()));
        let of_image = |known: &&ReferenceRecord| known.image == *id.digest();
        if let Some(known) = named.filter(of_image).or_else(|| self.references.values().find(of_image)) {
            return known.clone();
        }
        let own = |record: &ManifestRecord| match &record.kind {
            ManifestKind::Image { config, .. } => config.digest == *id.digest(),
            ManifestKind::Index { .. } => false,
        };
        let manifest = self.manifests.iter().find(|(_, record)| own(record));
        let target = manifest.map(|(digest, record)| record.descriptor(digest));
        ReferenceRecord {
            target: target.unwrap_or_else(|| Descriptor::of_config(id.digest())),
            image: id.digest().clone(),
        }
    }

    /// Manifests that lead to no image any more once this one is gone, and indexes of nothing but those.
    pub(super) fn manifests_only_of(&self, id: &ImageId) -> Vec<Digest> {
        let leads = |kind: &ManifestKind, gone: &BTreeSet<&Digest>| match kind {
            ManifestKind::Image { config, .. } => config.digest != *id.digest(),
            ManifestKind::Index { manifests } => manifests.iter().any(|entry| {
                let digest = &entry.manifest.digest;
                self.manifests.contains_key(digest) && !gone.contains(digest)
            }),
        };
        let mut gone: BTreeSet<&Digest> = BTreeSet::new();
        loop {
            let before = gone.len();
            let left = self.manifests.iter().filter(|(digest, _)| !gone.contains(digest));
            let more: Vec<_> = left.filter(|(_, record)| !leads(&record.kind, &gone)).collect();
            gone.extend(more.into_iter().map(|(digest, _)| digest));
            if gone.len() == before {
                return gone.into_iter().cloned().collect();
            }
        }
    }

    /// Takes over what was recorded of an image.
    pub(super) fn learn(
        &mut self,
        manifests: HashMap<Digest, ManifestRecord>,
        layers: HashMap<Digest, LayerRecord>,
    ) {
        let keys = manifests.keys().chain(layers.keys());
        let keys: HashSet<&str> = keys.map(Digest::as_str).collect();
        self.damaged_rows.retain(|row| !keys.contains(row.key.as_str()));
        self.manifests.extend(manifests);
        let durable = layers.into_iter().map(|(diff_id, record)| (diff_id, Layer { record, durable: true }));
        self.layers.extend(durable);
    }

    pub(super) fn put(&mut self, image: Image) {
        let id = image.id.clone();
        self.images.insert(id.clone(), Arc::new(image));
        self.rename(&id);
    }

    pub(super) fn name(&mut self, reference: Reference, known: ReferenceRecord) {
        self.damaged_names.remove(&reference);
        let id = ImageId::new(known.image.clone());
        let before = self.references.insert(reference, known);
        let before = before.map(|before| ImageId::new(before.image));
        before.iter().chain([&id]).for_each(|id| self.rename(id));
    }

    pub(super) fn touch(&mut self, id: &ImageId, last_tagged: Timestamp) {
        if let Some(image) = self.images.get_mut(id) {
            *image = Arc::new(Image { last_tagged, ..Image::clone(image) });
        }
    }

    pub(super) fn unname(&mut self, reference: &Reference) {
        self.damaged_names.remove(reference);
        if let Some(known) = self.references.remove(reference) {
            self.rename(&ImageId::new(known.image));
        }
    }

    pub(super) fn remove(&mut self, id: &ImageId, manifests: &[Digest]) {
        self.images.remove(id);
        self.references.retain(|_, known| known.image != *id.digest());
        manifests.iter().for_each(|digest| drop(self.manifests.remove(digest)));
    }

    /// Layers that some image consists of.
    pub(super) fn used_layers(&self) -> HashSet<Digest> {
        self.images.values().flat_map(|image| image.diff_ids.iter().cloned()).collect()
    }

    /// Brings the names in the image up to date.
    fn rename(&mut self, id: &ImageId) {
        let references = self.references_of(id);
        if let Some(image) = self.images.get_mut(id) {
            *image = Arc::new(image.named(references.iter()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Document;
    use crate::records::IndexEntry;

    fn id(first: &str) -> ImageId {
        let hex: String = first.chars().chain("0".repeat(64).chars()).take(64).collect();
        ImageId::new(format!("sha256:{hex}").parse().unwrap())
    }

    fn descriptor(digest: &Digest) -> Descriptor {
        Descriptor { media_type: String::new(), digest: digest.clone(), size: 1 }
    }

    fn known(target: &Digest, first: &str) -> ReferenceRecord {
        ReferenceRecord { target: descriptor(target), image: id(first).digest().clone() }
    }

    fn index() -> Index {
        let mut index = Index::default();
        for first in ["abc1", "abd2", "cafe"] {
            index.put(Image::new(id(first), Document::default(), &[], Timestamp(0)));
        }
        let digest: Digest = format!("sha256:{}", "d".repeat(64)).parse().unwrap();
        for (text, first) in [("debian:12", "abc1"), ("debian", "abd2"), ("cafe", "abd2")] {
            index.name(Reference::parse(text).unwrap().or_latest(), known(&digest, first));
        }
        index.name(Reference::parse("debian").unwrap().digested(&digest), known(&digest, "abc1"));
        let manifest = |first: &str| ManifestKind::Image {
            config: descriptor(id(first).digest()),
            layers: vec![],
            platform: None,
        };
        let entry = |first: &str| IndexEntry { manifest: descriptor(id(first).digest()), platform: None };
        for (first, kind) in [
            ("1a", manifest("abc1")),
            ("1b", manifest("abd2")),
            ("2a", ManifestKind::Index { manifests: vec![entry("1a"), entry("9999")] }),
            ("2b", ManifestKind::Index { manifests: vec![entry("2a"), entry("1b")] }),
            ("3a", ManifestKind::Index { manifests: vec![entry("3a")] }),
        ] {
            let record = ManifestRecord { media_type: String::new(), size: 1, kind };
            index.manifests.insert(id(first).digest().clone(), record);
        }
        index
    }

    fn check(text: &str, expected: Result<&str, &str>) {
        let index = index();
        match (index.resolve(text), expected) {
            (Ok(image), Ok(first)) => assert_eq!(image.id, id(first), "{text}"),
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected, "{text}"),
            (got, _) => panic!("{text}: {got:?}"),
        }
    }

    #[test]
    fn images_are_found_as_docker_finds_them() {
        check("debian", Ok("abd2"));
        check("docker.io/library/debian:latest", Ok("abd2"));
        check("debian:12", Ok("abc1"));
        check(&format!("debian@sha256:{}", "d".repeat(64)), Ok("abc1"));
        check(&format!("debian:gone@sha256:{}", "d".repeat(64)), Ok("abc1"));
        check("abc", Ok("abc1"));
        check("sha256:abd", Ok("abd2"));
        check(id("cafe").as_str(), Ok("cafe"));
        check(id("cafe").digest().hex(), Ok("cafe"));
        check("cafe", Ok("abd2"));
        check("ab", Err("multiple IDs found with provided prefix: ab"));
        check(id("1a").as_str(), Ok("abc1"));
        check(id("1b").digest().hex(), Ok("abd2"));
        check(id("2a").as_str(), Ok("abc1"));
        check("2a", Ok("abc1"));
        check("sha256:1b", Ok("abd2"));
        check("1", Err("multiple IDs found with provided prefix: 1"));
        check("3a", Err("No such image: 3a:latest"));
        check("hello-world", Err("No such image: hello-world:latest"));
        check("a/b:c", Err("No such image: a/b:c"));
        check(
            &format!("sha256:{}", "e".repeat(64)),
            Err(&format!("No such image: sha256:{}", "e".repeat(64))),
        );
        check("A B", Err("invalid reference format: repository name (library/A B) must be lowercase"));
    }

    #[test]
    fn a_moved_tag_leaves_its_image_dangling() {
        let mut index = index();
        index.name(Reference::parse("debian:12").unwrap(), known(id("cafe").digest(), "cafe"));
        let before = &index.images[&id("abc1")];
        assert!(before.is_dangling() && before.repo_digests.len() == 1);
        assert_eq!(index.images[&id("cafe")].repo_tags, ["debian:12"]);
    }

    #[test]
    fn manifests_go_with_their_last_image() {
        let mut index = index();
        index.manifests.remove(id("3a").digest());
        let gone = |index: &Index, first: &str| {
            let gone = index.manifests_only_of(&id(first));
            gone.iter().map(|digest| digest.hex()[..2].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(gone(&index, "abc1"), ["1a", "2a"]);
        assert_eq!(gone(&index, "abd2"), ["1b"]);
        let only = index.manifests_only_of(&id("abc1"));
        index.remove(&id("abc1"), &only);
        assert_eq!(gone(&index, "abd2"), ["1b", "2b"]);
    }

    #[test]
    fn a_damaged_name_is_told_until_it_is_given_again() {
        let mut index = index();
        let name = Reference::parse("torn:1").unwrap();
        let damaged = Damaged { table: "references", key: name.to_string(), reason: "it is torn".to_owned() };
        index.damaged_names.insert(name.clone(), damaged);
        assert!(index.has_damage());
        let error = index.resolve("torn:1").unwrap_err().to_string();
        assert!(
            error.starts_with("the image name torn:1 is damaged: ") && error.contains("it is torn"),
            "{error}"
        );
        index.name(name, known(id("cafe").digest(), "cafe"));
        assert!(!index.has_damage() && index.resolve("torn:1").unwrap().id == id("cafe"));
    }
}
