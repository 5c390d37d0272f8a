//! Archives of folders that somebody else changes meanwhile: going through them, writing them as tar members, and
//! extracting members into them.

pub mod copy;
pub mod extract;
mod header;
pub mod pack;
pub mod share;
pub mod size;
pub mod walk;
