//! A launch is data: a [`Spec`] becomes a plan, a flat list of steps with every string and buffer prepared,
//! which the new process walks between clone3(2) and execve(2) without allocating or locking.
//!
//! ```text
//!   Spec ── Plan::compile (pure) ──► Plan { sources, steps }
//!                                      │ prepare: sources become detached mounts and pipes
//!                                      ▼
//!                          clone_vfork ──► walk the steps ──► register with PID 1 ──► execve
//!                                      └── first failing step: (step, errno) in shared memory
//! ```
//!
//! A process that is born among others, in a pid namespace that is not its own, comes from the [`zygote`] and not from the
//! engine: see there.
//!
//! Where ids are mapped, the namespaces of a container must belong to its user namespace, and a process inside that
//! one is nobody to the machine. So there are two children: the first does what the machine alone may do, enters the
//! user namespace, and makes the second, which is the container's and walks the rest.
//!
//! It is not an OCI runtime's command line: there is no bundle, no `config.json` and no state folder, because no
//! second program reads them.

mod bare;
mod deadline;
mod file;
mod newborn;
mod plan;
mod process_steps;
mod resource;
mod run;
mod spec;
mod step;
mod walk;
mod wire;
mod zygote;

pub use newborn::zygote_main;
pub use plan::NulInside;
pub use resource::resource_by_name;
pub use run::{Joined, LaunchError, Launched, Registration, enter, start};
pub use spec::{
    BindMount, CapabilitySets, Device, Environment, Join, JoinPid, Namespaces, PreparedMount, Process,
    Rlimit, Shm, Spec, TmpfsMount, UserIds, UserNamespace, VolumeKind, VolumeMount,
};
pub use zygote::{Forerunner, ZYGOTE, start_zygote};
