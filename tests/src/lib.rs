//! The vocabulary of the end-to-end tests: an appliance that is really booted, the real docker CLI, a real
//! registry with real images, a terminal, and a small HTTP client for what must be seen byte by byte.
//!
//! It never links the engine: everything goes through sockets and programs, as a user's would.
//!
//! ```text
//!   tests/main.rs ──► Appliance ──► pinnace up (a VM, namespaces) or a reference dockerd
//!        │                └──────► docker CLI, Terminal, api::Client
//!        └──────────► Registry ──► docker-registry with images::*
//! ```
//!
//! Environment: `PINNACE_BACKEND` = `namespace` (default), `qemu`, or `reference` (a dockerd that runs already,
//! at `PINNACE_REFERENCE_SOCKET`, which reaches this host as `PINNACE_REFERENCE_HOST`: it proves the suite
//! itself). `PINNACE_BIN` is the program, `PINNACE_IMAGE` the folder of the bootable image, `PINNACE_TEST_DIR`
//! the appliance's folder, `PINNACE_SKIPS` a file that collects what was skipped and why.

pub mod api;
mod appliance;
mod backend;
mod dockerd;
mod ext4;
mod frames;
mod guard;
pub mod images;
mod outcome;
mod registry;
mod running;
mod terminal;
mod workspace;

pub use appliance::{Appliance, ContainerName, image_folder, pinnace};
pub use backend::Backend;
pub use dockerd::Dockerd;
pub use ext4::Ext4;
pub use frames::{Frame, Frames};
pub use guard::Guard;
pub use outcome::{Outcome, Program};
pub use registry::{Published, Registry, free_port};
pub use running::Running;
pub use skip::skip;
pub use terminal::Terminal;
pub use workspace::{build_folder, eventually};
