//! Which IPv6 addresses of a subnet are taken: pure arithmetic.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::error::NetworksError;
use super::record::Pool;

/// The IPv6 addresses of one network. A subnet is large, so an address that was given back is not given again until all
/// behind it were: nobody meets another container at it.
#[derive(Debug, Clone)]
pub(super) struct Addresses6 {
    subnet: Ipv6Net,
    /// Those that are given without being asked for.
    range: Ipv6Net,
    taken: BTreeSet<u128>,
    /// The one given last.
    last: u128,
}

impl Addresses6 {
    /// Those of a subnet, with its gateway and the auxiliary ones taken.
    pub(super) fn of(pool: &Pool) -> Option<Addresses6> {
        let IpNet::V6(subnet) = pool.subnet else { return None };
        let own = pool.auxiliary.values().chain(&pool.gateway);
        let taken = own.filter_map(|address| match address {
            IpAddr::V6(address) => Some(u128::from(*address)),
            IpAddr::V4(_) => None,
        });
        let last = u128::from(subnet.network());
        Some(Addresses6 { subnet, range: within(pool, subnet), taken: taken.chain([last]).collect(), last })
    }

    /// All of them.
    pub(super) fn subnet(&self) -> Ipv6Net {
        self.subnet
    }

    /// The next one that is free.
    pub(super) fn take(&mut self) -> Option<Ipv6Net> {
        let (first, end) = (u128::from(self.range.network()), u128::from(self.range.broadcast()));
        // One more candidate than there are taken ones holds a free one, if there is any.
        let candidates = self.taken.len() as u128 + 1;
        let next = |from: u128| if (first..end).contains(&from) { from + 1 } else { first };
        let mut candidate = self.last;
        for _ in 0..candidates {
            candidate = next(candidate);
            if self.taken.insert(candidate) {
                self.last = candidate;
                return Some(self.with_prefix(candidate.into()));
            }
        }
        None
    }

    /// This one.
    pub(super) fn reserve(&mut self, address: Ipv6Addr) -> Result<Ipv6Net, NetworksError> {
        match self.taken.insert(address.into()) {
            true => Ok(self.with_prefix(address)),
            false => Err(NetworksError::Taken),
        }
    }

    pub(super) fn release(&mut self, address: Ipv6Addr) {
        self.taken.remove(&address.into());
    }

    fn with_prefix(&self, address: Ipv6Addr) -> Ipv6Net {
        Ipv6Net::new(address, self.subnet.prefix_len()).expect("the length of a subnet is valid")
    }
}

fn within(pool: &Pool, subnet: Ipv6Net) -> Ipv6Net {
    match pool.range {
        Some(IpNet::V6(range)) => range,
        _ => subnet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_one_after_another() {
        let mut pool = Pool::of("fd00::/126".parse().unwrap());
        pool.gateway = "fd00::1".parse().ok();
        let mut addresses = Addresses6::of(&pool).unwrap();
        let take = |addresses: &mut Addresses6| addresses.take().map(|net| net.to_string());
        assert_eq!(take(&mut addresses).as_deref(), Some("fd00::2/126"));
        addresses.release("fd00::2".parse().unwrap());
        assert_eq!(take(&mut addresses).as_deref(), Some("fd00::3/126"));
        assert_eq!(take(&mut addresses).as_deref(), Some("fd00::2/126"));
        assert_eq!(take(&mut addresses), None);
        assert!(addresses.reserve("fd00::2".parse().unwrap()).is_err());
    }

    #[test]
    fn addresses_are_given_from_the_range() {
        let mut pool = Pool::of("fd00::/64".parse().unwrap());
        pool.range = "fd00::1:0/112".parse().ok();
        let mut addresses = Addresses6::of(&pool).unwrap();
        assert_eq!(addresses.take().unwrap().to_string(), "fd00::1:0/64");
        assert_eq!(addresses.take().unwrap().to_string(), "fd00::1:1/64");
        assert_eq!(addresses.reserve("fd00::7".parse().unwrap()).unwrap().to_string(), "fd00::7/64");
    }
}
