//! A published UDP port: each client has a session, which is a stream to the carrier and ends when nothing was said for a while.

use super::open::dial;
use crate::backend::Link;
use crate::stream::Stream;
use contract::carrier::{DATAGRAM_MAX, Protocol};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// As long as docker-proxy keeps one.
const IDLE: Duration = Duration::from_secs(90);
/// Clients at a time; datagrams of more are lost.
const SESSIONS: usize = 1024;
/// Datagrams that wait for a guest; more are lost.
const WAITING: usize = 64;

type Sessions = HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>;

/// Serves the socket until the task is dropped, and the sessions with it.
pub async fn serve(socket: UdpSocket, link: Arc<dyn Link>, target: watch::Receiver<SocketAddr>) {
    let socket = Arc::new(socket);
    let (mut sessions, mut tasks) = (Sessions::new(), JoinSet::new());
    let mut datagram = vec![0; DATAGRAM_MAX + 1];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut datagram) => {
                // Windows tells here that an earlier datagram of ours found nobody.
                let Ok((count, client)) = received else { continue };
                if sessions.get(&client).is_none_or(mpsc::Sender::is_closed) {
                    if sessions.len() >= SESSIONS {
                        continue;
                    }
                    let (sender, datagrams) = mpsc::channel(WAITING);
                    sessions.insert(client, sender);
                    let session = session(socket.clone(), client, link.clone(), *target.borrow(), datagrams);
                    tasks.spawn(async move {
                        if let Err(error) = session.await {
                            tracing::debug!("a session of {client} broke: {error}");
                        }
                        client
                    });
                }
                if let Some(session) = sessions.get(&client) {
                    let _ = session.try_send(datagram[..count].to_vec());
                }
            }
            Some(ended) = tasks.join_next() => {
                if let Ok(client) = ended
                    && sessions.get(&client).is_some_and(mpsc::Sender::is_closed)
                {
                    sessions.remove(&client);
                }
            }
        }
    }
}

async fn session(
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    link: Arc<dyn Link>,
    target: SocketAddr,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut stream = dial(&*link, Protocol::Udp, target).await?;
    let mut came = Vec::new();
    loop {
        tokio::select! {
            datagram = datagrams.recv() => {
                let Some(datagram) = datagram else { return Ok(()) };
                let length = u16::try_from(datagram.len()).map_err(io::Error::other)?.to_be_bytes();
                stream.write_all(&[&length[..], &datagram].concat()).await?;
            }
            read = read_some(&mut stream, &mut came) => {
                if read? == 0 {
                    return Ok(());
                }
                for datagram in frames(&mut came) {
                    // What cannot be sent is lost, as datagrams may be.
                    let _ = socket.send_to(&datagram, client).await;
                }
            }
            () = tokio::time::sleep(IDLE) => return Ok(()),
        }
    }
}

/// May be dropped and called again: what was read is in `into`.
async fn read_some(stream: &mut Stream, into: &mut Vec<u8>) -> io::Result<usize> {
    into.reserve(4096);
    stream.read_buf(into).await
}

/// Takes the whole frames out of what came.
fn frames(came: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let (mut all, mut rest) = (Vec::new(), &came[..]);
    while let Some((length, bytes)) = rest.split_first_chunk::<2>()
        && let Some((datagram, behind)) = bytes.split_at_checked(usize::from(u16::from_be_bytes(*length)))
    {
        all.push(datagram.to_vec());
        rest = behind;
    }
    *came = rest.to_vec();
    all
}
