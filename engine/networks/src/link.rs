//! What connects the containers of a network: read from its driver and options, pure.

use std::collections::BTreeMap;

use runtime::network::{Child, IpvlanFlag, IpvlanMode, MacvlanMode};
use serde::{Deserialize, Serialize};

use super::error::NetworksError;
use super::options::Options;
use super::record::NetworkRecord;

const PARENT: &str = "parent";
const MACVLAN_MODE: &str = "macvlan_mode";
const IPVLAN_MODE: &str = "ipvlan_mode";
const IPVLAN_FLAG: &str = "ipvlan_flag";

/// What a network's containers are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing: the networks `host` and `none`, and those of configuration only.
    None,
    /// A cable to the network's bridge.
    Bridge(Options),
    /// A child of an interface of the machine's: the drivers `macvlan` and `ipvlan`.
    Child(Branch),
}

/// A network on an interface of the machine's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Branch {
    /// Name of the interface.
    pub(super) parent: String,
    /// Nobody named one: it is a dummy of the network's own.
    pub(super) is_own: bool,
    /// What its containers' interfaces are.
    pub(super) child: Child,
}

/// The same as a place remembers it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plug {
    /// A cable to a bridge, where ports can be published.
    #[default]
    Bridge,
    /// An interface with a hardware address of its own.
    Macvlan,
    /// An interface with its parent's hardware address.
    Ipvlan,
}

impl Link {
    /// Reads what a network's driver and options say.
    ///
    /// # Errors
    /// dockerd's words about options.
    pub(super) fn read(id: &str, record: &NetworkRecord) -> Result<Link, NetworksError> {
        match record.driver.as_str() {
            _ if record.config_only => Ok(Link::None),
            "bridge" => Ok(Link::Bridge(Options::read(record)?)),
            "macvlan" => Ok(Link::Child(Branch::of("dm", id, record, macvlan(&record.options)?)?)),
            "ipvlan" => Ok(Link::Child(Branch::of("di", id, record, ipvlan(&record.options)?)?)),
            _ => Ok(Link::None),
        }
    }

    /// As a place remembers it.
    pub(super) fn plug(&self) -> Plug {
        match self {
            Link::None | Link::Bridge(_) => Plug::Bridge,
            Link::Child(Branch { child: Child::Macvlan(_), .. }) => Plug::Macvlan,
            Link::Child(Branch { child: Child::Ipvlan(..), .. }) => Plug::Ipvlan,
        }
    }

    /// How the names of its interfaces begin.
    pub(super) fn prefix(&self) -> &str {
        match self {
            Link::Bridge(options) => &options.prefix,
            Link::None | Link::Child(_) => "eth",
        }
    }

    /// Whether its containers send packets for the outside to a neighbour, the gateway. Those of an ipvlan that passes
    /// packets on send them out as they are.
    pub(super) fn has_gateway(&self) -> bool {
        !matches!(self, Link::Child(Branch { child: Child::Ipvlan(IpvlanMode::L3 | IpvlanMode::L3s, _), .. }))
    }

    /// Whether an address of each subnet is the gateway's although its creator named none: on a bridge it is the
    /// machine's own.
    pub(super) fn chooses_gateway(&self, internal: bool) -> bool {
        match self {
            Link::None => false,
            Link::Bridge(_) => true,
            Link::Child(_) => self.has_gateway() && !internal,
        }
    }
}

impl Branch {
    fn of(prefix: &str, id: &str, record: &NetworkRecord, child: Child) -> Result<Branch, NetworksError> {
        let named = record.options.get(PARENT).filter(|name| !name.is_empty());
        if named.is_some_and(|name| name == "lo") {
            let text = format!("loopback interface is not a valid {} parent link", record.driver);
            return Err(NetworksError::Driver(text));
        }
        let own = || format!("{prefix}-{}", id.get(..12).unwrap_or(id));
        Ok(Branch { parent: named.cloned().unwrap_or_else(own), is_own: named.is_none(), child })
    }

    /// Whether two networks cannot be on one parent, in dockerd's words for the network `id` that is there and another that
    /// comes. Two networks of different drivers can, and their containers fail in the kernel.
    pub(super) fn conflict(&self, id: &str, new: &Branch) -> Option<String> {
        if self.parent != new.parent {
            return None;
        }
        let parent = &self.parent;
        match (self.child, new.child) {
            (Child::Macvlan(_), Child::Macvlan(MacvlanMode::Passthru)) => Some(format!(
                "cannot use mode passthru, macvlan network {id} is already using parent interface {parent}"
            )),
            (Child::Macvlan(MacvlanMode::Passthru), Child::Macvlan(_)) => Some(format!(
                "macvlan network {id} is already using parent interface {parent} in mode passthru"
            )),
            (Child::Ipvlan(..), Child::Ipvlan(..)) => {
                let short = id.get(..12).unwrap_or(id);
                Some(format!("network di-{short} is already using parent interface {parent}"))
            }
            _ => None,
        }
    }
}

