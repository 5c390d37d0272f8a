//! Published ports: which of the host's numbers lead to which container, while its run goes on.
//!
//! ```text
//!   start ── publish ──► book (who has it) ──► door (the host listens) ──► rules in the machine (gateway:port)
//!   end ──── release ──► the same, backwards
//! ```
//!
//! A host that is connected decides whether a number is free, and which one where any will do; without one the book does. What
//! is in the book is said again to every host that connects, and to the packet filter when it was made anew. It knows no
//! containers: whose a port is, is an id.

mod door;
mod wanted;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard};

use contract::carrier::Protocol;
use contract::door::{Answer, HostAddress, Publication, Refusal, Request};
use runtime::network::{self, Firewall, NetworkError, Transport};
use serde::{Deserialize, Serialize};

use model::ErrorKind;

pub use door::{Door, Server};
pub use wanted::{Binding, Wanted, wanted};

/// A port of a run, as long as that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// What is spoken.
    pub protocol: Protocol,
    /// The container's number.
    pub container: u16,
    /// Where the host listens; all addresses of both kinds where there is none.
    pub host: Option<IpAddr>,
    /// The host's number.
    pub port: u16,
}

/// Why a port is not published. Words are dockerd's.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// Another container has it.
    #[error("Bind for {host}:{port} failed: port is already allocated")]
    Allocated {
        /// Of the host.
        host: IpAddr,
        /// The number.
        port: u16,
    },
    /// All of them are another container's.
    #[error("Bind for {host}:{first}-{last} failed: all ports are allocated")]
    AllAllocated {
        /// Of the host.
        host: IpAddr,
        /// The first number of the range.
        first: u16,
        /// The last.
        last: u16,
    },
    /// The host does not open it.
    #[error("failed to bind host port for {host}:{port}:{target}/{protocol}: {why}")]
    Host {
        /// Of the host.
        host: IpAddr,
        /// The number; 0 for any.
        port: u16,
        /// The container's.
        target: SocketAddr,
        /// What is spoken.
        protocol: Protocol,
        /// The host's words.
        why: String,
    },
    /// The machine's packet filter refused.
    #[error(transparent)]
    Kernel(#[from] NetworkError),
}

impl PortsError {
    /// For the server's status map.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// First and last number that is given where any will do and no host says which: Linux' default of ip_local_port_range.
const EPHEMERAL: (u16, u16) = (32768, 60999);

/// All published ports.
pub struct Ports {
    book: Arc<Mutex<Book>>,
    door: Door,
}

/// Who has which port.
#[derive(Default)]
struct Book {
    /// By the run's name.
    runs: BTreeMap<String, Run>,
    /// The packet filter is there.
    filtered: bool,
}

struct Run {
    address: IpAddr,
    ports: Vec<Published>,
    /// How many of them are open. The one behind these is being asked for, and no host that connects is told of it.
    open: usize,
}

impl Ports {
    /// Without any; the host's door is served by the second value.
    pub fn new() -> (Arc<Ports>, door::Server) {
        let book = Arc::new(Mutex::new(Book::default()));
        let said_again = book.clone();
        let (door, server) = door::new(move || said_again.lock().expect(HELD).publications());
        (Arc::new(Ports { book, door }), server)
    }

    /// Opens all ports of a run or none. Blocks until the host has answered.
    ///
    /// # Errors
    /// One cannot be had.
    pub fn publish(
        &self,
        run: &str,
        address: IpAddr,
        wanted: &[Wanted],
    ) -> Result<Vec<Published>, PortsError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        self.book().runs.insert(run.to_owned(), Run { address, ports: Vec::new(), open: 0 });
        let opened = wanted.iter().try_for_each(|port| self.open(run, address, port));
        let opened = opened.and_then(|()| self.lead(run));
        match opened {
            Ok(()) => Ok(self.of(run)),
            Err(error) => {
                self.release(run);
                Err(error)
            }
        }
    }

    /// Closes the ports of a run. Blocks until the host has answered.
    pub fn release(&self, run: &str) {
        let rules = {
            let book = self.book();
            let Some(run) = book.runs.get(run) else { return };
            if book.filtered { rules(run) } else { Vec::new() }
        };
        if let Err(error) = Firewall.unpublish(&rules) {
            tracing::debug!(run, %error, "the packet filter did not lead to the container");
        }
        // Until the host has closed it, nobody else is given the number.
        for port in self.of(run) {
            let Published { protocol, host, port, .. } = port;
            drop(self.door.ask(Request::Release { protocol, host: address_of(host), port }));
        }
        self.book().runs.remove(run);
    }

