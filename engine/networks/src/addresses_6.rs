//! Which IPv6 addresses of a subnet are taken: pure arithmetic.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::error::NetworksError;
use super::record::NetworkRecord;

/// The IPv6 addresses of one network. A subnet is large, so an address that was given back is not given again until all
/// behind it were: nobody meets another container at it.
#[derive(Debug, Clone)]
pub(super) struct Addresses6 {
    subnet: Ipv6Net,
    taken: BTreeSet<u128>,
    /// The one given last.
    last: u128,
}

impl Addresses6 {
    /// Those of a network, with the machine's and the auxiliary ones taken.
    pub(super) fn of(record: &NetworkRecord) -> Option<Addresses6> {
        let pool = record.pool_6()?;
        let IpNet::V6(subnet) = pool.subnet else { return None };
        let own = pool.auxiliary.values().chain([&pool.gateway]);
        let taken = own.filter_map(|address| match address {
            IpAddr::V6(address) => Some(u128::from(*address)),
            IpAddr::V4(_) => None,
        });
        let last = u128::from(subnet.network());
        Some(Addresses6 { subnet, taken: taken.chain([last]).collect(), last })
    }

    /// The next one that is free.
    pub(super) fn take(&mut self) -> Result<Ipv6Net, NetworksError> {
        let (first, end) = (u128::from(self.subnet.network()), u128::from(self.subnet.broadcast()));
        // One more candidate than there are taken ones holds a free one, if there is any.
        let candidates = self.taken.len() as u128 + 1;
        let next = |from: u128| if from == end { first } else { from + 1 };
        let mut candidate = self.last;
        for _ in 0..candidates {
            candidate = next(candidate);
            if self.taken.insert(candidate) {
                self.last = candidate;
                return Ok(self.with_prefix(candidate.into()));
            }
        }
        Err(NetworksError::NoPool)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Ipam, Pool};
    use std::collections::BTreeMap;

    #[test]
    fn addresses_are_given_one_after_another() {
        let pool = Pool {
            subnet: "fd00::/126".parse().unwrap(),
            range: None,
            gateway: "fd00::1".parse().unwrap(),
            auxiliary: BTreeMap::new(),
            asked_for: true,
            hides_gateway: false,
        };
        let ipam = Ipam { options: None, pools: vec![pool] };
        let record = NetworkRecord { ipam, ..NetworkRecord::default() };
        let mut addresses = Addresses6::of(&record).unwrap();
        let take = |addresses: &mut Addresses6| addresses.take().map(|net| net.to_string()).ok();
        assert_eq!(take(&mut addresses).as_deref(), Some("fd00::2/126"));
        addresses.release("fd00::2".parse().unwrap());
        assert_eq!(take(&mut addresses).as_deref(), Some("fd00::3/126"));
        assert_eq!(take(&mut addresses).as_deref(), Some("fd00::2/126"));
        assert_eq!(take(&mut addresses), None);
        assert!(addresses.reserve("fd00::2".parse().unwrap()).is_err());
    }
}
