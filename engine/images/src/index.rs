//! What is known about images, in memory: rebuilt from the store at start, read without waiting for the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::records::LayerRecord;
use super::{Image, ImageError, ImageId};
use model::reference::{Digest, Reference};
use model::timestamp::Timestamp;

/// Shortest text that is tried as the beginning of an id.
const PREFIX_MIN: usize = 1;

#[derive(Default)]
pub(super) struct Index {
    pub(super) images: BTreeMap<ImageId, Arc<Image>>,
    pub(super) references: BTreeMap<Reference, ImageId>,
    /// Layers that are whole on disk, used by an image or not.
    pub(super) layers: HashMap<Digest, LayerRecord>,
    /// Images that the store knows and that are not whole. While there are any nothing is collected, so that
    /// what is left of them is still there when they are mended.
    pub(super) damaged: BTreeSet<ImageId>,
}

impl Index {
    /// Finds an image by name, name and tag, name and digest, id, or the beginning of its id.
    pub(super) fn resolve(&self, text: &str) -> Result<&Arc<Image>, ImageError> {
        let id = text.parse().or_else(|_| format!("sha256:{text}").parse()).map(ImageId::new);
        if let Ok(id) = id {
            return self.images.get(&id).ok_or_else(|| ImageError::NotFound(text.to_owned()));
        }
        let reference = match Reference::parse(text) {
            Ok(reference) => reference.or_latest(),
            Err(error) => return self.by_prefix(text)?.ok_or(ImageError::Reference(error)),
        };
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
        known.and_then(|id| self.images.get(id))
    }

    fn by_prefix(&self, text: &str) -> Result<Option<&Arc<Image>>, ImageError> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.len() < PREFIX_MIN || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let mut found = self.images.values().filter(|image| image.id.digest().hex().starts_with(hex));
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(ImageError::Ambiguous(text.to_owned())),
            (first, _) => Ok(first),
        }
    }

    /// Every name of an image, in order.
    pub(super) fn references_of(&self, id: &ImageId) -> Vec<Reference> {
        let own = self.references.iter().filter(|(_, known)| *known == id);
        own.map(|(reference, _)| reference.clone()).collect()
    }

    pub(super) fn put(&mut self, image: Image) {
        let id = image.id.clone();
        self.damaged.remove(&id);
        self.images.insert(id.clone(), Arc::new(image));
        self.rename(&id);
    }

    pub(super) fn name(&mut self, reference: Reference, id: &ImageId) {
        let before = self.references.insert(reference, id.clone());
        before.iter().chain([id]).for_each(|id| self.rename(id));
    }

    pub(super) fn touch(&mut self, id: &ImageId, last_tagged: Timestamp) {
        if let Some(image) = self.images.get_mut(id) {
            *image = Arc::new(Image { last_tagged, ..Image::clone(image) });
        }
    }

    pub(super) fn unname(&mut self, reference: &Reference) {
        if let Some(id) = self.references.remove(reference) {
            self.rename(&id);
        }
    }

    pub(super) fn remove(&mut self, id: &ImageId) {
        self.images.remove(id);
        self.references.retain(|_, known| known != id);
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

    fn id(first: &str) -> ImageId {
        let hex: String = first.chars().chain("0".repeat(64).chars()).take(64).collect();
        ImageId::new(format!("sha256:{hex}").parse().unwrap())
    }

    fn index() -> Index {
        let mut index = Index::default();
        for first in ["abc1", "abd2", "cafe"] {
            index.put(Image::new(id(first), Document::default(), &[], Timestamp(0)));
        }
        let digest: Digest = format!("sha256:{}", "d".repeat(64)).parse().unwrap();
        for (text, first) in [("debian:12", "abc1"), ("debian", "abd2"), ("cafe", "abd2")] {
            index.name(Reference::parse(text).unwrap().or_latest(), &id(first));
        }
        index.name(Reference::parse("debian").unwrap().digested(&digest), &id("abc1"));
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
        index.name(Reference::parse("debian:12").unwrap(), &id("cafe"));
        let before = &index.images[&id("abc1")];
        assert!(before.is_dangling() && before.repo_digests.len() == 1);
        assert_eq!(index.images[&id("cafe")].repo_tags, ["debian:12"]);
    }
}
