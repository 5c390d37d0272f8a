//! Ports of containers as clients write them: `80`, `80/udp`; and as they read them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use containers::Record;
use networks::ports::Published;

/// `80/tcp` in its one form.
///
/// # Errors
/// dockerd's text about what is no port.
pub fn port(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("invalid port: value is empty".to_owned());
    }
    let (number, protocol) = text.split_once('/').unwrap_or((text, ""));
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let problem = match number.parse::<u16>() {
        Ok(number) if is_number => {
            let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_lowercase() };
            return Ok(format!("{number}/{protocol}"));
        }
        _ if number.is_empty() => "value is empty",
        _ if is_number => "value out of range",
        _ => "invalid syntax",
    };
    Err(format!("invalid port '{number}': {problem}"))
}

/// Where the host listens for one port of a container, as clients are told: both kinds of addresses where it is all of them,
/// but for a container that has IPv6 alone.
fn places(port: &Published, only_6: bool) -> Vec<(IpAddr, u16)> {
    let all = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let all = all.into_iter().filter(|address: &IpAddr| address.is_ipv6() || !only_6);
    match port.host {
        Some(address) => vec![(address, port.port)],
        None => all.map(|address| (address, port.port)).collect(),
    }
}

/// Every port of a container that is exposed or published, `80/tcp`, with where the host listens for it.
pub fn all(record: &Record) -> BTreeMap<String, Vec<(IpAddr, u16)>> {
    let exposed = record.config.exposed_ports.iter().chain(record.host.port_bindings.keys());
    let mut all: BTreeMap<_, Vec<_>> = exposed.map(|port| (port.clone(), Vec::new())).collect();
    let only_6 = networks::published(record.endpoints.values()).is_some_and(|(_, to)| to.is_ipv6());
    for port in &record.ports {
        all.entry(format!("{}/{}", port.container, port.protocol)).or_default().extend(places(port, only_6));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_one_form() {
        let check = |text: &str, expected: Result<&str, &str>| {
            assert_eq!(port(text).as_deref().map_err(String::as_str), expected, "{text}");
        };
        check("80", Ok("80/tcp"));
        check("080/UDP", Ok("80/udp"));
        check("", Err("invalid port: value is empty"));
        check("/tcp", Err("invalid port '': value is empty"));
        check("19039;1230", Err("invalid port '19039;1230': invalid syntax"));
        check("+80", Err("invalid port '+80': invalid syntax"));
        check("65536/tcp", Err("invalid port '65536': value out of range"));
    }
}
