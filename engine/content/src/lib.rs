//! Blobs and layers on disk, and the archives that their content and the files of containers come and go in.
//!
//! It knows no names of images and nothing of containers: whoever keeps something here says so by a digest.

pub mod archive;
pub mod disk;
pub mod layer;
