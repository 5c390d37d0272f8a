//! The only `unsafe` of Pinnace: kernel calls that the safe crates (`rustix`, `nix`) do not offer, as small safe
//! functions. It knows the kernel's words and none of Docker's.

pub mod block;
pub mod bpf;
pub mod clone;
pub mod heap;
pub mod inherit;
pub mod listen;
pub mod mntns;
pub mod mounts;
pub mod netns;
pub mod packet;
pub mod process;
pub mod reap;
pub mod seccomp;
pub mod socket;
pub mod start;
