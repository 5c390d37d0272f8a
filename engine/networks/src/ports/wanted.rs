//! What a container's creator asks of published ports: Docker's `PortBindings`, `ExposedPorts` and `PublishAllPorts` on one
//! side, numbers on the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use contract::carrier::Protocol;
use serde::{Deserialize, Serialize};

/// One of Docker's `PortBinding`s, as the creator wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Binding {
    /// An address of the host, empty for all.
    #[serde(deserialize_with = "text")]
    pub host_ip: String,
    /// A number, a range, or empty for any.
    #[serde(deserialize_with = "text")]
    pub host_port: String,
}

/// JSON's null is an empty text, as in Go.
fn text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A port that shall be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What is spoken.
    pub protocol: Protocol,
    /// The container's number.
    pub container: u16,
    /// Where the host listens; all addresses of both kinds where there is none.
    pub host: Option<IpAddr>,
    /// The first of the host's numbers that will do; 0 for any.
    pub first: u16,
    /// The last of them; 0 for any.
    pub last: u16,
}

/// Reads what is asked, in the order of the container's ports; `bindings` and `exposed` have keys in the form `80/tcp`.
///
/// # Errors
/// What is wrong, in dockerd's words.
pub fn wanted(
    bindings: &BTreeMap<String, Vec<Binding>>,
    exposed: &BTreeSet<String>,
    publish_all: bool,
) -> Result<Vec<Wanted>, String> {
    let any = [Binding::default()];
    let mut all = Vec::new();
    for (port, bindings) in bindings {
        // No binding at all is one to any port, and has been since the first version of the API.
        for binding in if bindings.is_empty() { &any[..] } else { bindings } {
            all.push(read(port, binding)?);
        }
    }
    for port in exposed.iter().filter(|port| publish_all && !bindings.contains_key(*port)) {
        all.push(read(port, &any[0])?);
    }
    all.sort_by_key(|wanted| (wanted.container, wanted.protocol));
    Ok(all)
}

fn read(port: &str, binding: &Binding) -> Result<Wanted, String> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let container = number.parse().ok().filter(|number| *number != 0).ok_or_else(|| unclear(number))?;
    let protocol = match protocol {
        "sctp" => {
            return Err(
                "SCTP ports cannot be published: neither the host's side nor vsock carries it".to_owned()
            );
        }
        protocol => Protocol::of_word(protocol).ok_or_else(|| format!("invalid proto: {protocol}"))?,
    };
    let host = match binding.host_ip.as_str() {
        "" => None,
        ip => Some(ip.parse().map_err(|_| format!("invalid JSON: ParseAddr({ip:?}): unable to parse IP"))?),
    };
    let (first, last) = range(&binding.host_port).ok_or_else(|| unclear(&binding.host_port))?;
    Ok(Wanted { protocol, container, host, first, last })
}

fn unclear(text: &str) -> String {
    format!("invalid port specification: {text:?}")
}

/// `80`, `8000-8010`, or nothing.
fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<u16>().ok()).flatten()
    };
    match text.split_once('-') {
        _ if text.is_empty() => Some((0, 0)),
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last && (first != 0 || last == 0)).then_some((first, last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(json: &str, exposed: &[&str], all: bool) -> Result<String, String> {
        let exposed = exposed.iter().map(|port| (*port).to_owned()).collect();
        let wanted = wanted(&serde_json::from_str(json).unwrap(), &exposed, all)?;
        let host = |host: Option<IpAddr>| host.map_or("*".to_owned(), |ip| ip.to_string());
        let text =
            |w: &Wanted| format!("{}:{}-{}:{}/{}", host(w.host), w.first, w.last, w.container, w.protocol);
        Ok(wanted.iter().map(text).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn bindings_are_read() {
        let check = |json: &str, expected: Result<&str, &str>| {
            let got = asked(json, &[], false);
            assert_eq!(got.as_deref().map_err(String::as_str), expected, "{json}");
        };
        check("{}", Ok(""));
        check(r#"{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}"#, Ok("*:8080-8080:80/tcp"));
        check(
            r#"{"80/tcp": [{"HostPort": null}, {"HostIp": "::1", "HostPort": "1"}]}"#,
            Ok("*:0-0:80/tcp ::1:1-1:80/tcp"),
        );
        check(
            r#"{"80/tcp": [], "9/udp": [{"HostPort": "8000-8010"}]}"#,
            Ok("*:8000-8010:9/udp *:0-0:80/tcp"),
        );
        check(r#"{"80/tcp": [{"HostPort": "x"}]}"#, Err("invalid port specification: \"x\""));
        check(r#"{"80/tcp": [{"HostPort": "70000"}]}"#, Err("invalid port specification: \"70000\""));
        check(r#"{"80/tcp": [{"HostPort": "9-8"}]}"#, Err("invalid port specification: \"9-8\""));
        check(r#"{"0/tcp": [{"HostPort": "9"}]}"#, Err("invalid port specification: \"0\""));
        check(
            r#"{"80/tcp": [{"HostIp": "here"}]}"#,
            Err("invalid JSON: ParseAddr(\"here\"): unable to parse IP"),
        );
        assert!(asked(r#"{"80/sctp": [{}]}"#, &[], false).unwrap_err().starts_with("SCTP ports"));
        assert_eq!(asked(r#"{"80/quic": [{}]}"#, &[], false).unwrap_err(), "invalid proto: quic");
    }

    #[test]
    fn all_exposed_ports_are_published_where_that_is_asked() {
        let json = r#"{"80/tcp": [{"HostPort": "8080"}]}"#;
        assert_eq!(asked(json, &["80/tcp", "53/udp"], true).unwrap(), "*:0-0:53/udp *:8080-8080:80/tcp");
        assert_eq!(asked(json, &["80/tcp", "53/udp"], false).unwrap(), "*:8080-8080:80/tcp");
    }
}
