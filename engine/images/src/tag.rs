//! Gives an image another name.

use super::{ImageError, Images};
use crate::records::{IMAGES, ImageRecord, REFERENCES};
use model::reference::Reference;
use model::timestamp::Timestamp;
use store::Durability;

impl Images {
    /// Names the image that `source` names; a tag that leads elsewhere moves here silently. Blocks on the disk.
    pub fn tag(&self, source: &str, target: &Reference) -> Result<(), ImageError> {
        if target.digest().is_some() {
            return Err(ImageError::Invalid("refusing to create a tag with a digest reference".to_owned()));
        }
        let target = target.clone().or_latest();
        if target.familiar_name() == "sha256" {
            let text = "refusing to create an ambiguous tag using digest algorithm as name";
            return Err(ImageError::Invalid(text.to_owned()));
        }
        let shared = &self.shared;
        let changing = shared.change();
        let id = self.resolve(source)?.id.clone();
        let known = shared.index().reference_to(source, &id);
        let (name, key, last_tagged) = (target.clone(), id.clone(), Timestamp::now());
        let row = known.clone();
        shared.store.write(Durability::Synced, move |writer| {
            // A damaged image stays one.
            if let Ok(Some(_)) = writer.get(IMAGES, key.digest()) {
                writer.put(IMAGES, key.digest(), &ImageRecord { last_tagged })?;
            }
            writer.put(REFERENCES, &name, &row)
        })?;
        let mut index = shared.index_mut();
        index.touch(&id, last_tagged);
        index.name(target.clone(), known);
        drop((index, changing));
        shared.publish("tag", id.as_str(), &target.familiar());
        Ok(())
    }
}
