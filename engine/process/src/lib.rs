//! What a process prints, and what is typed into it.
//!
//! ```text
//!   stdout ─┐                        ┌──► log (durable as any file)
//!           ├─ splice ─► spool ─ pump┤
//!   stderr ─┘     (survives engine)  └──► hub ──► attached clients
//!   stdin  ◄──────────────────────────── attached clients
//! ```
//!
//! The pump is the only reader of the pipes and the only writer of the log.

mod hub;
pub mod log;
mod pump;
mod spool;
mod stdin;

pub use hub::{Chunk, Hub};
pub use pump::{Pump, PumpPlace};
pub use spool::Stream;
pub use stdin::Stdin;
