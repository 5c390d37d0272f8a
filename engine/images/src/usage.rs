//! How much disk all images take together.

use super::Images;

impl Images {
    /// Content of all layers, each counted once, in bytes.
    pub fn layers_size(&self) -> u64 {
        self.shared.index().layers.values().map(|layer| layer.record.size).sum()
    }
}
