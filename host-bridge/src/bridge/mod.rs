//! The process beside every appliance: it starts the machine, carries its socket, sets its clock, and notices its end.
//!
//! ```text
//!   docker ──► docker.sock ──► forward ──┐
//!                                        ├──► Dial ──► guest
//!   pinnace ─► bridge.sock ──► door ─────┘
//!                                │ Stop
//!   SIGTERM ─────────────────────┴──► supervise ──► Backend, Machine
//! ```
//!
//! It is deliberately ignorant of the Docker API but for `GET /_ping`, and holds no state that a restart would need:
//! when it dies the machine dies with it, as with a power cut.

pub mod answer;
mod control;
mod door;
mod forward;
mod pause;
mod shared;
mod supervise;

pub use shared::{Event, Shared, Stop};
pub use supervise::{BridgeError, run};
