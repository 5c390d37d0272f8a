//! Docker's seccomp profiles compiled to programs for seccomp(2).
//!
//! ```text
//!   JSON text ──Profile::parse──► Profile ──resolve(Host)──► Rules ──program──► Filter ──► the launcher
//!              (what may be asked)        (capabilities,           (balanced
//!                                          processor, kernel)       binary search)
//! ```
//!
//! A profile is resolved anew for every set of capabilities, since its rules depend on them; the built-in
//! profile's results are kept. The program is a binary search over ranges of syscall numbers and not a chain of
//! comparisons: at attach the kernel runs it once for each number to fill its bitmap of always-allowed calls
//! (kernel/seccomp.c `seccomp_cache_prepare`), and short paths make that, the JIT and each filtered call cheap.
//!
//! It deliberately attaches nothing: [`sys::seccomp::install`] does, in the child.

mod abi;
mod evaluate;
mod profile;
mod program;
mod resolve;

#[cfg(test)]
mod reference;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use abi::Abi;
pub use profile::{Profile, ProfileError};
pub use resolve::{Host, KernelVersion};
pub use sys::seccomp::Instruction;

use crate::capabilities::{CONTAINER_DEFAULT, Capabilities};

/// The facts of moby's default profile: module `github.com/moby/profiles/seccomp` v0.2.3, `default.json`
/// (Apache-2.0), which moby v29.7.2 uses.
const BUILTIN: &str = include_str!("default.json");

/// How many resolved forms of the built-in profile are kept beside that of the default capabilities.
const KEPT: usize = 64;

/// A program and the flags to attach it with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// For `seccomp(SECCOMP_SET_MODE_FILTER)`.
    pub instructions: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
}

/// The built-in profile for a container whose bounding set is `bounding`.
///
/// Made once for each set; the default set's is never made again, others while there is room.
#[must_use]
pub fn builtin(bounding: Capabilities) -> Arc<Filter> {
    static DEFAULT: OnceLock<Arc<Filter>> = OnceLock::new();
    static OTHERS: Mutex<Vec<(Capabilities, Arc<Filter>)>> = Mutex::new(Vec::new());
    if bounding == CONTAINER_DEFAULT {
        return DEFAULT.get_or_init(|| Arc::new(compile_builtin(bounding))).clone();
    }
    let mut others = OTHERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, filter)) = others.iter().find(|(set, _)| *set == bounding) {
        return filter.clone();
    }
    let filter = Arc::new(compile_builtin(bounding));
    if others.len() == KEPT {
        others.remove(0);
    }
    others.push((bounding, filter.clone()));
    filter
}

fn builtin_profile() -> &'static Profile {
    static PROFILE: OnceLock<Profile> = OnceLock::new();
    PROFILE.get_or_init(|| Profile::parse(BUILTIN).expect("the built-in profile is tested"))
}

fn compile_builtin(bounding: Capabilities) -> Filter {
    builtin_profile().filter(&Host::this(bounding)).expect("the built-in profile is tested")
}

impl Profile {
    /// The filter of this profile for a process on `host`.
    ///
    /// # Errors
    /// A program of more than 4096 instructions, the kernel's limit.
    pub fn filter(&self, host: &Host) -> Result<Filter, ProfileError> {
        let rules = self.resolve(host);
        let instructions = program::compile(&rules);
        if instructions.len() > program::INSTRUCTIONS_MAX {
            return Err(ProfileError::TooLong { instructions: instructions.len() });
        }
        Ok(Filter { instructions, flags: self.flags() })
    }
}

#[cfg(test)]
mod tests;
