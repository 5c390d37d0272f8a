//! The appliance as PID 1 of new namespaces of this host's kernel: the same root tree, `init` and engine, in
//! milliseconds. It is not a security boundary.
//!
//! ```text
//!   bridge ──► outside ──────────────────────────► inside ──► /init
//!              (unshares mount, network, ipc,      (is PID 1: cgroup, cgroup namespace,
//!               uts and pid; waits for its child)   pivot_root, execve)
//!      └── veth pair, addresses, NAT, cgroup: made before `inside` starts, removed after it ended
//! ```
//!
//! Each of the three dies with the one before it. What the kernel does not take back by itself (NAT rules, cgroup) is
//! noted in the appliance's folder first, so that a bridge that was killed is cleaned up after ([`sweep`]).

mod cgroup;
mod inside;
mod machine;
mod network;
mod outside;
mod root;
mod tool;
mod traces;

pub use inside::inside;
pub use outside::outside;
pub use root::folders;
pub use traces::sweep;

use crate::backend::{Backend, BackendError, Machine};
use crate::console::Consoles;
use crate::order::Order;
use crate::place::Place;
use futures_util::future::{BoxFuture, FutureExt};
use std::path::PathBuf;

/// The hidden subcommand that unshares.
pub const OUTSIDE: &str = "namespace-outside";
/// The hidden subcommand that becomes PID 1.
pub const INSIDE: &str = "namespace-inside";

/// See the module.
pub struct Namespaces {
    order: Order,
    place: Place,
    root: PathBuf,
}

impl Namespaces {
    /// Looks at everything a boot needs, and unpacks the root tree unless it is there.
    pub fn prepare(order: &Order, place: &Place) -> Result<Namespaces, BackendError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(BackendError::NotRoot);
        }
        let root = root::unpacked(&order.image, place)?;
        let data = place.data();
        std::fs::create_dir_all(&data).map_err(BackendError::system(format!("make {}", data.display())))?;
        Ok(Namespaces { order: order.clone(), place: place.clone(), root })
    }
}

impl Backend for Namespaces {
    fn name(&self) -> String {
        "namespace".to_owned()
    }

    fn start<'a>(
        &'a mut self,
        consoles: &'a Consoles,
    ) -> BoxFuture<'a, Result<Box<dyn Machine>, BackendError>> {
        async move {
            let machine = machine::start(&self.order, &self.place, &self.root, consoles).await?;
            Ok(Box::new(machine) as Box<dyn Machine>)
        }
        .boxed()
    }
}
