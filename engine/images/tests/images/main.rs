//! Images against registries: a real one (`docker-registry`) on loopback, and one that misbehaves on demand.
//!
//! Needs root, for layers have owners and devices.

// clippy knows tests, not what they are built from.
#![allow(clippy::unwrap_used)]

mod bad_registries;
mod disks;
mod fake;
mod keeping;
mod kit;
mod pulling;
mod real;
mod targets;
mod trust;
