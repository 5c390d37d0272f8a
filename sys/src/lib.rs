//! The only `unsafe` of Pinnace: kernel calls that the safe crates (`rustix`, `nix`) do not offer, as small safe
//! functions. It knows the kernel's words and none of Docker's.

pub mod clone;
pub mod mounts;
pub mod packet;
pub mod bpf;
pub mod netns;
pub mod seccomp;
