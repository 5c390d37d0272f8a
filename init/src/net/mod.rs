//! The uplink: finding the card, giving it an address, keeping the lease. It runs inside the keeper's loop and
//! never holds up the boot; what goes wrong is a line on the console and is tried again.
//!
//! ```text
//!            a card comes                 begun
//!   no card ──────────────► begin ──────────────────► configured, or a DHCP exchange
//!      ▲                     │  ▲ after a while             │ address refused
//!      │                     ▼  │                           │
//!      └─ the card goes ─── failed ◄────────────────────────┘
//! ```
//!
//! Networks of containers are not here: they are the engine's.

mod card;
mod changes;
mod dhcp;
mod exchange;
pub mod link;
mod resolver;
mod wire;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use contract::paths::RESOLV_CONF;
use contract::settings::{Backend, Net, Settings};
use rustix::time::{ClockId, clock_gettime};

use crate::messages::{chain, say};
use card::Card;
use changes::Step;
use dhcp::{Act, Lease, Moment};
use exchange::Exchange;
use wire::Options;

const CLASS_NET: &str = "/sys/class/net";

/// After a card could not be configured; each further time doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// Why the uplink has no configuration.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The kernel refused a setting.
    #[error("network card {card}: cannot {what}")]
    Configure {
        /// The card's name.
        card: String,
        /// What was tried.
        what: String,
        /// The kernel's word.
        source: io::Error,
    },
}

/// The card in use.
#[derive(Debug)]
struct Attached {
    card: Card,
    carrier: bool,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    /// It is begun again at `again`.
    Failed { again: Moment, pause: Duration },
    /// By the settings: nothing is left to do.
    Configured,
    /// By DHCP.
    Asking(Box<Exchange>),
}

/// See the module.
#[derive(Debug)]
pub struct Uplink {
    net: Net,
    backend: Backend,
    keep_hostname: bool,
    links: Option<OwnedFd>,
    attached: Option<Attached>,
}

impl Uplink {
    /// Begins to look for the card.
    pub fn new(settings: &Settings) -> Uplink {
        let links = match settings.net {
            Net::None => None,
            _ => link::watch().map_err(|error| say!("network: cannot watch for cards: {error}")).ok(),
        };
        let keep_hostname = settings.hostname.is_some();
        Uplink { net: settings.net, backend: settings.backend, keep_hostname, links, attached: None }
    }

