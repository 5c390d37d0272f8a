//! Which network card is the uplink, read from sysfs.

use std::fs;
use std::path::Path;

use contract::settings::Backend;

use super::wire::Mac;

const ARPHRD_ETHER: &str = "1";

/// In the namespace backend every card is virtual, those that the engine makes for containers too: the host
/// gives the uplink this name.
const NAMESPACE_UPLINK: &str = "eth0";

/// An Ethernet card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its hardware address.
    pub mac: Mac,
}

/// The uplink, if it is there: `held`, as long as it may be one; else the first Ethernet card that is a device (bridges
/// and veth pairs are not). See [`NAMESPACE_UPLINK`] for the other backend.
///
/// Azure's fast network is two cards with one hardware address: a device of the bus below the hypervisor's own, which
/// is its master and alone has addresses. Only the upper one has `lower_…` entries, and comes first.
pub fn uplink(class_net: &Path, backend: Backend, held: Option<&Card>) -> Option<Card> {
    let names = fs::read_dir(class_net).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let wanted = |name: &String| match backend {
        Backend::Vm => {
            let card = class_net.join(name);
            card.join("device").exists() && !card.join("master").exists()
        }
        Backend::Namespace => name == NAMESPACE_UPLINK,
    };
    let cards = names.filter(wanted).filter_map(|name| read(class_net, name));
    cards.min_by_key(|card| (held != Some(card), !has_lower(&class_net.join(&card.name)), card.index))
}

/// Whether a card that is switched on has a link: nothing is heard without. (`carrier` cannot be read while it is off.)
pub fn has_carrier(class_net: &Path, card: &Card) -> bool {
    fs::read_to_string(class_net.join(&card.name).join("carrier")).is_ok_and(|text| text.trim() == "1")
}

fn has_lower(card: &Path) -> bool {
    let entries = fs::read_dir(card).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("lower_"))
}

fn read(class_net: &Path, name: String) -> Option<Card> {
    let field = |field: &str| fs::read_to_string(class_net.join(&name).join(field)).ok();
    if field("type")?.trim() != ARPHRD_ETHER {
        return None;
    }
    let (index, mac) = (field("ifindex")?.trim().parse().ok()?, parse_mac(field("address")?.trim())?);
    Some(Card { name, index, mac })
}

fn parse_mac(text: &str) -> Option<Mac> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(root: &Path, name: &str, index: &str, kind: &str, device: bool) {
        let folder = root.join(name);
        fs::create_dir_all(&folder).unwrap();
        for (field, text) in [("ifindex", index), ("type", kind), ("address", "02:00:00:00:0a:ff\n")] {
            fs::write(folder.join(field), text).unwrap();
        }
        if device {
            fs::create_dir(folder.join("device")).unwrap();
        }
    }

    fn named(root: &Path, held: Option<&Card>) -> Option<String> {
        uplink(root, Backend::Vm, held).map(|card| card.name)
    }

    #[test]
    fn the_first_real_card_is_the_uplink() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(uplink(root.path(), Backend::Vm, None), None);
        card(root.path(), "lo", "1\n", "772\n", false);
        card(root.path(), "docker0", "2\n", "1\n", false);
        assert_eq!(uplink(root.path(), Backend::Vm, None), None);
        card(root.path(), "enp2", "5\n", "1\n", true);
        let held = uplink(root.path(), Backend::Vm, None);
        card(root.path(), "enp1", "4\n", "1\n", true);
        let mac = [2, 0, 0, 0, 10, 255];
        let first = Some(Card { name: "enp1".into(), index: 4, mac });
        assert_eq!(uplink(root.path(), Backend::Vm, None), first);
        assert_eq!(named(root.path(), held.as_ref()).as_deref(), Some("enp2"), "the one that is used stays");
        fs::remove_dir_all(root.path().join("enp2")).unwrap();
        assert_eq!(uplink(root.path(), Backend::Vm, held.as_ref()), first);
        assert_eq!(uplink(root.path(), Backend::Namespace, None), None);
        card(root.path(), "eth0", "3\n", "1\n", false);
        assert_eq!(uplink(root.path(), Backend::Namespace, None).map(|card| card.index), Some(3));
    }

    #[test]
    fn of_two_cards_with_one_address_the_upper_is_the_uplink() {
        let root = tempfile::tempdir().unwrap();
        card(root.path(), "enP1", "2\n", "1\n", true);
        let early = uplink(root.path(), Backend::Vm, None);
        assert_eq!(early.as_ref().map(|card| card.index), Some(2), "nothing shows yet that it is the lower");
        card(root.path(), "eth0", "3\n", "1\n", true);
        fs::create_dir(root.path().join("eth0/lower_enP1")).unwrap();
        assert_eq!(named(root.path(), None).as_deref(), Some("eth0"));
        fs::create_dir(root.path().join("enP1/master")).unwrap();
        assert_eq!(
            named(root.path(), early.as_ref()).as_deref(),
            Some("eth0"),
            "one with a master is given up"
        );
    }

    #[test]
    fn a_carrier_is_told() {
        let root = tempfile::tempdir().unwrap();
        card(root.path(), "eth0", "3\n", "1\n", true);
        let eth0 = uplink(root.path(), Backend::Vm, None).unwrap();
        for (text, want) in [(None, false), (Some("0\n"), false), (Some("1\n"), true)] {
            if let Some(text) = text {
                fs::write(root.path().join("eth0/carrier"), text).unwrap();
            }
            assert_eq!(has_carrier(root.path(), &eth0), want);
        }
    }
}
