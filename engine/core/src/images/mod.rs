//! Images: being pulled, kept, named and removed.
pub mod layer;
pub mod registry;
