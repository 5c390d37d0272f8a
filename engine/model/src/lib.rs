//! What every room of the engine speaks of: ids, times, references of images, platforms, kinds of failure, events.
//!
//! Nothing here acts on the machine or keeps anything on disk.

pub mod duration;
pub mod error;
pub mod events;
pub mod id;
pub mod platform;
pub mod reference;
pub mod timestamp;

pub use error::{ErrorKind, in_go_words};
pub use platform::Platform;
