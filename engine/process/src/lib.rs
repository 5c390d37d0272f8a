//! A process in a sandbox: what it prints, what is typed into it, and how it is told to end. It knows no container and no
//! record; the first process of a container, an exec and a probe are the same thing here.
//!
//! ```text
//!   stdout ─┐                        ┌──► log (durable as any file)      ─┐
//!           ├─ splice ─► spool ─ pump┤                                    ├ a container's
//!   stderr ─┘     (survives engine)  └──► hub ──► attached clients       ─┘
//!   stdout, stderr ── relay ──► one client                                 an exec's, a probe's
//!   stdin  ◄──────────────────── clients
//! ```
//!
//! A pump is the only reader of its pipes and the only writer of its log.

mod hub;
mod launchers;
pub mod log;
mod output;
mod pump;
mod relay;
mod running;
mod scribe;
mod spool;
mod stdin;

pub use hub::{Chunk, Hub};
pub use launchers::launch;
pub use output::Output;
pub use pump::{Pump, PumpPlace};
pub use running::{Console, Running, Sink, pidfd};
pub use spool::Stream;
pub use stdin::Stdin;