fn macvlan(options: &BTreeMap<String, String>) -> Result<Child, NetworksError> {
    let mode = match text(options, MACVLAN_MODE) {
        "" | "bridge" => MacvlanMode::Bridge,
        "private" => MacvlanMode::Private,
        "passthru" => MacvlanMode::Passthru,
        "vepa" => MacvlanMode::Vepa,
        other => {
            let text = format!(
                "requested macvlan mode '{other}' is not valid, 'bridge' mode is the macvlan driver default"
            );
            return Err(NetworksError::Driver(text));
        }
    };
    Ok(Child::Macvlan(mode))
}

fn ipvlan(options: &BTreeMap<String, String>) -> Result<Child, NetworksError> {
    let mode = match text(options, IPVLAN_MODE) {
        "" | "l2" => IpvlanMode::L2,
        "l3" => IpvlanMode::L3,
        "l3s" => IpvlanMode::L3s,
        other => {
            let text = format!(
                "requested ipvlan mode '{other}' is not valid, 'l2' mode is the ipvlan driver default"
            );
            return Err(NetworksError::Driver(text));
        }
    };
    let flag = match text(options, IPVLAN_FLAG) {
        "" | "bridge" => IpvlanFlag::Bridge,
        "private" => IpvlanFlag::Private,
        "vepa" => IpvlanFlag::Vepa,
        other => {
            let text = format!(
                "requested ipvlan flag '{other}' is not valid, 'bridge' is the ipvlan driver default"
            );
            return Err(NetworksError::Driver(text));
        }
    };
    Ok(Child::Ipvlan(mode, flag))
}

fn text<'a>(options: &'a BTreeMap<String, String>, key: &str) -> &'a str {
    options.get(key).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef";

    fn read(driver: &str, options: &[(&str, &str)]) -> Result<Link, String> {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let record = NetworkRecord { driver: driver.to_owned(), options, ..NetworkRecord::default() };
        Link::read(ID, &record).map_err(|error| error.to_string())
    }

    fn branch(driver: &str, options: &[(&str, &str)]) -> Branch {
        match read(driver, options) {
            Ok(Link::Child(branch)) => branch,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_of_both_drivers_are_read() {
        let check = |driver: &str, options: &[(&str, &str)], parent: &str, child: Child| {
            let is_own = !options.iter().any(|(key, value)| *key == "parent" && !value.is_empty());
            let expected = Branch { parent: parent.to_owned(), is_own, child };
            assert_eq!(branch(driver, options), expected);
        };
        let bridge = Child::Macvlan(MacvlanMode::Bridge);
        check("macvlan", &[], "dm-0123456789ab", bridge);
        check("macvlan", &[("parent", ""), ("macvlan_mode", "")], "dm-0123456789ab", bridge);
        let passthru = Child::Macvlan(MacvlanMode::Passthru);
        check("macvlan", &[("parent", "eth0"), ("macvlan_mode", "passthru")], "eth0", passthru);
        let l2 = Child::Ipvlan(IpvlanMode::L2, IpvlanFlag::Bridge);
        check("ipvlan", &[("foo", "bar")], "di-0123456789ab", l2);
        let l3s = Child::Ipvlan(IpvlanMode::L3s, IpvlanFlag::Vepa);
        let options = [("parent", "eth0.5"), ("ipvlan_mode", "l3s"), ("ipvlan_flag", "vepa")];
        check("ipvlan", &options, "eth0.5", l3s);
    }

    #[test]
    fn wrong_options_are_told_in_dockerds_words() {
        let check = |driver: &str, key: &str, value: &str, expected: &str| {
            assert_eq!(read(driver, &[(key, value)]).unwrap_err(), expected);
        };
        check(
            "macvlan",
            "macvlan_mode",
            "zzz",
            "requested macvlan mode 'zzz' is not valid, 'bridge' mode is the macvlan driver default",
        );
        check(
            "ipvlan",
            "ipvlan_mode",
            "L2",
            "requested ipvlan mode 'L2' is not valid, 'l2' mode is the ipvlan driver default",
        );
        check(
            "ipvlan",
            "ipvlan_flag",
            "zzz",
            "requested ipvlan flag 'zzz' is not valid, 'bridge' is the ipvlan driver default",
        );
        check("macvlan", "parent", "lo", "loopback interface is not a valid macvlan parent link");
        check("ipvlan", "parent", "lo", "loopback interface is not a valid ipvlan parent link");
    }

    #[test]
    fn a_parent_is_shared_where_dockerd_shares_it() {
        let on = |driver: &str, key: &str, value: &str| branch(driver, &[("parent", "eth0"), (key, value)]);
        let (plain, passthru) =
            (on("macvlan", "macvlan_mode", ""), on("macvlan", "macvlan_mode", "passthru"));
        let ipvlan = on("ipvlan", "ipvlan_mode", "");
        let check = |one: &Branch, new: &Branch, expected: Option<&str>| {
            assert_eq!(one.conflict(ID, new).as_deref(), expected);
        };
        check(&plain, &plain, None);
        check(&plain, &ipvlan, None);
        check(&ipvlan, &passthru, None);
        let there = "macvlan network 0123456789abcdef is already using parent interface eth0";
        check(&plain, &passthru, Some(&format!("cannot use mode passthru, {there}")));
        check(&passthru, &plain, Some(&format!("{there} in mode passthru")));
        check(&ipvlan, &ipvlan, Some("network di-0123456789ab is already using parent interface eth0"));
        check(&ipvlan, &branch("ipvlan", &[("parent", "eth1")]), None);
    }
}