    /// A run that an engine before this one began keeps its ports.
    pub fn resume(&self, run: &str, address: IpAddr, ports: Vec<Published>) {
        let mut book = self.book();
        let resumed = Run { address, open: ports.len(), ports };
        if book.filtered
            && let Err(error) = Firewall.publish(&rules(&resumed))
        {
            tracing::error!(run, %error, "the packet filter does not lead to a container");
        }
        book.runs.insert(run.to_owned(), resumed);
    }

    /// The packet filter was made anew: what is in the book is put into it, now and from now on.
    pub fn bring_up(&self) {
        let mut book = self.book();
        book.filtered = true;
        let rules: Vec<_> = book.runs.values().flat_map(rules).collect();
        if let Err(error) = Firewall.publish(&rules) {
            tracing::error!(%error, "the packet filter does not lead to containers");
        }
    }

    /// Asks for one port and writes it into the book, where it is taken from the first moment.
    fn open(&self, run: &str, address: IpAddr, wanted: &Wanted) -> Result<(), PortsError> {
        let host = wanted.host.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let (protocol, target) = (wanted.protocol, SocketAddr::new(address, wanted.container));
        let mut refused = None;
        for first in wanted.first..=wanted.last {
            let port = match self.take(run, wanted, first) {
                Ok(port) => port,
                Err(holder) => {
                    refused.get_or_insert(PortsError::Allocated { host: holder, port: first });
                    continue;
                }
            };
            let Err((why, text)) = self.ask(run, address, wanted, port) else { return Ok(()) };
            self.book().give_back(run);
            refused = Some(PortsError::Host { host, port: first, target, protocol, why: words(why, text) });
            if why != Refusal::InUse {
                break;
            }
        }
        let (first, last) = (wanted.first, wanted.last);
        Err(match refused {
            Some(PortsError::Allocated { .. }) if first < last => {
                PortsError::AllAllocated { host, first, last }
            }
            Some(refused) => refused,
            None => PortsError::AllAllocated { host, first, last },
        })
    }

    /// Has the host open what was taken.
    fn ask(&self, run: &str, address: IpAddr, wanted: &Wanted, port: u16) -> Result<(), (Refusal, String)> {
        let target = SocketAddr::new(address, wanted.container);
        let (protocol, host) = (wanted.protocol, address_of(wanted.host));
        let publish = |port| {
            self.door.ask(Request::Publish(Publication { protocol, host, first: port, last: port, target }))
        };
        match publish(if wanted.first == 0 { 0 } else { port }) {
            Some(Answer::Port(number)) => self.book().opened(run, number),
            Some(Answer::Refused { why, text }) => return Err((why, text)),
            Some(Answer::Done | Answer::Changed) => {
                return Err((Refusal::Failed, "the host did not say by which number".to_owned()));
            }
            None => {
                self.book().opened(run, port);
                // A host that has connected in between was not told.
                if self.door.is_open() {
                    drop(publish(port));
                }
            }
        }
        Ok(())
    }

    /// Takes this number, or any for 0, in the book; or the address of whoever has it.
    fn take(&self, run: &str, wanted: &Wanted, number: u16) -> Result<u16, IpAddr> {
        let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        let mut book = self.book();
        let (protocol, host) = (wanted.protocol, wanted.host);
        let port = match number {
            0 => {
                let mut all = EPHEMERAL.0..=EPHEMERAL.1;
                all.find(|port| book.holder(protocol, host, *port).is_none()).ok_or(any)?
            }
            number => match book.holder(protocol, host, number) {
                Some(other) => return Err(other.host.unwrap_or(any)),
                None => number,
            },
        };
        let taken = Published { protocol, container: wanted.container, host, port };
        book.runs.get_mut(run).ok_or(any)?.ports.push(taken);
        Ok(port)
    }

    /// Leads containers and the machine itself to the run.
    fn lead(&self, run: &str) -> Result<(), PortsError> {
        let book = self.book();
        match book.runs.get(run) {
            Some(run) if book.filtered => Ok(Firewall.publish(&rules(run))?),
            _ => Ok(()),
        }
    }

    fn of(&self, run: &str) -> Vec<Published> {
        self.book().runs.get(run).map(|run| run.ports.clone()).unwrap_or_default()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect(HELD)
    }
}

const HELD: &str = "no holder of the book of ports panics";

impl Book {
    /// Who is in the way of a listener.
    fn holder(&self, protocol: Protocol, host: Option<IpAddr>, port: u16) -> Option<&Published> {
        let mut all = self.runs.values().flat_map(|run| &run.ports);
        all.find(|other| other.protocol == protocol && other.port == port && overlap(other.host, host))
    }

    /// The last that was taken is not to be had.
    fn give_back(&mut self, run: &str) {
        if let Some(run) = self.runs.get_mut(run) {
            run.ports.truncate(run.open);
        }
    }

