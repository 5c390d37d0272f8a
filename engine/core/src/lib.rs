//! Docker's nouns: containers, images and the store they are kept in.
//!
//! It is what the engine means, without how it is spoken to (`engine/server`) and without how the kernel is
//! asked for it (`engine/runtime`).

pub mod containers;
pub mod error;
pub mod events;
pub mod id;
pub mod images;
pub mod networks;
pub mod reference;
pub mod store;
pub mod timestamp;

pub use error::ErrorKind;