    /// Readable when the card came, changed or went; `None` when nobody waits for one.
    pub fn links(&self) -> Option<BorrowedFd<'_>> {
        self.links.as_ref().map(AsFd::as_fd)
    }

    /// Readable when a DHCP packet came.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.exchange().into_iter().flat_map(Exchange::sockets)
    }

    /// When [`Uplink::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let due = match &self.attached.as_ref()?.progress {
            Progress::Failed { again, .. } => *again,
            Progress::Configured => return None,
            Progress::Asking(exchange) => exchange.client.deadline(),
        };
        Some(Instant::now() + due.saturating_sub(since_boot()))
    }

    fn exchange(&self) -> Option<&Exchange> {
        match &self.attached.as_ref()?.progress {
            Progress::Asking(exchange) => Some(exchange),
            _ => None,
        }
    }

    fn exchange_mut(&mut self) -> Option<&mut Exchange> {
        match &mut self.attached.as_mut()?.progress {
            Progress::Asking(exchange) => Some(exchange),
            _ => None,
        }
    }

    /// Looks which card there is, and whether it has a link.
    pub fn look(&mut self) {
        if let Some(links) = &self.links {
            link::drain(links.as_fd());
        }
        if self.net == Net::None {
            return;
        }
        let held = self.attached.as_ref().map(|attached| &attached.card);
        match card::uplink(Path::new(CLASS_NET), self.backend, held) {
            Some(card) if Some(&card) == held => self.look_at_carrier(),
            found => {
                self.let_go();
                if let Some(card) = found {
                    self.attach(card);
                }
            }
        }
    }

    /// A link that is there again may lead to another network, and whoever waited need not wait any longer.
    fn look_at_carrier(&mut self) {
        let Some(attached) = &mut self.attached else { return };
        let carrier = card::has_carrier(Path::new(CLASS_NET), &attached.card);
        let returned = carrier && !std::mem::replace(&mut attached.carrier, carrier);
        if returned {
            self.look_again();
        }
    }

    /// Time has passed that nobody counted, or the link is there again: the address may be another's by now.
    pub fn look_again(&mut self) {
        let now = since_boot();
        match self.attached.as_mut().map(|attached| &mut attached.progress) {
            Some(Progress::Asking(exchange)) => exchange.client.look_again(now),
            Some(Progress::Failed { again, .. }) => *again = now,
            Some(Progress::Configured) | None => {}
        }
    }

    /// What the card had went with it.
    fn let_go(&mut self) {
        let Some(gone) = self.attached.take() else { return };
        say!("network card {} is gone", gone.card.name);
        self.filter(sys::link_layer::every_card);
    }

    fn attach(&mut self, card: Card) {
        // From here on only of this card: each container's cables come and go, too.
        let index = card.index;
        self.filter(|links| sys::link_layer::only_card(links, index));
        let progress = self.begin(&card, FIRST_PAUSE);
        let carrier = card::has_carrier(Path::new(CLASS_NET), &card);
        self.attached = Some(Attached { card, carrier, progress });
    }

    /// Without the filter more is heard than is of use, which is no harm.
    fn filter(&self, set: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>) {
        if let Some(Err(error)) = self.links().map(set) {
            say!("network: cannot choose which cards to watch: {error}");
        }
    }

    fn begin(&self, card: &Card, pause: Duration) -> Progress {
        self.try_begin(card).unwrap_or_else(|error| {
            say!("{}; tried again in {} s", chain(&error), pause.as_secs());
            Progress::Failed { again: since_boot() + pause, pause }
        })
    }

    fn try_begin(&self, card: &Card) -> Result<Progress, NetError> {
        accept_router_advertisements(&card.name);
        link::up(card.index, None).map_err(|source| failed(card, "switch it on", source))?;
        match self.net {
            Net::None => Ok(Progress::Configured),
            Net::Static { address, prefix, gateway, dns } => {
                let options = Options { router: Some(gateway), dns: vec![dns], ..Options::default() };
                let steps = changes::between(None, &Lease { address, prefix, options });
                self.configure(card, steps).map(|()| Progress::Configured)
            }
            Net::Dhcp => Exchange::begin(card, since_boot())
                .map(|exchange| Progress::Asking(Box::new(exchange)))
                .map_err(|source| failed(card, "open a DHCP socket", source)),
        }
    }

    /// Time passes.
    pub fn tick(&mut self) {
        let now = since_boot();
        match &mut self.attached {
            Some(Attached { card, progress: Progress::Failed { again, pause }, .. }) if now >= *again => {
                let (card, pause) = (card.clone(), (*pause * 2).min(LONGEST_PAUSE));
                let progress = self.begin(&card, pause);
                self.set_progress(progress);
            }
            Some(Attached { progress: Progress::Asking(exchange), .. }) => {
                let acts = exchange.client.tick(now);
                self.perform(acts);
            }
            _ => {}
        }
    }

    fn set_progress(&mut self, progress: Progress) {
        if let Some(attached) = &mut self.attached {
            attached.progress = progress;
        }
    }

    /// Packets came. No more at a time than this, lest a flood of them holds up the keeper.
    pub fn receive(&mut self) {
        for _ in 0..64 {
            let Some(exchange) = self.exchange_mut() else { return };
            let Some(packet) = exchange.receive() else { return };
            let acts = exchange.client.receive(&packet, since_boot());
            self.perform(acts);
        }
    }

    fn perform(&mut self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Send { bytes, to } => {
                    self.exchange().into_iter().for_each(|exchange| exchange.send(&bytes, to));
                }
                Act::Apply { before, lease } => self.apply(before.as_ref(), &lease),
                Act::Lost(lease) => self.lose(&lease),
            }
        }
        if let Some(Attached { card, progress: Progress::Asking(exchange), .. }) = &mut self.attached {
            exchange.prick_ears(card);
        }
    }

    fn apply(&mut self, before: Option<&Lease>, lease: &Lease) {
        let Some(card) = self.attached.as_ref().map(|attached| attached.card.clone()) else { return };
        let steps = changes::between(before, lease);
        let moved = steps.contains(&Step::AddAddress(lease.address, lease.prefix));
        match self.configure(&card, steps) {
            Ok(()) if moved => say!("network: {}/{} by DHCP", lease.address, lease.prefix),
            Ok(()) => {}
            Err(error) => {
                say!("{}; asked again in {} s", chain(&error), LONGEST_PAUSE.as_secs());
                let again = since_boot() + LONGEST_PAUSE;
                self.set_progress(Progress::Failed { again, pause: LONGEST_PAUSE });
            }
        }
    }

    /// Does every step. Only a card without an address is a failure: what else the kernel refuses (a route of a careless
    /// server) is told, and the rest is of use all the same.
    fn configure(&self, card: &Card, steps: Vec<Step>) -> Result<(), NetError> {
        let mut outcome = Ok(());
        for step in steps {
            let needed = matches!(step, Step::AddAddress(..));
            match self.take(card, step) {
                Err(error) if needed => outcome = Err(error),
                Err(error) => say!("{}", chain(&error)),
                Ok(()) => {}
            }
        }
        outcome
    }

    fn take(&self, card: &Card, step: Step) -> Result<(), NetError> {
        let index = card.index;
        let (done, what) = match step {
            Step::RemoveAddress(address, prefix) => {
                (link::remove_address(index, address, prefix), format!("remove {address}/{prefix}"))
            }
            Step::Mtu(mtu) => (link::up(index, Some(mtu)), format!("set the mtu to {mtu}")),
            Step::AddAddress(address, prefix) => {
                (link::add_address(index, address, prefix), format!("set the address {address}/{prefix}"))
            }
            Step::RemoveRoute(route) => (link::remove_route(index, route), route_words("remove", route)),
            Step::SetRoute(route) => (link::set_route(index, route), route_words("set", route)),
            Step::Resolver(servers, domain) => {
                let written = resolver::write(Path::new(RESOLV_CONF), &servers, domain.as_deref());
                (written, format!("write {RESOLV_CONF}"))
            }
            Step::HostName(_) if self.keep_hostname => return Ok(()),
            Step::HostName(name) => {
                let short = name.split('.').next().unwrap_or(&name);
                let set = rustix::system::sethostname(short.as_bytes()).map_err(io::Error::from);
                (set, format!("name the machine {short}"))
            }
        };
        done.map_err(|source| failed(card, what, source))
    }

    fn lose(&self, lease: &Lease) {
        let Some(Attached { card, .. }) = &self.attached else { return };
        say!("network: {} is no longer ours", lease.address);
        if let Err(error) = self.take(card, Step::RemoveAddress(lease.address, lease.prefix)) {
            say!("{}", chain(&error));
        }
    }
}

fn failed(card: &Card, what: impl Into<String>, source: io::Error) -> NetError {
    NetError::Configure { card: card.name.clone(), what: what.into(), source }
}

fn route_words(verb: &str, (destination, prefix, gateway): changes::Route) -> String {
    format!("{verb} the route to {destination}/{prefix} by {gateway}")
}

/// See [`Moment`].
fn since_boot() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// 2: even when the engine makes this machine a router (Documentation/networking/ip-sysctl). All other cards leave it
/// at 0. Without IPv6 in the kernel there is no such file, and nothing to accept.
fn accept_router_advertisements(card: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{card}/accept_ra");
    if Path::new(&path).exists()
        && let Err(error) = std::fs::write(&path, "2")
    {
        say!("network card {card}: no IPv6 by router advertisement: {error}");
    }
}
