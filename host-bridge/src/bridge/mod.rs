//! The process beside every appliance: it starts the machine, carries its socket, sets its clock, and notices its end.
//!
//! ```text
//!   docker ──► docker.sock ──► forward ──┐
//!                                        ├──► Link ──► guest
//!   pinnace ─► bridge.sock ──► visitors ─┘
//!                                │ Stop
//!   SIGTERM ─────────────────────┴──► supervise ──► Backend, Machine
//! ```
//!
//! It is deliberately ignorant of the Docker API but for `GET /_ping`, and holds no state that a restart would need:
//! when it dies the machine dies with it, as with a power cut.

#[cfg(unix)]
mod agent;
mod clock;
mod door;
pub mod first_answer;
mod forward;
mod line;
mod pause;
mod power_off;
mod services;
mod shared;
mod supervise;
mod visitors;
mod waiting;

pub use shared::{Event, Shared, Stop};
pub use supervise::{BridgeError, run};