    /// The last that was taken is open, by this number.
    fn opened(&mut self, run: &str, number: u16) {
        if let Some(run) = self.runs.get_mut(run)
            && let Some(port) = run.ports.get_mut(run.open)
        {
            port.port = number;
            run.open += 1;
        }
    }

    /// What a host that connects is told.
    fn publications(&self) -> Vec<Publication> {
        let of_run = |run: &Run| {
            let address = run.address;
            let publication = move |port: &Published| Publication {
                protocol: port.protocol,
                host: address_of(port.host),
                first: port.port,
                last: port.port,
                target: SocketAddr::new(address, port.container),
            };
            run.ports[..run.open].iter().map(publication).collect::<Vec<_>>()
        };
        self.runs.values().flat_map(of_run).collect()
    }
}

fn address_of(host: Option<IpAddr>) -> HostAddress {
    host.map_or(HostAddress::All, HostAddress::One)
}

/// Whether two listeners on the same number would be in each other's way.
fn overlap(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    match (one, other) {
        (None, _) | (_, None) => true,
        (Some(one), Some(other)) => {
            one.is_ipv4() == other.is_ipv4()
                && (one == other || one.is_unspecified() || other.is_unspecified())
        }
    }
}

/// What the machine's packet filter is told: of IPv4 alone. A loopback address is the host's own, which nobody in the machine
/// has to do with.
fn rules(run: &Run) -> Vec<network::Published> {
    let IpAddr::V4(target) = run.address else { return vec![] };
    let rule = |port: &Published| {
        let address = match port.host {
            None => None,
            Some(IpAddr::V4(address)) if address.is_unspecified() => None,
            Some(IpAddr::V4(address)) if !address.is_loopback() => Some(address),
            Some(_) => return None,
        };
        Some(network::Published {
            transport: match port.protocol {
                Protocol::Tcp => Transport::Tcp,
                Protocol::Udp => Transport::Udp,
            },
            address,
            port: port.port,
            target: SocketAddrV4::new(target, port.container),
        })
    };
    run.ports.iter().filter_map(rule).collect()
}

/// Go's words for the kernel's.
fn words(why: Refusal, text: String) -> String {
    match why {
        Refusal::InUse => "address already in use".to_owned(),
        Refusal::Denied => "permission denied".to_owned(),
        Refusal::NoAddress => "cannot assign requested address".to_owned(),
        Refusal::Unknown => "the host program is of a release that publishes no ports".to_owned(),
        Refusal::Failed => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(host: &str, first: u16, last: u16) -> Wanted {
        Wanted { protocol: Protocol::Tcp, container: 80, host: host.parse().ok(), first, last }
    }

    fn numbers(ports: &[Published]) -> Vec<u16> {
        ports.iter().map(|port| port.port).collect()
    }

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 2));

    #[test]
    fn without_a_host_the_book_decides() {
        let (ports, _server) = Ports::new();
        let publish = |run: &str, wanted: &[Wanted]| ports.publish(run, ADDRESS, wanted);
        assert_eq!(numbers(&publish("a", &[want("", 8080, 8080)]).unwrap()), [8080]);
        let check = |wanted: Wanted, expected: &str| {
            assert_eq!(publish("x", &[want("", 9000, 9000), wanted]).unwrap_err().to_string(), expected);
        };
        check(want("", 8080, 8080), "Bind for 0.0.0.0:8080 failed: port is already allocated");
        check(want("127.0.0.1", 8080, 8080), "Bind for 0.0.0.0:8080 failed: port is already allocated");
        check(want("", 9000, 9000), "Bind for 0.0.0.0:9000 failed: port is already allocated");
        // What failed has left nothing behind.
        assert_eq!(numbers(&publish("b", &[want("", 9000, 9000)]).unwrap()), [9000]);
        assert_eq!(numbers(&publish("c", &[want("", 8080, 8090)]).unwrap()), [8081]);
        assert_eq!(numbers(&publish("d", &[want("", 0, 0), want("", 0, 0)]).unwrap()), [32768, 32769]);
        let udp = Wanted { protocol: Protocol::Udp, ..want("", 8080, 8080) };
        assert_eq!(numbers(&publish("e", &[udp]).unwrap()), [8080]);
        ports.release("a");
        assert_eq!(numbers(&publish("f", &[want("", 8080, 8080)]).unwrap()), [8080]);
    }

    #[test]
    fn loopback_addresses_do_not_disturb_one_another() {
        let (ports, _server) = Ports::new();
        for host in ["127.0.0.1", "127.0.0.2", "::1"] {
            assert_eq!(numbers(&ports.publish(host, ADDRESS, &[want(host, 8080, 8080)]).unwrap()), [8080]);
        }
        assert!(ports.publish("all", ADDRESS, &[want("0.0.0.0", 8080, 8080)]).is_err());
        assert!(ports.publish("six", ADDRESS, &[want("::", 8080, 8080)]).is_err());
    }
}
