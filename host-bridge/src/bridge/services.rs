//! What containers find at `host.docker.internal`: the TCP ports of this host's loopback interface, and its resolver.

use super::waiting;
use crate::backend::Link;
use crate::host;
use crate::stream::Stream;
use contract::carrier::{Line, read_wanted};
use contract::host::RESOLVER_PORT;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// Streams that wait, so that clients who come together need not wait for one another's.
const WAITING: usize = 8;
/// Connections at a time: containers shall not use up what this process may open. Whoever comes then has to wait.
const CONNECTIONS: usize = 2048;
/// Longest line of [`read_wanted`], newline included, in bytes.
const LINE_MAX: usize = 6;

/// Servers of the host's that are asked for one name.
const SERVERS: usize = 3;
/// How long each may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a stream of questions may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// Longest answer over UDP, in bytes.
const ANSWER_MAX: usize = 16_384;
/// The bit of a message's third byte that says that it was cut (RFC 1035, 4.1.1).
const CUT: u8 = 0b10;

/// Serves clients until the task is dropped; those that have a stream keep it to its end.
pub async fn keep(link: Arc<dyn Link>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let one = || async {
        let serve = |stream, first| {
            let connections = connections.clone();
            async move {
                let Ok(_connection) = connections.acquire_owned().await else { return };
                // Whom nobody answers is told by the end of the stream.
                let _ = answer(stream, first).await;
            }
        };
        waiting::keep(&*link, Line::Host, serve).await;
    };
    futures_util::future::join_all((0..WAITING).map(|_| one())).await;
}

async fn answer(mut guest: Stream, first: Vec<u8>) -> io::Result<()> {
    let (port, ahead) = line(&mut guest, first).await?;
    if port == RESOLVER_PORT {
        return resolve(guest, ahead).await;
    }
    let mut service = connect(port).await?;
    service.set_nodelay(true)?;
    service.write_all(&ahead).await?;
    tokio::io::copy_bidirectional(&mut guest, &mut service).await.map(drop)
}

/// The port that was asked for, and what came behind it.
async fn line(guest: &mut Stream, mut first: Vec<u8>) -> io::Result<(u16, Vec<u8>)> {
    loop {
        if let Some(end) = first.iter().position(|byte| *byte == b'\n') {
            let text = std::str::from_utf8(&first[..end]).ok();
            let port = text.and_then(read_wanted).ok_or(io::ErrorKind::InvalidData)?;
            return Ok((port, first.split_off(end + 1)));
        }
        if first.len() >= LINE_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        first.push(guest.read_u8().await?);
    }
}

/// Services listen on either loopback address.
async fn connect(port: u16) -> io::Result<TcpStream> {
    match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        Err(refused) => TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.map_err(|_| refused),
        connected => connected,
    }
}

/// Passes questions on, to whom this host asks at that moment: a VPN that comes or goes is followed. A question that nobody
/// answers ends the stream.
async fn resolve(guest: Stream, ahead: Vec<u8>) -> io::Result<()> {
    let (input, mut output) = tokio::io::split(guest);
    let mut input = io::Cursor::new(ahead).chain(input);
    loop {
        let question = tokio::time::timeout(SILENCE, message(&mut input)).await??;
        let answer = ask(&question, &host::resolvers()).await.ok_or(io::ErrorKind::HostUnreachable)?;
        send(&mut output, &answer).await?;
    }
}

/// A message behind its length, as DNS over TCP has it.
async fn message(input: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(input.read_u16().await?)];
    input.read_exact(&mut message).await?;
    // An identification, flags and four counts.
    if message.len() < 12 { Err(io::ErrorKind::InvalidData.into()) } else { Ok(message) }
}

async fn send(output: &mut (impl tokio::io::AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    output.write_all(&[&length.to_be_bytes(), message].concat()).await
}

/// The first answer to a question.
async fn ask(question: &[u8], servers: &[IpAddr]) -> Option<Vec<u8>> {
    for server in servers.iter().take(SERVERS) {
        let server = SocketAddr::new(*server, RESOLVER_PORT);
        let answer = tokio::time::timeout(PATIENCE, datagram(question, server)).await;
        let answer = match answer {
            Ok(Ok(answer)) if answer[2] & CUT == 0 => return Some(answer),
            Ok(Ok(cut)) => cut,
            _ => continue,
        };
        let whole = tokio::time::timeout(PATIENCE, stream(question, server)).await;
        return Some(whole.ok().and_then(Result::ok).unwrap_or(answer));
    }
    None
}

/// The asker has given the question a number that nobody can guess, and the socket has a port of its own.
async fn datagram(question: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; ANSWER_MAX];
    loop {
        let length = socket.recv(&mut answer).await?;
        if length >= 12 && answer[..2] == question[..2] {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn stream(question: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    send(&mut stream, question).await?;
    let answer = message(&mut stream).await?;
    if answer[..2] == question[..2] { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, UnixStream};

    /// The far end of a stream that a client has, served.
    fn served(first: &str) -> UnixStream {
        let (near, far) = UnixStream::pair().unwrap();
        drop(tokio::spawn(answer(near.into(), first.as_bytes().to_vec())));
        far
    }

    async fn rest(mut stream: UnixStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        tokio::time::timeout(SILENCE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_client_reaches_the_port_and_its_end_is_passed_on() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address).await else { continue };
            let port = listener.local_addr().unwrap().port();
            drop(tokio::spawn(async move {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut said = Vec::new();
                client.read_to_end(&mut said).await.unwrap();
                client.write_all(&said).await.unwrap();
            }));
            // The line may come in pieces, and bytes along with it.
            let (head, tail) = (format!("{port}"), "\nahead ");
            let mut client = served(&head[..2]);
            client.write_all(&head.as_bytes()[2..]).await.unwrap();
            client.write_all(tail.as_bytes()).await.unwrap();
            client.write_all(b"behind").await.unwrap();
            client.shutdown().await.unwrap();
            assert_eq!(rest(client).await, b"ahead behind");
        }
    }

    #[tokio::test]
    async fn nobody_and_nonsense_end_the_stream() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        for first in [&format!("{free}\n")[..], "0\n", "x\n", "123456789"] {
            assert_eq!(rest(served(first)).await, b"", "{first}");
        }
    }

    #[tokio::test]
    async fn a_cut_answer_is_asked_for_again_and_a_silent_server_is_passed_over() {
        let question = [&[7, 9][..], &[0; 10]].concat();
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(at).await.unwrap();
        drop(tokio::spawn(async move {
            let mut bytes = [0; 64];
            let (length, from) = udp.recv_from(&mut bytes).await.unwrap();
            udp.send_to(&[9; 12], from).await.unwrap();
            bytes[2] = CUT;
            udp.send_to(&bytes[..length], from).await.unwrap();
            let (mut client, _) = tcp.accept().await.unwrap();
            let asked = message(&mut client).await.unwrap();
            send(&mut client, &[&asked[..], b"whole"].concat()).await.unwrap();
        }));
        let cut = datagram(&question, at).await.unwrap();
        assert_eq!(cut[2] & CUT, CUT);
        assert_eq!(stream(&question, at).await.unwrap(), [&question[..], b"whole"].concat());
        assert_eq!(ask(&question, &[]).await, None);
    }
}
