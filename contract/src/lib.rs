//! What two processes of Pinnace must agree on, and nothing else: ports, paths, settings, file descriptor
//! numbers and the messages that cross a process or a machine boundary.
//!
//! It deliberately holds no logic: a message here knows how to become bytes and back, never what to do.
//!
//! ```text
//!   pinnace (host) ── the control line ──► init ◄── keeper messages ── engined
//!        └──────────── settings (argv of init) ──┘
//!        └─ configuration, over the control line ┴ sealed and unread ──► engined
//! ```

pub mod carrier;
#[cfg(feature = "config")]
pub mod config;
pub mod console;
pub mod door;
pub mod host;
pub mod keeper;
pub mod line;
pub mod paths;
pub mod settings;
pub mod vsock;

/// The release all parts of one build share, shown by `docker version` and `pinnace --version`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
