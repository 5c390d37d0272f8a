//! Networks of configuration only, and those that are made from one: what may be said of which, pure. Docker has them for
//! swarms, whose nodes have addresses and parents of their own.

use super::create::Create;
use super::error::NetworksError;
use super::ipam::AskedPool;
use super::record::{NetworkRecord, Pool};

/// What dockerd shows as the driver of a network of configuration only, whatever was asked for.
pub(super) const DRIVER: &str = "null";

/// Checks what is said of a network of configuration only, or of one that is made from such.
///
/// # Errors
/// dockerd's words.
pub(super) fn check(request: &Create) -> Result<(), NetworksError> {
    let forbidden = |text: &str| Err(NetworksError::Forbidden(text.to_owned()));
    let is_from = !request.config_from.is_empty();
    let operated = request.ingress || request.internal || request.attachable || !request.scope.is_empty();
    if request.config_only && operated {
        return forbidden(
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | \
             internal | attachable | scope ] are not supported.",
        );
    }
    if request.config_only && is_from {
        return forbidden("a configuration network cannot depend on another configuration network");
    }
    let is_default = matches!(request.ipam_driver.as_str(), "" | "default")
        && request.ipam_options.as_ref().is_none_or(|options| options.is_empty())
        && request.pools.is_empty()
        && request.has_ipv4
        && !request.has_ipv6;
    if is_from && !(is_default && request.labels.is_empty()) {
        return forbidden(
            "user specified configurations are not supported if the network depends on a configuration network",
        );
    }
    if is_from && !request.options.is_empty() {
        return forbidden(
            "network driver options are not supported if the network depends on a configuration network",
        );
    }
    Ok(())
}

/// The request with what the network of configuration says.
pub(super) fn filled(request: Create, config: &NetworkRecord) -> Create {
    Create {
        options: config.options.clone(),
        labels: config.labels.clone(),
        has_ipv4: config.has_ipv4,
        has_ipv6: config.has_ipv6,
        ipam_driver: config.ipam.driver.clone(),
        ipam_options: config.ipam.options.clone(),
        pools: config.ipam.pools.iter().map(asked).collect(),
        ..request
    }
}

fn asked(pool: &Pool) -> AskedPool {
    let text = |(name, address): (&String, &std::net::IpAddr)| (name.clone(), address.to_string());
    AskedPool {
        subnet: pool.subnet.to_string(),
        range: pool.range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: pool.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
        auxiliary: pool.auxiliary.iter().map(text).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Create {
        Create { name: "n".to_owned(), has_ipv4: true, ..Create::default() }
    }

    #[test]
    fn who_is_made_from_a_configuration_says_nothing_of_what_it_says() {
        let from = || Create { config_from: "k".to_owned(), ..request() };
        let check = |request: Create, expected: &str| {
            let got = check(&request).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(got.starts_with(expected) && got.is_empty() == expected.is_empty(), "{got}");
        };
        let one = || [("a".to_owned(), "b".to_owned())].into();
        check(request(), "");
        check(from(), "");
        check(Create { internal: true, attachable: true, ipam_driver: "default".to_owned(), ..from() }, "");
        check(Create { labels: one(), options: one(), ..from() }, "user specified configurations");
        check(Create { ipam_options: Some(one()), ..from() }, "user specified configurations");
        check(Create { pools: vec![AskedPool::default()], ..from() }, "user specified configurations");
        check(Create { has_ipv4: false, ..from() }, "user specified configurations");
        check(Create { options: one(), ..from() }, "network driver options");
        let config = || Create { config_only: true, options: one(), labels: one(), ..request() };
        check(config(), "");
        check(Create { scope: "local".to_owned(), ..config() }, "configuration network can only");
        check(
            Create { internal: true, config_from: "k".to_owned(), ..config() },
            "configuration network can",
        );
        check(Create { config_from: "k".to_owned(), ..config() }, "a configuration network cannot depend");
    }

    #[test]
    fn what_a_configuration_says_is_asked_for() {
        let mut pool = Pool::of("10.40.0.0/24".parse().unwrap());
        pool.gateway = "10.40.0.9".parse().ok();
        let ipam = super::super::record::Ipam { pools: vec![pool], ..Default::default() };
        let config = NetworkRecord { ipam, has_ipv4: true, ..NetworkRecord::default() };
        let asked = filled(Create { internal: true, ..request() }, &config);
        assert!(asked.internal && asked.name == "n" && asked.has_ipv4);
        assert_eq!(
            (asked.pools[0].subnet.as_str(), asked.pools[0].gateway.as_str(), asked.pools[0].range.as_str()),
            ("10.40.0.0/24", "10.40.0.9", "")
        );
    }
}
