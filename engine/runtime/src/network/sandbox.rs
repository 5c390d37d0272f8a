//! A network namespace for a container, made before its first process.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use super::link::{self, LinkHeader, Route};
use super::message::Batch;
use super::netlink::NetworkError;
use crate::ids::IdMap;
use crate::userns;

/// Settings of a new namespace, by file below /proc/sys/net. The first two let users ping and bind any port
/// without a capability, as Docker does.
const SETTINGS: [(&str, &str); 3] = [
    ("ipv4/ping_group_range", "0 2147483647"),
    ("ipv4/ip_unprivileged_port_start", "0"),
    // An interface that comes up tells its neighbours its hardware address.
    ("ipv4/conf/default/arp_notify", "1"),
];

/// Interfaces made later are without IPv6; the loopback interface keeps `::1`.
const WITHOUT_IPV6: (&str, &str) = ("ipv6/conf/default/disable_ipv6", "1");

/// The number of the loopback interface in every namespace (net/core/dev.c).
const LOOPBACK: u32 = 1;

/// A network namespace, held by its descriptor. When this and every process in it are gone, so is it, and with it
/// every interface it has and the other ends of their pairs.
#[derive(Debug)]
pub struct Sandbox {
    netns: OwnedFd,
    user: Option<OwnedFd>,
    route: Route,
}

impl Sandbox {
    /// Makes a namespace with a working loopback interface and the settings of a container's. It belongs to the user
    /// namespace `user`, or else to the engine's.
    ///
    /// # Errors
    /// No permission, no memory, or /proc/sys is not writable.
    pub fn create(user: Option<OwnedFd>) -> Result<Sandbox, NetworkError> {
        apart(|| create_here(user))
    }

    /// Takes over a namespace that was kept elsewhere, for example while the engine was restarted.
    ///
    /// # Errors
    /// `netns` is no network namespace, or may not be entered.
    pub fn adopt(netns: OwnedFd) -> Result<Sandbox, NetworkError> {
        let route = apart(|| {
            enter(netns.as_fd())?;
            Route::open()
        })?;
        Ok(Sandbox { netns, user: None, route })
    }

    /// The namespace, for setns(2) or for clone3's child.
    #[must_use]
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }

    /// Lets one of its interfaces have IPv6 addresses.
    ///
    /// # Errors
    /// A kernel without IPv6.
    pub(super) fn allow_ipv6(&self, interface: &str) -> Result<(), NetworkError> {
        apart(|| {
            enter(self.netns())?;
            allow_ipv6_here(interface)
        })
    }

    /// Its links.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// Gives the descriptors away: the namespace's, and that of the user namespace it was made for.
    #[must_use]
    pub fn into_namespaces(self) -> (OwnedFd, Option<OwnedFd>) {
        (self.netns, self.user)
    }
}

/// Lets an interface of the calling thread's network namespace have IPv6 addresses, and none that a router tells it.
pub(super) fn allow_ipv6_here(interface: &str) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Namespace { action: "allowing IPv6", source };
    for (name, value) in [("accept_ra", "0"), ("disable_ipv6", "0")] {
        set(&format!("ipv6/conf/{interface}/{name}"), value).map_err(failed)?;
    }
    Ok(())
}

/// Runs `work` in a thread of its own, so that the caller never leaves its network namespace.
pub(super) fn apart<T: Send>(
    work: impl FnOnce() -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).stack_size(128 * 1024);
        let thread = thread.spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// [`Sandbox::create`] in the calling thread, which is in the new namespace afterwards.
pub(super) fn create_here(user: Option<OwnedFd>) -> Result<Sandbox, NetworkError> {
    let failed = |action| move |source| NetworkError::Namespace { action, source };
    let netns = match &user {
        None => {
            sys::netns::unshare().map_err(failed("making a network namespace"))?;
            sys::netns::current().map_err(failed("opening the new network namespace"))?
        }
        Some(user) => {
            let netns = userns::network(user.as_fd()).map_err(failed("making a network namespace"))?;
            enter(netns.as_fd())?;
            netns
        }
    };
    let route = Route::open()?;
    let mut batch = Batch::default();
    let up = LinkHeader::up(LOOPBACK).bytes();
    batch.add("bringing up the loopback interface", link::SET_LINK, 0, &up, |a| a);
    route.tell(&mut batch)?;
    for (name, value) in SETTINGS {
        set(name, value).map_err(failed("setting up the new network namespace"))?;
    }
    // A kernel without IPv6 has no such file.
    match set(WITHOUT_IPV6.0, WITHOUT_IPV6.1) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("setting up the new network namespace")(error))
        }
        _ => Ok(Sandbox { netns, user, route }),
    }
}

/// A user namespace for a sandbox of containers with `ids`.
pub(super) fn owner(ids: IdMap) -> Result<Option<OwnedFd>, NetworkError> {
    let failed = |source| NetworkError::Namespace { action: "making a user namespace", source };
    ids.is_mapped().then(|| userns::create(ids)).transpose().map_err(failed)
}

/// Puts the calling thread into `netns`.
pub(super) fn enter(netns: BorrowedFd<'_>) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Namespace { action: "entering a network namespace", source };
    sys::netns::enter(netns).map_err(failed)
}

/// Sets a value of the calling thread's network namespace; /proc/sys/net shows each thread its own.
fn set(name: &str, value: &str) -> std::io::Result<()> {
    // Without O_CREAT: a missing setting is "not found" then, not "permission denied".
    let mut file = fs::OpenOptions::new().write(true).open(format!("/proc/sys/net/{name}"))?;
    std::io::Write::write_all(&mut file, value.as_bytes())
}
