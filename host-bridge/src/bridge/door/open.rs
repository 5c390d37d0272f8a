//! Which ports are open, and for what.

use super::listeners::{self, Sockets};
use super::udp;
use crate::backend::{Link, Port};
use crate::stream::Stream;
use contract::carrier::{Protocol, Target};
use contract::door::{Answer, HostAddress, Publication, Refusal};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes moved at a time, each way.
const CHUNK_BYTES: usize = 64 << 10;
/// After a connection could not be taken, for want of descriptors or memory.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

type Place = (Protocol, HostAddress, u16);

/// See the module.
pub struct Open {
    link: Arc<dyn Link>,
    ports: HashMap<Place, Opened>,
    /// Counts connections of the door: what was said on an earlier one only is closed when all is said.
    turn: u64,
}

/// A port that is open; dropped it is closed, and its connections go on.
struct Opened {
    target: watch::Sender<SocketAddr>,
    said: u64,
    _listening: JoinSet<()>,
}

impl Open {
    /// Without any.
    pub fn new(link: Arc<dyn Link>) -> Open {
        Open { link, ports: HashMap::new(), turn: 0 }
    }

    /// The door was opened anew.
    pub fn begin(&mut self) {
        self.turn += 1;
    }

    /// All was said that is published.
    pub fn settle(&mut self) {
        let turn = self.turn;
        self.ports.retain(|_, port| port.said == turn);
    }

    /// Opens a port; one that is open leads to the new target.
    pub fn publish(&mut self, asked: &Publication) -> Answer {
        let place = (asked.protocol, asked.host, asked.first);
        if asked.first == asked.last
            && let Some(port) = self.ports.get_mut(&place)
        {
            port.said = self.turn;
            port.target.send_replace(asked.target);
            return Answer::Port(asked.first);
        }
        match listeners::open(asked) {
            Ok((number, sockets)) => {
                tracing::info!("port {number}/{} of this host leads to {}", asked.protocol, asked.target);
                let port = self.listen(sockets, asked.target);
                self.ports.insert((asked.protocol, asked.host, number), port);
                Answer::Port(number)
            }
            Err(error) => Answer::Refused { why: refusal(&error), text: error.to_string() },
        }
    }

    /// Closes a port.
    pub fn release(&mut self, protocol: Protocol, host: HostAddress, port: u16) {
        self.ports.remove(&(protocol, host, port));
    }

    fn listen(&self, sockets: Sockets, target: SocketAddr) -> Opened {
        let (target, targets) = watch::channel(target);
        let mut listening = JoinSet::new();
        match sockets {
            Sockets::Tcp(all) => {
                for listener in all {
                    listening.spawn(accept(listener, self.link.clone(), targets.clone()));
                }
            }
            Sockets::Udp(all) => {
                for socket in all {
                    listening.spawn(udp::serve(socket, self.link.clone(), targets.clone()));
                }
            }
        }
        Opened { target, said: self.turn, _listening: listening }
    }
}

fn refusal(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::AddrInUse => Refusal::InUse,
        io::ErrorKind::PermissionDenied => Refusal::Denied,
        io::ErrorKind::AddrNotAvailable => Refusal::NoAddress,
        _ => Refusal::Failed,
    }
}

async fn accept(listener: TcpListener, link: Arc<dyn Link>, target: watch::Receiver<SocketAddr>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let address = *target.borrow();
                drop(tokio::spawn(carry(client, link.clone(), address)));
            }
            Err(error) => {
                tracing::warn!("cannot take a connection to a published port: {error}");
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
    }
}

/// One connection, to the end of both ways.
async fn carry(mut client: TcpStream, link: Arc<dyn Link>, address: SocketAddr) {
    let carried = async {
        client.set_nodelay(true)?;
        let mut guest = dial(&*link, Protocol::Tcp, address).await?;
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut guest, CHUNK_BYTES, CHUNK_BYTES).await
    };
    if let Err(error) = carried.await {
        tracing::debug!("a connection to {address} broke: {error}");
    }
}

/// A stream to a container.
pub async fn dial(link: &dyn Link, protocol: Protocol, address: SocketAddr) -> io::Result<Stream> {
    let mut stream = link.dial(Port::Carrier).await?;
    stream.write_all(Target { protocol, address }.encode().as_bytes()).await?;
    Ok(stream)
}
