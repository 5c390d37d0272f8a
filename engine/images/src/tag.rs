//! Gives an image another name.

use super::{ImageError, Images};
use crate::records::ImageRecord;
use model::reference::Reference;
use model::timestamp::Timestamp;
use store::{Durability, Table};

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
        let (name, key, last_tagged) = (target.to_string(), id.clone(), Timestamp::now());
        shared.store.write(Durability::Synced, move |writer| {
            if let Some(record) = writer.get::<ImageRecord>(Table::Images, key.as_str())? {
                writer.put(Table::Images, key.as_str(), &ImageRecord { last_tagged, ..record })?;
            }
            writer.put(Table::References, &name, key.digest())
        })?;
        let mut index = shared.index_mut();
        index.touch(&id, last_tagged);
        index.name(target.clone(), &id);
        drop((index, changing));
        shared.publish("tag", id.as_str(), &target.familiar());
        Ok(())
    }
}
