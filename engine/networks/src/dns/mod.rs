//! Names on networks of the user's own: each container asks 127.0.0.11, and the engine answers.
//!
//! ```text
//!   container ── 127.0.0.11:53 ══ sockets of its sandbox, held by PID 1 too ══► this service
//!                                       a name of its networks: answered here (`answer`)
//!                                       any other: asked outside (`forward`), from the machine's namespace
//! ```
//!
//! A machine that has a host answers at an address of its own as well, for whoever is on no such network: the host's names,
//! and others as the host's own resolver knows them.
//!
//! It runs on a thread of its own: however many questions a container asks, API and output do not wait. Containers take
//! turns at it, question by question, and each has a bounded number of questions under way. While the engine is away
//! questions wait in the sockets.

mod answer;
mod forward;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use runtime::network::NameSockets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::Networks;
use forward::{Road, Server};

/// Questions of one container that are asked outside at one time.
const UNDER_WAY: usize = 64;
/// TCP connections of one container.
const CONNECTIONS: usize = 32;
/// As many containers have theirs where all of them ask at one address.
const SHARED: usize = 16;
/// How long a TCP connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// Longest question over UDP that is looked at, in bytes.
const QUESTION_MAX: usize = 4096;
/// Longest answer over UDP to whoever names no other length (RFC 1035).
const ANSWER_MAX: usize = 512;

/// Who asks.
#[derive(Debug)]
pub struct Asker {
    /// Id of the container.
    pub id: String,
    /// Servers that it asks in the place of the machine's.
    pub servers: Vec<IpAddr>,
}

/// The answering of all containers.
pub(super) struct Service {
    runtime: Handle,
    pub(super) resolv_conf: PathBuf,
    /// Whether the host's resolver answers.
    road: Arc<Road>,
    tasks: Mutex<BTreeMap<String, [AbortHandle; 2]>>,
}

impl Service {
    pub(super) fn new(runtime: Handle, resolv_conf: PathBuf) -> Service {
        Service { runtime, resolv_conf, road: Arc::default(), tasks: Mutex::default() }
    }

    fn serve(&self, client: Client, sockets: NameSockets) -> std::io::Result<[AbortHandle; 2]> {
        let _inside = self.runtime.enter();
        let (udp, tcp) = (udp(sockets.udp)?, tcp(sockets.tcp)?);
        let client = Arc::new(client);
        let spawn = &self.runtime;
        let (datagrams, streams) =
            (spawn.spawn(client.clone().datagrams(udp)), spawn.spawn(client.streams(tcp)));
        Ok([datagrams.abort_handle(), streams.abort_handle()])
    }

    /// Nobody is answered any more, and the sockets are closed.
    pub(super) fn stop(&self, id: &str) {
        let tasks = self.tasks.lock().expect("no holder of the tasks panics").remove(id);
        tasks.into_iter().flatten().for_each(|task| task.abort());
    }
}

/// Who is answered at one pair of sockets.
struct Client {
    networks: Arc<Networks>,
    /// The container whose sockets they are; `None` where they are the machine's own.
    asker: Option<Asker>,
    under_way: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Networks {
    /// Answers at these sockets until the container is detached; in the place of what was answered for it before.
    ///
    /// # Errors
    /// The sockets are none.
    pub fn serve_names(self: &Arc<Networks>, asker: Asker, sockets: NameSockets) -> std::io::Result<()> {
        let id = asker.id.clone();
        let client = Client::new(self.clone(), Some(asker), 1);
        let tasks = self.names.serve(client, sockets)?;
        let before = self.names.tasks.lock().expect("no holder of the tasks panics").insert(id, tasks);
        before.into_iter().flatten().for_each(|task| task.abort());
        Ok(())
    }

    /// Answers at the machine's own sockets, for ever; does nothing where the machine has no host.
    ///
    /// # Errors
    /// The sockets are none.
    pub fn serve_host_names(self: &Arc<Networks>, sockets: NameSockets) -> std::io::Result<()> {
        match self.host {
            Some(_) => self.names.serve(Client::new(self.clone(), None, SHARED), sockets).map(drop),
            None => Ok(()),
        }
    }

    /// Whether names are answered for the container.
    pub fn has_names(&self, id: &str) -> bool {
        self.names.tasks.lock().expect("no holder of the tasks panics").contains_key(id)
    }
}

fn udp(socket: OwnedFd) -> std::io::Result<UdpSocket> {
    UdpSocket::from_std(socket.into())
}

fn tcp(socket: OwnedFd) -> std::io::Result<TcpListener> {
    TcpListener::from_std(socket.into())
}

impl Client {
    /// Of one container, or of as many as `share` the sockets.
    fn new(networks: Arc<Networks>, asker: Option<Asker>, share: usize) -> Client {
        let under_way = Arc::new(Semaphore::new(UNDER_WAY * share));
        Client { networks, asker, under_way, connections: Arc::new(Semaphore::new(CONNECTIONS * share)) }
    }

