//! Which addresses of a subnet are taken: pure arithmetic, no kernel.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use rand::RngExt;

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// `02:42` and the IPv4 address. An address that is used again then has the same hardware address again, and
    /// no neighbour remembers a wrong one.
    #[must_use]
    pub fn of_address(address: Ipv4Addr) -> Mac {
        let [a, b, c, d] = address.octets();
        Mac([0x02, 0x42, a, b, c, d])
    }

    /// A random one of the locally administered (IEEE 802 bit 1 of the first octet).
    #[must_use]
    pub fn random() -> Mac {
        let mut octets: [u8; 6] = rand::rng().random();
        octets[0] = 0x02;
        Mac(octets)
    }

    /// Most significant first.
    #[must_use]
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// Why a text is no hardware address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address {text:?}: expected six bytes in hex, for example 02:42:ac:11:00:02")]
pub struct MacError {
    /// As given.
    pub text: String,
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Mac, MacError> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let octet = |part: &str| if two_digits(part) { u8::from_str_radix(part, 16).ok() } else { None };
        let octets: Option<Vec<u8>> = text.split(separator).map(octet).collect();
        let octets = octets.and_then(|octets| octets.try_into().ok()).map(Mac);
        octets.ok_or_else(|| MacError { text: text.to_owned() })
    }
}

/// Why an address is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Every address is taken.
    #[error("no available IPv4 addresses on this network's address pool {subnet}")]
    Exhausted {
        /// The subnet.
        subnet: Ipv4Net,
    },
    /// The address asked for is taken.
    #[error("address {address} already in use")]
    Taken {
        /// The address.
        address: Ipv4Addr,
    },
    /// The address asked for is not of this subnet, or is its network or broadcast address.
    #[error("no configured subnet contains IP address {address}")]
    Outside {
        /// The address.
        address: Ipv4Addr,
    },
}

/// The addresses of one subnet.
///
/// The lowest free one is given, as Docker's bitmap does, but one that was given back rests first: the kernel takes
/// some milliseconds to remove a dead sandbox, which may answer for its address until then, and connections that
/// others still have to the address should end and not meet another container.
#[derive(Debug, Clone)]
pub struct Addresses {
    subnet: Ipv4Net,
    first: u32,
    last: u32,
    taken: BTreeSet<u32>,
    /// Given back, the latest last.
    resting: VecDeque<u32>,
}

/// How many addresses rest.
const RESTING: usize = 64;

impl Addresses {
    /// All of `subnet`, of which only those in `range` are given without being asked for.
    #[must_use]
    pub fn new(subnet: Ipv4Net, range: Option<Ipv4Net>) -> Addresses {
        let subnet = subnet.trunc();
        let (first, last) = usable(subnet);
        let (from, to) = range.map_or((first, last), |range| {
            (u32::from(range.network()).max(first), u32::from(range.broadcast()).min(last))
        });
        Addresses { subnet, first: from, last: to, taken: BTreeSet::new(), resting: VecDeque::new() }
    }

    /// The subnet.
    #[must_use]
    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.len()
    }

    /// Takes the lowest address that is free and has rested; where there is none, the one that rested longest.
    ///
    /// # Errors
    /// [`AddressError::Exhausted`].
    pub fn take(&mut self) -> Result<Ipv4Net, AddressError> {
        let number = self.lowest().or_else(|| {
            let at = self.resting.iter().position(|number| (self.first..=self.last).contains(number))?;
            self.resting.remove(at)
        });
        let number = number.ok_or(AddressError::Exhausted { subnet: self.subnet })?;
        self.taken.insert(number);
        Ok(self.with_prefix(number.into()))
    }

    /// The taken addresses are in order, so the first gap among them and the resting ones is the lowest free one.
    fn lowest(&self) -> Option<u32> {
        let mut resting: Vec<u32> = self.resting.iter().copied().collect();
        resting.sort_unstable();
        let mut resting = resting.into_iter().skip_while(|number| *number < self.first).peekable();
        let mut taken = self.taken.range(self.first..).copied().peekable();
        let mut candidate = self.first;
        while candidate <= self.last {
            let used = taken.next_if_eq(&candidate).or_else(|| resting.next_if_eq(&candidate));
            if used.is_none() {
                return Some(candidate);
            }
            candidate = candidate.checked_add(1)?;
        }
        None
    }

    /// Takes this address; it need not be in the range.
    ///
    /// # Errors
    /// [`AddressError::Taken`] or [`AddressError::Outside`].
    pub fn reserve(&mut self, address: Ipv4Addr) -> Result<Ipv4Net, AddressError> {
        let (first, last) = usable(self.subnet);
        if !(first..=last).contains(&address.into()) {
            return Err(AddressError::Outside { address });
        }
        match self.taken.insert(address.into()) {
            true => {
                self.resting.retain(|number| *number != u32::from(address));
                Ok(self.with_prefix(address))
            }
            false => Err(AddressError::Taken { address }),
        }
    }

    /// Gives an address back; false where it was not taken.
    pub fn release(&mut self, address: Ipv4Addr) -> bool {
        let number = u32::from(address);
        if !self.taken.remove(&number) {
            return false;
        }
        if self.resting.len() == RESTING {
            self.resting.pop_front();
        }
        self.resting.push_back(number);
        true
    }

    fn with_prefix(&self, address: Ipv4Addr) -> Ipv4Net {
        Ipv4Net::new(address, self.subnet.prefix_len()).expect("the length of a subnet is valid")
    }
}

