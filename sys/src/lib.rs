//! The only `unsafe` of Pinnace: kernel calls that the safe crates (`rustix`, `nix`) do not offer, as small safe
//! functions. It knows the kernel's words and none of Docker's.

pub mod bpf;
pub mod clone;
pub mod inherit;
pub mod mounts;
pub mod netns;
pub mod packet;
pub mod seccomp;
pub mod block;
pub mod reap;
pub mod start;
