//! Images against registries: a real one (`docker-registry`) on loopback, and one that misbehaves on demand.
//!
//! Needs root, for layers have owners and devices.

mod bad_registries;
mod fake;
mod keeping;
mod kit;
mod pulling;
mod real;
