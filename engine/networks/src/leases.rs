//! Which addresses of a network are taken, in all its subnets of both families.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use runtime::network::{AddressError, Addresses};

use super::addresses_6::Addresses6;
use super::error::NetworksError;
use super::ipam::Fixed;
use super::record::{NetworkRecord, Pool};

/// What a place was given: nothing of a family that the network does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) ipv4: Option<Ipv4Net>,
    pub(super) ipv6: Option<Ipv6Net>,
}

/// The addresses of one network, by subnet in their order.
#[derive(Debug)]
pub(super) struct Leases {
    ipv4: Vec<Addresses>,
    ipv6: Vec<Addresses6>,
    /// For the error when there are none left: name and id of the network.
    whose: String,
}

impl Leases {
    /// Those of a network, with the auxiliary ones taken: the gateways' as well where there `has_gateway`.
    pub(super) fn of(id: &str, record: &NetworkRecord, has_gateway: bool) -> Leases {
        let pools = || record.pools();
        Leases {
            ipv4: pools().filter_map(|pool| addresses(pool, has_gateway)).collect(),
            ipv6: pools().filter_map(Addresses6::of).collect(),
            whose: format!("{} ({id})", record.name),
        }
    }

    /// An address of each family that the network has: the one that is asked for, else the next that is free.
    pub(super) fn take(&mut self, asked: &Fixed) -> Result<Lease, NetworksError> {
        let ipv4 = self.take_4(asked.ipv4)?;
        match self.take_6(asked.ipv6) {
            Ok(ipv6) => Ok(Lease { ipv4, ipv6 }),
            Err(error) => {
                self.give_back(Lease { ipv4, ipv6: None });
                Err(error)
            }
        }
    }

    fn take_4(&mut self, asked: Option<Ipv4Addr>) -> Result<Option<Ipv4Net>, NetworksError> {
        if self.ipv4.is_empty() {
            return Ok(None);
        }
        if let Some(address) = asked {
            let outside = || AddressError::Outside { address };
            return Ok(Some(self.subnet(address).ok_or_else(outside)?.reserve(address)?));
        }
        let free = self.ipv4.iter_mut().find_map(|addresses| addresses.take().ok());
        free.map(Some).ok_or_else(|| NetworksError::Exhausted { family: "IPv4", whose: self.whose.clone() })
    }

    fn take_6(&mut self, asked: Option<Ipv6Addr>) -> Result<Option<Ipv6Net>, NetworksError> {
        if self.ipv6.is_empty() {
            return Ok(None);
        }
        if let Some(address) = asked {
            // It was checked against the subnets.
            let addresses = self.ipv6.iter_mut().find(|addresses| addresses.subnet().contains(&address));
            return addresses.map(|addresses| addresses.reserve(address)).transpose();
        }
        let free = self.ipv6.iter_mut().find_map(Addresses6::take);
        free.map(Some).ok_or_else(|| NetworksError::Exhausted { family: "IPv6", whose: self.whose.clone() })
    }

    /// Takes what a place had before this engine came.
    pub(super) fn resume(&mut self, lease: Lease) -> Result<(), NetworksError> {
        if let Some(address) = lease.ipv4.map(|net| net.addr()) {
            self.take_4(Some(address))?;
        }
        if let Some(address) = lease.ipv6.map(|net| net.addr()) {
            self.take_6(Some(address))?;
        }
        Ok(())
    }

    pub(super) fn give_back(&mut self, lease: Lease) {
        if let Some(address) = lease.ipv4.map(|net| net.addr()) {
            self.subnet(address).map(|addresses| addresses.release(address));
        }
        if let Some(address) = lease.ipv6.map(|net| net.addr()) {
            self.ipv6.iter_mut().for_each(|addresses| addresses.release(address));
        }
    }

    /// How many of its IPv4 addresses are taken.
    pub(super) fn taken(&self) -> usize {
        self.ipv4.iter().map(Addresses::taken).sum()
    }

    fn subnet(&mut self, address: Ipv4Addr) -> Option<&mut Addresses> {
        self.ipv4.iter_mut().find(|addresses| addresses.subnet().contains(&address))
    }
}

