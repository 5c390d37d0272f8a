//! The interfaces of the machine on which networks are: one that is there is used as it is; a VLAN that is named after its
//! interface, `eth0.50`, and the dummy of a network without a parent are made, and removed with the last network on them.

use std::sync::Arc;

use runtime::network::{Errno, NetworkError, Parent, Route};

use super::error::NetworksError;
use super::link::{Branch, Link};
use super::network::Network;

/// A name that asks for a VLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Vlan {
    over: String,
    id: i64,
}

impl Vlan {
    /// Reads `eth0.50`. The number is any; [`Vlan::number`] says whether it can be.
    fn parse(name: &str) -> Result<Vlan, String> {
        if !name.contains('.') {
            return Err(format!("invalid subinterface vlan name {name}, example formatting is eth0.10"));
        }
        let parts: Vec<&str> = name.split('.').collect();
        let [over, number] = parts[..] else {
            return Err(format!(
                "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {name}"
            ));
        };
        let unreadable =
            || format!("unable to parse a valid vlan id from: {number} (ex. eth0.10 for vlan 10)");
        Ok(Vlan { over: over.to_owned(), id: number.parse().map_err(|_| unreadable())? })
    }

    fn number(&self) -> Result<u16, String> {
        let out_of_range = || format!("vlan id must be between 1-4094, received: {}", self.id);
        let number = u16::try_from(self.id).ok().filter(|id| (1..=4094).contains(id));
        number.ok_or_else(out_of_range)
    }
}

/// The parent of a network; it is made where it is missing and can be made.
///
/// # Errors
/// dockerd's words about what cannot be a parent.
pub(super) fn ensure(route: &Route, driver: &str, branch: &Branch) -> Result<Parent, NetworksError> {
    let name = &branch.parent;
    if let Some(parent) = Parent::find(route, name)? {
        return Ok(parent);
    }
    let made = if branch.is_own {
        let none = "this kernel has no dummy interfaces: name one of the machine's by the option \"parent\"";
        Parent::make_dummy(route, name)
            .map_err(|error| refused(&format!("{name} dummy link"), none, &error))?
    } else {
        let vlan = Vlan::parse(name).map_err(NetworksError::Driver)?;
        let missing =
            || NetworksError::Driver(format!("-o parent interface was not found on the host: {}", vlan.over));
        let over = Parent::find(route, &vlan.over)?.ok_or_else(missing)?;
        let number = vlan.number().map_err(NetworksError::Driver)?;
        let none = "this kernel has no VLANs: name an interface that is there";
        let made = Parent::make_vlan(route, name, &over, number);
        made.map_err(|error| refused(&format!("{name} vlan link"), none, &error))?
    };
    let failed = |error: NetworkError| {
        NetworksError::Driver(format!("failed to enable {name} the {driver} parent link {}", go(&error)))
    };
    made.bring_up(route).map_err(failed)?;
    Ok(made)
}

/// The parent as a start needs it. One that was made here is made again where somebody removed it, or where the interface
/// below was not there yet when the engine came.
///
/// # Errors
/// It is not there.
pub(super) fn find(route: &Route, driver: &str, branch: &Branch) -> Result<Parent, NetworksError> {
    ensure(route, driver, branch).map_err(|error| {
        tracing::debug!(parent = branch.parent, %error, "a parent interface is not there");
        let text =
            format!("the requested parent interface {} was not found on the Docker host", branch.parent);
        NetworksError::Driver(text)
    })
}

/// Removes the parent of a network that is gone, if it was made here and none of the `others` is on it.
pub(super) fn remove(route: &Route, branch: &Branch, others: &[Arc<Network>]) -> Result<(), NetworksError> {
    let is_on_it =
        |other: &Arc<Network>| matches!(&other.link, Link::Child(on) if on.parent == branch.parent);
    match others.iter().any(is_on_it) {
        true => Ok(()),
        false => Ok(Parent::remove_made(route, &branch.parent)?),
    }
}

fn refused(what: &str, unsupported: &str, error: &NetworkError) -> NetworksError {
    let hint = match error.errno() == Some(Errno::OPNOTSUPP) {
        true => format!(" ({unsupported})"),
        false => String::new(),
    };
    NetworksError::Driver(format!("failed to create {what}: {}{hint}", go(error)))
}

/// The kernel's error in Go's words.
pub(super) fn go(error: &NetworkError) -> String {
    let text = error.errno().map(|errno| std::io::Error::from(errno).to_string());
    model::in_go_words(&text.unwrap_or_else(|| error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_vlans_are_read() {
        let check = |name: &str, expected: Result<(&str, u16), &str>| {
            let got = Vlan::parse(name).and_then(|vlan| Ok((vlan.over.clone(), vlan.number()?)));
            let got = got.as_ref().map(|(over, id)| (over.as_str(), *id)).map_err(String::as_str);
            assert_eq!(got, expected);
        };
        check("eth0.50", Ok(("eth0", 50)));
        check("eth0.4094", Ok(("eth0", 4094)));
        check("eth0", Err("invalid subinterface vlan name eth0, example formatting is eth0.10"));
        check("eth0.0", Err("vlan id must be between 1-4094, received: 0"));
        check("eth0.5000", Err("vlan id must be between 1-4094, received: 5000"));
        check("eth0.-1", Err("vlan id must be between 1-4094, received: -1"));
        check("eth0.x", Err("unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)"));
        check(
            "a.1.2",
            Err(
                "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received a.1.2",
            ),
        );
    }
}
