//! Options of the driver `bridge`, see Docker's reference. Those that nobody knows are kept and have no effect.

use ipnet::{Ipv4Net, Ipv6Net};
use runtime::network::Subnet;

use super::error::NetworksError;
use super::record::NetworkRecord;

/// Bytes of a packet where nothing else is said.
pub(super) const MTU: u32 = 1500;

const NAME: &str = "com.docker.network.bridge.name";
const CONNECTED: &str = "com.docker.network.bridge.enable_icc";
const HIDDEN: &str = "com.docker.network.bridge.enable_ip_masquerade";
const BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const INHIBITED: &str = "com.docker.network.bridge.inhibit_ipv4";
const LARGEST: &str = "com.docker.network.driver.mtu";
const PREFIX: &str = "com.docker.network.container_iface_prefix";
const MODE: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const MODE_6: &str = "com.docker.network.bridge.gateway_mode_ipv6";

/// How a network stands to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Its addresses are hidden behind the machine's.
    Hidden,
    /// The same, and whoever has a way to its addresses reaches every port.
    Unprotected,
    /// Its addresses are seen outside.
    Routed,
    /// The machine has no address there, and it leads nowhere.
    Isolated,
}

/// What the options of a network ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Name of the bridge; its own where `None`.
    pub(super) bridge: Option<String>,
    /// Whether its containers reach one another.
    pub(super) connected: bool,
    /// Whether its addresses are hidden behind the machine's.
    pub(super) hidden: bool,
    /// The same for IPv6.
    pub(super) hidden_6: bool,
    /// Whether every port is reached from outside.
    pub(super) open: bool,
    /// The machine has no address on the bridge.
    pub(super) inhibited: bool,
    /// The same for IPv6.
    pub(super) inhibited_6: bool,
    /// There is no gateway: its address may be a container's.
    pub(super) isolated: bool,
    /// Bytes of a packet.
    pub(super) mtu: u32,
    /// How names of interfaces begin.
    pub(super) prefix: String,
}

impl Options {
    /// Reads the options of a network.
    ///
    /// # Errors
    /// [`NetworksError::Invalid`] with dockerd's words, and what this release cannot do.
    pub(super) fn read(record: &NetworkRecord) -> Result<Options, NetworksError> {
        let text = |key: &str| record.options.get(key).map(String::as_str);
        let flag = |key: &str, absent: bool| match text(key) {
            None => Ok(absent),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(value) => Err(unparsable(key, value, "ParseBool")),
        };
        if let Some(value) = text(BINDING)
            && value.parse::<std::net::IpAddr>().is_err()
        {
            let text = format!("failed to parse {BINDING} value: {value} (nil ip)");
            return Err(NetworksError::Invalid(text));
        }
        let (ipv4, ipv6) = (mode(record, MODE)?, mode(record, MODE_6)?);
        let masked = flag(HIDDEN, true)?;
        let inhibited = flag(INHIBITED, false)?;
        let hides = |mode: Mode| masked && matches!(mode, Mode::Hidden | Mode::Unprotected);
        let mtu = match text(LARGEST) {
            None => MTU,
            Some(value) => match value.parse::<u32>() {
                Ok(0) => MTU,
                Ok(mtu) => mtu,
                Err(_) if value.parse::<i64>().is_ok_and(|mtu| mtu < 0) => {
                    return Err(NetworksError::Invalid(format!("invalid MTU number: {value}")));
                }
                Err(_) => return Err(unparsable(LARGEST, value, "Atoi")),
            },
        };
        Ok(Options {
            bridge: text(NAME).filter(|name| !name.is_empty()).map(str::to_owned),
            connected: flag(CONNECTED, true)?,
            hidden: hides(ipv4),
            hidden_6: hides(ipv6),
            open: [ipv4, ipv6].contains(&Mode::Unprotected),
            inhibited: inhibited || ipv4 == Mode::Isolated,
            inhibited_6: ipv6 == Mode::Isolated,
            isolated: ipv4 == Mode::Isolated,
            mtu,
            prefix: text(PREFIX).filter(|prefix| !prefix.is_empty()).unwrap_or("eth").to_owned(),
        })
    }

    /// The network as the packet filter sees it.
    pub(super) fn subnet(
        &self,
        bridge: &str,
        addresses: Option<Ipv4Net>,
        ipv6: Option<Ipv6Net>,
        internal: bool,
    ) -> Subnet {
        Subnet {
            bridge: bridge.to_owned(),
            addresses,
            ipv6,
            connected: self.connected,
            internal,
            hidden: self.hidden && !internal,
            hidden_6: self.hidden_6 && !internal,
            open: self.open && !internal,
        }
    }
}

fn mode(record: &NetworkRecord, key: &str) -> Result<Mode, NetworksError> {
    match record.options.get(key).map(String::as_str) {
        None | Some("" | "nat") => Ok(Mode::Hidden),
        Some("nat-unprotected") => Ok(Mode::Unprotected),
        Some("routed") => Ok(Mode::Routed),
        Some("isolated") if record.internal => Ok(Mode::Isolated),
        // A failure of the engine's own to dockerd.
        Some("isolated") => Err(NetworksError::Isolated),
        Some(mode) => {
            let text = format!("failed to parse {key} value: {mode} (unknown gateway mode {mode})");
            Err(NetworksError::Invalid(text))
        }
    }
}

fn unparsable(key: &str, value: &str, function: &str) -> NetworksError {
    let why = format!("strconv.{function}: parsing \"{value}\": invalid syntax");
    NetworksError::Invalid(format!("failed to parse {key} value: {value} ({why})"))
}

/// Name of a network's bridge where its creator named none.
pub(super) fn bridge_name(id: &str) -> String {
    format!("br-{}", id.get(..12).unwrap_or(id))
}