/// The addresses of a subnet of IPv4.
fn addresses(pool: &Pool, has_gateway: bool) -> Option<Addresses> {
    let IpNet::V4(subnet) = pool.subnet else { return None };
    let range = match pool.range {
        Some(IpNet::V4(range)) => Some(range),
        _ => None,
    };
    let mut addresses = Addresses::new(subnet, range);
    for own in pool.auxiliary.values().chain(pool.gateway.iter().filter(|_| has_gateway)) {
        if let std::net::IpAddr::V4(own) = own
            && let Err(error) = addresses.reserve(*own)
        {
            tracing::debug!(%error, "an address of the network itself is not kept from containers");
        }
    }
    Some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Ipam;

    fn record(subnets: &[(&str, Option<&str>)]) -> NetworkRecord {
        let pool = |(subnet, gateway): &(&str, Option<&str>)| Pool {
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            ..Pool::of(subnet.parse().unwrap())
        };
        let ipam = Ipam { pools: subnets.iter().map(pool).collect(), ..Ipam::default() };
        NetworkRecord {
            name: "n".to_owned(),
            ipam,
            has_ipv4: true,
            has_ipv6: true,
            ..NetworkRecord::default()
        }
    }

    fn taken(leases: &mut Leases, ipv4: Option<&str>) -> Result<String, String> {
        let asked = Fixed { ipv4: ipv4.map(|text| text.parse().unwrap()), ..Fixed::default() };
        let lease = leases.take(&asked).map_err(|error| error.to_string())?;
        Ok([lease.ipv4.map(|net| net.to_string()), lease.ipv6.map(|net| net.to_string())]
            .map(Option::unwrap_or_default)
            .join(" "))
    }

    #[test]
    fn subnets_are_filled_one_after_another() {
        let record = record(&[("10.73.0.0/30", Some("10.73.0.1")), ("10.74.0.0/24", None)]);
        let mut leases = Leases::of("ab", &record, true);
        let mut check = |asked: Option<&str>, expected: &str| {
            let got = taken(&mut leases, asked).unwrap_or_else(|error| error);
            assert_eq!(got.trim(), expected);
        };
        check(Some("10.74.0.44"), "10.74.0.44/24");
        check(None, "10.73.0.2/30");
        check(None, "10.74.0.1/24");
        check(Some("10.73.0.1"), "Address already in use");
        check(Some("10.75.0.1"), "no configured subnet contains IP address 10.75.0.1");
    }

    #[test]
    fn what_was_given_back_is_free_and_what_is_used_up_is_told() {
        let record = record(&[("10.73.0.0/30", Some("10.73.0.1")), ("fd00::/126", Some("fd00::1"))]);
        let mut leases = Leases::of("ab", &record, true);
        assert_eq!(taken(&mut leases, None).unwrap(), "10.73.0.2/30 fd00::2/126");
        let none = "no available IPv4 addresses on this network's address pools: n (ab)";
        assert_eq!(taken(&mut leases, None).unwrap_err(), none);
        let ipv4 = "10.73.0.2/30".parse().ok();
        leases.give_back(Lease { ipv4, ipv6: None });
        assert_eq!(taken(&mut leases, None).unwrap(), "10.73.0.2/30 fd00::3/126");
        // Without an address of the one family none of the other is kept.
        leases.give_back(Lease { ipv4, ipv6: None });
        assert!(taken(&mut leases, None).unwrap_err().contains("IPv6"));
        assert_eq!(leases.taken(), 1);
    }

    #[test]
    fn a_family_that_the_network_lacks_gives_nothing() {
        let only_6 =
            NetworkRecord { has_ipv4: false, ..record(&[("10.73.0.0/30", None), ("fd00::/64", None)]) };
        assert_eq!(taken(&mut Leases::of("ab", &only_6, true), None).unwrap(), " fd00::1/64");
        let neither = NetworkRecord { has_ipv6: false, ..only_6 };
        assert_eq!(taken(&mut Leases::of("ab", &neither, true), None).unwrap(), " ");
    }
}
