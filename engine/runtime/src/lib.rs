//! OCI and kernel words: from a spec to a process in namespaces, a cgroup and a root of its own.
//!
//! It knows no Docker words: no images, no API, no containers by name. `launch` is the way from a plain
//! description to a running process; the other modules prepare what it needs.

pub mod capabilities;
pub mod cgroup;
pub mod devices;
pub mod ids;
pub mod keeper;
pub mod launch;
pub mod network;
pub mod proc;
pub mod rootfs;
pub mod seccomp;
pub mod stdio;
pub mod user;
pub mod userns;
pub mod view;
pub mod volume;
