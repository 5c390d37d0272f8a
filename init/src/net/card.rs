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

/// The uplink, if it is there: the first Ethernet card that is a device (bridges and veth pairs are not); see
/// [`NAMESPACE_UPLINK`] for the other backend.
pub fn uplink(class_net: &Path, backend: Backend) -> Option<Card> {
    let names = fs::read_dir(class_net).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let wanted = |name: &String| match backend {
        Backend::Vm => class_net.join(name).join("device").exists(),
        Backend::Namespace => name == NAMESPACE_UPLINK,
    };
    names.filter(wanted).filter_map(|name| read(class_net, name)).min_by_key(|card| card.index)
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

    #[test]
    fn the_first_real_card_is_the_uplink() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(uplink(root.path(), Backend::Vm), None);
        card(root.path(), "lo", "1\n", "772\n", false);
        card(root.path(), "docker0", "2\n", "1\n", false);
        assert_eq!(uplink(root.path(), Backend::Vm), None);
        card(root.path(), "enp2", "5\n", "1\n", true);
        card(root.path(), "enp1", "4\n", "1\n", true);
        let mac = [2, 0, 0, 0, 10, 255];
        assert_eq!(uplink(root.path(), Backend::Vm), Some(Card { name: "enp1".into(), index: 4, mac }));
        assert_eq!(uplink(root.path(), Backend::Namespace), None);
        card(root.path(), "eth0", "3\n", "1\n", false);
        assert_eq!(uplink(root.path(), Backend::Namespace).map(|card| card.index), Some(3));
    }
}