    /// The container's id, for the log.
    fn id(&self) -> &str {
        self.asker.as_ref().map_or("", |asker| &asker.id)
    }

    async fn datagrams(self: Arc<Client>, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut question = vec![0; QUESTION_MAX];
        loop {
            // The next container's turn.
            tokio::task::yield_now().await;
            let (length, from) = match socket.recv_from(&mut question).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(container = self.id(), %error, "a question was not received");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let Ok(asked) = Message::from_vec(&question[..length]) else { continue };
            let limit = usize::from(asked.max_payload()).max(ANSWER_MAX);
            match self.known(&asked) {
                Some(answer) => send(&socket, answer, limit, from).await,
                None => match self.under_way.clone().try_acquire_owned() {
                    Err(_) => send(&socket, failure(&asked), limit, from).await,
                    Ok(permit) => {
                        let (client, socket) = (self.clone(), socket.clone());
                        let question = question[..length].to_vec();
                        tokio::spawn(async move {
                            let _under_way = permit;
                            let answer = forward::datagram(&question, &client.servers()).await;
                            match answer {
                                // Nobody may be there any more to read it.
                                Some(answer) => drop(socket.send_to(&fitting(answer, limit), from).await),
                                None => send(&socket, failure(&asked), limit, from).await,
                            }
                        });
                    }
                },
            }
        }
    }

    async fn streams(self: Arc<Client>, listener: TcpListener) {
        loop {
            let Ok(permit) = self.connections.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let client = self.clone();
                    tokio::spawn(async move {
                        let _connection = permit;
                        // Whoever is silent for too long, or goes, is not missed.
                        let _ = client.stream(stream).await;
                    });
                }
                Err(error) => {
                    tracing::debug!(container = self.id(), %error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    async fn stream(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let question = tokio::time::timeout(SILENCE, read(&mut stream)).await??;
            let Ok(asked) = Message::from_vec(&question) else { return Ok(()) };
            let answer = match self.known(&asked) {
                Some(answer) => answer.to_vec().ok(),
                None => forward::stream(&question, &self.servers()).await,
            };
            let answer = answer.or_else(|| failure(&asked).to_vec().ok()).unwrap_or_default();
            write(&mut stream, &answer).await?;
            tokio::task::yield_now().await;
        }
    }

    /// What is known here; `None` is to be asked outside.
    fn known(&self, asked: &Message) -> Option<Message> {
        if asked.metadata.op_code != OpCode::Query || asked.queries.len() != 1 {
            let mut refused = Message::response(asked.metadata.id, asked.metadata.op_code);
            refused.metadata.response_code = ResponseCode::NotImp;
            return Some(refused);
        }
        let of_networks = |asker: &Asker| answer::answer(&self.networks, &asker.id, asked);
        self.asker.as_ref().and_then(of_networks).or_else(|| answer::of_the_host(&self.networks, asked))
    }

    /// Whom to ask outside. Who has no way out asks nobody.
    fn servers(&self) -> Vec<Server> {
        let asked: &[IpAddr] = match &self.asker {
            Some(asker) if !self.networks.has_way_out(&asker.id) => return vec![],
            Some(asker) => &asker.servers,
            None => &[],
        };
        if !asked.is_empty() {
            // Those on the container's own loopback interface are not the machine's.
            return asked.iter().copied().filter(|one| !one.is_loopback()).map(Server::At).collect();
        }
        let host = self.networks.host.is_some() && self.networks.names.road.is_open();
        let host = host.then(|| Server::Host(self.networks.names.road.clone()));
        let machine = forward::of_the_machine(&self.networks.names.resolv_conf);
        host.into_iter().chain(machine.into_iter().map(Server::At)).collect()
    }
}

/// The answer where it is as short as the asker takes it, else that there is more than fits.
fn fitting(answer: Vec<u8>, limit: usize) -> Vec<u8> {
    if answer.len() <= limit {
        return answer;
    }
    let Ok(mut cut) = Message::from_vec(&answer) else { return answer };
    cut.metadata.truncation = true;
    cut.answers.clear();
    cut.to_vec().unwrap_or_default()
}

fn failure(asked: &Message) -> Message {
    let mut failed = Message::response(asked.metadata.id, asked.metadata.op_code);
    failed.metadata.recursion_desired = asked.metadata.recursion_desired;
    failed.metadata.recursion_available = true;
    failed.metadata.response_code = ResponseCode::ServFail;
    failed.queries.clone_from(&asked.queries);
    failed
}

async fn send(socket: &UdpSocket, answer: Message, limit: usize, to: std::net::SocketAddr) {
    let Ok(answer) = answer.to_vec() else { return };
    // Nobody may be there any more to read it.
    let _ = socket.send_to(&fitting(answer, limit), to).await;
}

/// A message behind its length, as DNS over TCP has it.
async fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let whole = [&length.to_be_bytes(), &message[..usize::from(length)]].concat();
    tokio::time::timeout(SILENCE, stream.write_all(&whole)).await?
}
