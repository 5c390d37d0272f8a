//! End to end, through real clients, on one shared appliance.
//!
//! Each module is a topic of the Docker API as its users know it. Letters and numbers in comments (`F17`) are
//! the statements of `docs/api-behaviours.md`.

mod agent;
mod archive;
mod attach;
mod bad_registry;
mod bridge;
mod changes;
mod clients;
mod compose;
mod compose_servers;
mod compose_verbs;
mod create;
mod engine_death;
mod events;
mod exec;
mod folders;
mod health;
mod host_config;
mod host_services;
mod hostile;
mod images;
mod init;
mod inspect;
mod isolation;
mod kept;
mod leaks;
mod limits;
mod log_drivers;
mod login;
mod logs;
mod machine;
mod manage;
mod mounts;
mod network;
mod network_drivers;
mod network_families;
mod network_names;
mod network_places;
mod networks;
mod old_disk;
mod ports;
mod power;
mod process;
mod ps;
mod pull;
mod raw;
mod refusals;
mod restart;
mod run;
mod states;
mod stats;
mod stop;
mod storm;
mod streams;
mod system;
mod top;
mod upgrade;
mod userns;
mod versions;
mod volumes;

use pinnace_tests::{Appliance, Backend};

/// The appliance all tests share.
fn appliance() -> &'static Appliance {
    Appliance::shared()
}

/// The reference engine is older than what we promise: some words and fields differ there.
fn is_reference(app: &Appliance) -> bool {
    app.backend == Backend::Reference
}
