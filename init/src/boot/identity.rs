//! The host name, and the way to oneself.

use crate::net::link;

use super::{BootError, Machine};

const DEFAULT_HOSTNAME: &str = "pinnace";

/// Sets the host name (DHCP may change it where the settings name none) and switches loopback on.
pub fn set(machine: &mut Machine) -> Result<(), BootError> {
    let name = machine.settings.hostname.as_deref().unwrap_or(DEFAULT_HOSTNAME);
    rustix::system::sethostname(name.as_bytes())
        .map_err(|error| BootError::Call { what: "set the host name", source: error.into() })?;
    // Ctrl-Alt-Del on a machine's console becomes SIGINT to PID 1: an orderly power off. In a pid namespace the
    // call is refused, and there is no such key.
    let _ = rustix::system::reboot(rustix::system::RebootCommand::CadOff);
    link::up(link::LOOPBACK, None).map_err(|source| BootError::Call { what: "switch loopback on", source })
}
