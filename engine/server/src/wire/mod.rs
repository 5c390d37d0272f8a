//! The JSON of the API, where it is more than a handler writes down in passing.

pub mod conflicts;
pub mod create;
pub mod endpoint;
pub mod host;
pub mod images;
pub mod inspect;
pub mod mounts;
pub mod networks;
pub mod ports;
pub mod resources;
pub mod stats;
pub mod summary;
