//! Where the tested engine runs.

use std::time::Duration;

/// Where the tested engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// `pinnace up --backend namespace`.
    Namespace,
    /// `pinnace up --backend qemu`.
    Qemu,
    /// A dockerd somebody else started: the suite is tested on it.
    Reference,
}

impl Backend {
    /// The one this run is for, from `PINNACE_BACKEND`.
    pub fn of_this_run() -> Backend {
        match std::env::var("PINNACE_BACKEND").as_deref() {
            Err(_) | Ok("namespace") => Backend::Namespace,
            Ok("qemu") => Backend::Qemu,
            Ok("reference") => Backend::Reference,
            Ok(other) => panic!("PINNACE_BACKEND={other}: expected namespace, qemu or reference"),
        }
    }

    /// As `pinnace up --backend` takes it.
    pub fn word(self) -> &'static str {
        match self {
            Backend::Namespace => "namespace",
            Backend::Qemu => "qemu",
            Backend::Reference => "reference",
        }
    }

    /// After this long something hangs. It is no promise about speed: the VM may be emulated on a busy machine.
    pub fn patience(self) -> Duration {
        match self {
            Backend::Qemu => Duration::from_secs(300),
            Backend::Namespace | Backend::Reference => Duration::from_secs(60),
        }
    }
}
