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

/// What the options of a network ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Name of the bridge; its own where `None`.
    pub(super) bridge: Option<String>,
    /// Whether its containers reach one another.
    pub(super) connected: bool,
    /// Whether its addresses are hidden behind the machine's.
    pub(super) hidden: bool,
    /// The machine has no address on the bridge.
    pub(super) inhibited: bool,
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
        let hidden = match text(MODE) {
            None | Some("" | "nat") => true,
            Some("routed") => false,
            Some(mode @ ("nat-unprotected" | "isolated")) => {
                let text = format!("the gateway mode {mode} is not supported by this release of Pinnace yet");
                return Err(NetworksError::NotSupported(text));
            }
            Some(mode) => {
                let text = format!("failed to parse {MODE} value: {mode} (unknown gateway mode {mode})");
                return Err(NetworksError::Invalid(text));
            }
        };
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
            hidden: flag(HIDDEN, true)? && hidden,
            inhibited: flag(INHIBITED, false)?,
            mtu,
            prefix: text(PREFIX).filter(|prefix| !prefix.is_empty()).unwrap_or("eth").to_owned(),
        })
    }

    /// The network as the packet filter sees it.
    pub(super) fn subnet(
        &self,
        bridge: &str,
        addresses: Ipv4Net,
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