/// Without the network and broadcast addresses, which subnets of two or one address do not have (RFC 3021).
fn usable(subnet: Ipv4Net) -> (u32, u32) {
    let (first, last) = (u32::from(subnet.network()), u32::from(subnet.broadcast()));
    if subnet.prefix_len() >= 31 { (first, last) } else { (first + 1, last - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn the_lowest_free_address_is_given() {
        let mut addresses = Addresses::new(net("172.17.0.0/16"), None);
        assert_eq!(addresses.reserve(ip("172.17.0.1")), Ok(net("172.17.0.1/16")));
        assert_eq!(addresses.take(), Ok(net("172.17.0.2/16")));
        assert_eq!(addresses.take(), Ok(net("172.17.0.3/16")));
        assert!(addresses.release(ip("172.17.0.2")));
        assert!(!addresses.release(ip("172.17.0.2")));
        assert_eq!(addresses.take(), Ok(net("172.17.0.4/16")));
        assert_eq!(addresses.taken(), 3);
        assert_eq!(addresses.reserve(ip("172.17.0.2")), Ok(net("172.17.0.2/16")));
    }

    #[test]
    fn an_address_rests_before_it_is_given_again() {
        let mut addresses = Addresses::new(net("10.0.0.0/16"), None);
        let mut given = Vec::new();
        for _ in 0..=RESTING + 1 {
            let address = addresses.take().unwrap().addr();
            addresses.release(address);
            given.push(address);
        }
        assert_eq!(given[RESTING + 1], given[0]);
        given.truncate(RESTING + 1);
        given.dedup();
        assert_eq!(given.len(), RESTING + 1);
    }

    #[test]
    fn a_pool_ends_and_says_so() {
        let mut addresses = Addresses::new(net("10.0.0.0/30"), None);
        assert_eq!((addresses.take(), addresses.take()), (Ok(net("10.0.0.1/30")), Ok(net("10.0.0.2/30"))));
        let error = addresses.take().unwrap_err();
        assert_eq!(
            error.to_string(),
            "no available IPv4 addresses on this network's address pool 10.0.0.0/30"
        );
        addresses.release(ip("10.0.0.1"));
        assert_eq!(addresses.take(), Ok(net("10.0.0.1/30")));
        let mut whole = Addresses::new(net("0.0.0.0/0"), Some(net("255.255.255.254/32")));
        assert_eq!(whole.take(), Ok(net("255.255.255.254/0")));
        assert!(whole.take().is_err());
        let mut pair = Addresses::new(net("10.0.0.0/31"), None);
        assert_eq!((pair.take(), pair.take()), (Ok(net("10.0.0.0/31")), Ok(net("10.0.0.1/31"))));
    }

    #[test]
    fn a_range_limits_what_is_given_and_not_what_is_asked_for() {
        let mut addresses = Addresses::new(net("10.1.0.0/16"), Some(net("10.1.5.0/30")));
        assert_eq!(addresses.take(), Ok(net("10.1.5.0/16")));
        assert_eq!(addresses.reserve(ip("10.1.9.9")), Ok(net("10.1.9.9/16")));
        assert_eq!(addresses.reserve(ip("10.1.9.9")), Err(AddressError::Taken { address: ip("10.1.9.9") }));
        for outside in ["10.1.0.0", "10.1.255.255", "10.2.0.1"] {
            assert_eq!(addresses.reserve(ip(outside)), Err(AddressError::Outside { address: ip(outside) }));
        }
        assert_eq!((0..4).filter_map(|_| addresses.take().ok()).count(), 3);
    }

    #[test]
    fn hardware_addresses_are_read_and_shown() {
        let mac = Mac::of_address(ip("172.17.0.2"));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02:42:ac:11:00:02".parse(), Ok(mac));
        assert_eq!("02-42-AC-11-00-02".parse(), Ok(mac));
        assert_eq!(Mac::random().octets()[0], 2);
        for bad in
            ["", "02:42", "02:42:ac:11:00:02:03", "2:42:ac:11:0:2", "zz:42:ac:11:00:02", "+2:42:ac:11:00:02"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice(steps in prop::collection::vec((0..4u8, 0..40u32), 0..200)) {
            let mut addresses = Addresses::new(net("10.0.0.0/27"), None);
            let mut model = BTreeSet::new();
            for (step, number) in steps {
                let address = Ipv4Addr::from(u32::from(ip("10.0.0.0")) + number);
                match step {
                    0 => { prop_assert_eq!(addresses.release(address), model.remove(&address)); }
                    1 => {
                        let fits = (1..31).contains(&number) && !model.contains(&address);
                        prop_assert_eq!(addresses.reserve(address).is_ok(), fits);
                        if fits { model.insert(address); }
                    }
                    _ => {
                        let got = addresses.take().ok().map(|network| network.addr());
                        prop_assert_eq!(got.is_none(), model.len() == 30);
                        prop_assert!(got.is_none_or(|address| model.insert(address)));
                    }
                }
            }
        }
    }
}
