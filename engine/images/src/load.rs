//! The index at start: what the store says, as far as the disk agrees.
//!
//! An image of which something is lost is shown as damaged and left as it is, so that pulling it again mends it. A row that
//! cannot be read damages what it stands for, and nothing else.

use std::collections::HashSet;

use content::disk::Disk;
use model::reference::{Digest, Reference};
use store::{Damaged, Store};

use super::config::Document;
use super::index::{Index, Layer};
use super::records::{IMAGES, ImageRecord, LAYERS, MANIFESTS, REFERENCES};
use super::{Image, ImageError, ImageId};

pub(super) fn index(store: &Store, disk: &Disk) -> Result<Index, ImageError> {
    let (images, references, manifests, layers) = store.read(|reader| {
        let (images, references) = (reader.rows(IMAGES)?, reader.rows(REFERENCES)?);
        Ok((images, references, reader.rows(MANIFESTS)?, reader.rows(LAYERS)?))
    })?;
    let on_disk: HashSet<Digest> = disk.layers()?.into_iter().collect();
    let mut index = Index::default();
    let here = layers.readable.into_iter().filter(|(diff_id, _)| on_disk.contains(diff_id));
    index.layers.extend(here.map(|(diff_id, record)| (diff_id, Layer { record, durable: true })));
    index.manifests.extend(manifests.readable);
    for (id, record) in images.readable {
        let id = ImageId::new(id);
        let image = read_image(&id, &record, disk, &index);
        index.put(image.unwrap_or_else(|error| damaged(id, error.to_string())));
    }
    for row in images.damaged {
        match row.key.parse() {
            Ok(id) => index.put(damaged(ImageId::new(id), row.to_string())),
            Err(_) => lost(&mut index, row),
        }
    }
    references.readable.into_iter().for_each(|(reference, known)| index.name(reference, known));
    for row in references.damaged {
        match Reference::parse(&row.key) {
            Ok(reference) => {
                tracing::error!("the image name {} is damaged: {row}", reference.familiar());
                index.damaged_names.insert(reference, row);
            }
            Err(_) => lost(&mut index, row),
        }
    }
    manifests.damaged.into_iter().chain(layers.damaged).for_each(|row| lost(&mut index, row));
    Ok(index)
}

/// A row that stands for nothing by itself.
fn lost(index: &mut Index, row: Damaged) {
    tracing::warn!("of an image, {row}");
    index.damaged_rows.push(row);
}

fn damaged(id: ImageId, reason: String) -> Image {
    tracing::error!("image {id} is damaged, pull it again: {reason}");
    Image::damaged(id, reason)
}

fn read_image(id: &ImageId, record: &ImageRecord, disk: &Disk, index: &Index) -> Result<Image, ImageError> {
    let bytes = disk.read_blob(id.digest())?;
    if Digest::of(&bytes) != *id.digest() {
        return Err(ImageError::Verification(id.digest().clone()));
    }
    build_image(id.clone(), Document::parse(&bytes)?, record, index)
}

/// An image whose layers are all here.
pub(super) fn build_image(
    id: ImageId,
    document: Document,
    record: &ImageRecord,
    index: &Index,
) -> Result<Image, ImageError> {
    let size = |diff_id: &Digest| match index.layers.get(diff_id) {
        Some(layer) => Ok(layer.record.size),
        None => Err(ImageError::Malformed(format!("layer {diff_id} is missing"))),
    };
    let sizes = document.diff_ids.iter().map(size).collect::<Result<Vec<_>, _>>()?;
    Ok(Image::new(id, document, &sizes, record.last_tagged))
}
