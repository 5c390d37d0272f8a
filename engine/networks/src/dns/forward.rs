//! Asking a server outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contract::host::{ADDRESS, RESOLVER_PORT};
use runtime::network::files::Resolver;
use tokio::net::{TcpStream, UdpSocket};

/// How many servers are tried.
const SERVERS: usize = 3;
/// How long each may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long the host's resolver is not asked after it has not answered.
const CLOSED: Duration = Duration::from_secs(5);
/// Longest answer over UDP, in bytes: four times what resolvers say that they take.
const ANSWER_MAX: usize = 16_384;
/// `RCODE`s after which the next server is asked.
const FAILED: [u8; 2] = [2, 5];
const PORT: u16 = 53;

/// Who is asked.
#[derive(Debug, Clone)]
pub(super) enum Server {
    /// The host's own resolver, behind [`contract::host::ADDRESS`].
    Host(Arc<Road>),
    /// A server of the machine's, or of a container's own.
    At(IpAddr),
}

/// Whether the host's resolver answers. While it does not, nobody waits for it again and again.
#[derive(Debug, Default)]
pub(super) struct Road(Mutex<Option<Instant>>);

impl Road {
    /// Whether it is worth asking.
    pub(super) fn is_open(&self) -> bool {
        self.0.lock().expect("no holder of the road panics").is_none_or(|closed| closed.elapsed() > CLOSED)
    }

    fn note(&self, answered: bool) {
        *self.0.lock().expect("no holder of the road panics") = (!answered).then(Instant::now);
    }
}

/// The servers that the machine itself asks.
pub(super) fn of_the_machine(resolv_conf: &Path) -> Vec<IpAddr> {
    Resolver::parse(&std::fs::read_to_string(resolv_conf).unwrap_or_default()).servers
}

/// The first usable answer to a question that came over UDP.
pub(super) async fn datagram(question: &[u8], servers: &[Server]) -> Option<Vec<u8>> {
    let mut last = None;
    for server in servers.iter().take(SERVERS) {
        let answer = match server {
            Server::Host(road) => ask_host(question, road).await,
            Server::At(address) => patiently(ask_datagram(question, *address)).await,
        };
        match answer {
            Some(answer) if is_usable(&answer) => return Some(answer),
            Some(answer) => last = Some(answer),
            None => {}
        }
    }
    last
}

/// The same for TCP.
pub(super) async fn stream(question: &[u8], servers: &[Server]) -> Option<Vec<u8>> {
    let mut last = None;
    for server in servers.iter().take(SERVERS) {
        let answer = match server {
            Server::Host(road) => ask_host(question, road).await,
            Server::At(address) => patiently(ask_stream(question, *address, PORT)).await,
        };
        match answer {
            Some(answer) if is_usable(&answer) => return Some(answer),
            Some(answer) => last = Some(answer),
            None => {}
        }
    }
    last
}

async fn patiently(answer: impl Future<Output = std::io::Result<Vec<u8>>>) -> Option<Vec<u8>> {
    tokio::time::timeout(PATIENCE, answer).await.ok().and_then(Result::ok)
}

async fn ask_host(question: &[u8], road: &Road) -> Option<Vec<u8>> {
    let answer = patiently(ask_stream(question, ADDRESS.into(), RESOLVER_PORT)).await;
    road.note(answer.is_some());
    answer
}

fn is_usable(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|flags| !FAILED.contains(&(flags & 0x0f)))
}

/// From a port of its own and with a number of its own, so that nobody can guess an answer's.
async fn ask_datagram(question: &[u8], server: IpAddr) -> std::io::Result<Vec<u8>> {
    let any = match server {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(SocketAddr::new(server, PORT)).await?;
    let (own, number) = numbered(question);
    socket.send(&own).await?;
    let mut answer = vec![0; ANSWER_MAX];
    loop {
        let length = socket.recv(&mut answer).await?;
        if length >= 12 && answer[..2] == number {
            answer.truncate(length);
            answer[..2].copy_from_slice(&question[..2]);
            return Ok(answer);
        }
    }
}

async fn ask_stream(question: &[u8], server: IpAddr, port: u16) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(SocketAddr::new(server, port)).await?;
    let (own, number) = numbered(question);
    super::write(&mut stream, &own).await?;
    let mut answer = super::read(&mut stream).await?;
    if answer.len() < 12 || answer[..2] != number {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    answer[..2].copy_from_slice(&question[..2]);
    Ok(answer)
}

fn numbered(question: &[u8]) -> (Vec<u8>, [u8; 2]) {
    let number: [u8; 2] = rand::random();
    let mut own = question.to_vec();
    own[..2].copy_from_slice(&number);
    (own, number)
}
