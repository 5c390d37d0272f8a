use super::*;
use contract::carrier::{Protocol, Target};
use contract::door::{HostAddress, Publication};
use futures_util::future::BoxFuture;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

/// A guest of which this test is engine and carrier.
struct Guest(mpsc::UnboundedSender<(Port, UnixStream)>);

impl Link for Guest {
    fn dial(&self, port: Port) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let (near, far) = UnixStream::pair()?;
            self.0.send((port, far)).map_err(io::Error::other)?;
            Ok(near.into())
        })
    }
}

struct Engine {
    line: BufReader<UnixStream>,
    streams: mpsc::UnboundedReceiver<(Port, UnixStream)>,
    _bridge: tokio::task::JoinHandle<()>,
}

impl Engine {
    async fn meet() -> Engine {
        Engine::meet_with(None).await
    }

    async fn meet_with(changes: Option<Changes>) -> Engine {
        let (dialled, mut streams) = mpsc::unbounded_channel();
        let bridge = tokio::spawn(keep(Arc::new(Guest(dialled)), changes));
        let line = Engine::greet(&mut streams).await;
        Engine { line, streams, _bridge: bridge }
    }

    async fn greet(streams: &mut mpsc::UnboundedReceiver<(Port, UnixStream)>) -> BufReader<UnixStream> {
        let (port, stream) = timeout(SOON, streams.recv()).await.unwrap().unwrap();
        assert_eq!(port, Port::Door);
        let mut line = BufReader::new(stream);
        line.get_mut().write_all(hello().as_bytes()).await.unwrap();
        let mut first = String::new();
        line.read_line(&mut first).await.unwrap();
        assert_eq!(first, hello());
        line
    }

    /// As another life of it.
    async fn die_and_return(&mut self) {
        self.line = BufReader::new(UnixStream::pair().unwrap().0);
        self.line = Engine::greet(&mut self.streams).await;
    }

    async fn ask(&mut self, request: Request) -> Answer {
        self.line.get_mut().write_all(request.encode(7).as_bytes()).await.unwrap();
        self.hear().await
    }

    async fn hear(&mut self) -> Answer {
        let mut text = String::new();
        timeout(SOON, self.line.read_line(&mut text)).await.unwrap().unwrap();
        let (number, answer) = Answer::decode(&text).unwrap();
        assert_eq!(number, 7);
        answer
    }

    async fn publish(&mut self, protocol: Protocol, first: u16, last: u16, target: u16) -> Answer {
        let target = SocketAddr::from((Ipv4Addr::new(172, 17, 0, 2), target));
        self.ask(Request::Publish(Publication { protocol, host: LOCAL, first, last, target })).await
    }

    /// What the carrier of this guest is dialled with next.
    async fn carried(&mut self) -> (Target, BufReader<UnixStream>) {
        let (port, stream) = timeout(SOON, self.streams.recv()).await.unwrap().unwrap();
        assert_eq!(port, Port::Carrier);
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        (Target::decode(&line).unwrap(), stream)
    }
}

const LOCAL: HostAddress = HostAddress::One(IpAddr::V4(Ipv4Addr::LOCALHOST));

fn number(answer: &Answer) -> u16 {
    let Answer::Port(number) = answer else { panic!("{answer:?}") };
    *number
}

#[tokio::test]
async fn a_port_leads_to_its_container_both_ways() {
    let mut engine = Engine::meet().await;
    let port = number(&engine.publish(Protocol::Tcp, 0, 0, 80).await);
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let (target, mut stream) = engine.carried().await;
    assert_eq!(target.address.port(), 80);
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "question");
    stream.get_mut().write_all(b"answer").await.unwrap();
    drop(stream);
    let mut text = String::new();
    timeout(SOON, client.read_to_string(&mut text)).await.unwrap().unwrap();
    assert_eq!(text, "answer");
}

#[tokio::test]
async fn who_has_a_port_is_respected_and_a_range_goes_on() {
    let mut engine = Engine::meet().await;
    let theirs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = theirs.local_addr().unwrap().port();
    let refused = engine.publish(Protocol::Tcp, taken, taken, 80).await;
    assert!(matches!(refused, Answer::Refused { why: Refusal::InUse, .. }), "{refused:?}");
    let other = number(&engine.publish(Protocol::Tcp, taken, taken.saturating_add(50), 80).await);
    assert!(other > taken);
    let host = HostAddress::One("192.0.2.77".parse().unwrap());
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    let nowhere = Publication { protocol: Protocol::Tcp, host, first: 0, last: 0, target };
    let refused = engine.ask(Request::Publish(nowhere)).await;
    assert!(matches!(refused, Answer::Refused { why: Refusal::NoAddress, .. }), "{refused:?}");
    let request = Request::Release { protocol: Protocol::Tcp, host: LOCAL, port: other };
    assert_eq!(engine.ask(request).await, Answer::Done);
    eventually_closed(other).await;
}

async fn eventually_closed(port: u16) {
    let closed = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, closed).await.unwrap();
}

#[tokio::test]
async fn a_new_engine_keeps_what_it_says_again() {
    let mut engine = Engine::meet().await;
    let kept = number(&engine.publish(Protocol::Tcp, 0, 0, 80).await);
    let lost = number(&engine.publish(Protocol::Tcp, 0, 0, 81).await);
    let client = TcpStream::connect(("127.0.0.1", kept)).await.unwrap();
    let (_, mut stream) = engine.carried().await;
    engine.die_and_return().await;
    // While nothing was said yet both are open.
    drop(TcpStream::connect(("127.0.0.1", lost)).await.unwrap());
    assert_eq!(engine.carried().await.0.address.port(), 81);
    assert_eq!(number(&engine.publish(Protocol::Tcp, kept, kept, 8080).await), kept);
    assert_eq!(engine.ask(Request::Settled).await, Answer::Done);
    eventually_closed(lost).await;
    // The connection of before lives, and a new one goes where the new engine says.
    stream.get_mut().write_all(b"still there").await.unwrap();
    let mut bytes = [0; 11];
    let mut client = client;
    timeout(SOON, client.read_exact(&mut bytes)).await.unwrap().unwrap();
    drop(TcpStream::connect(("127.0.0.1", kept)).await.unwrap());
    assert_eq!(engine.carried().await.0.address.port(), 8080);
}

#[tokio::test]
async fn all_addresses_have_the_same_number() {
    let mut engine = Engine::meet().await;
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    let asked = Publication { protocol: Protocol::Tcp, host: HostAddress::All, first: 0, last: 0, target };
    let port = number(&engine.ask(Request::Publish(asked)).await);
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    if UdpSocket::bind("[::1]:0").await.is_ok() {
        assert!(TcpStream::connect(("::1", port)).await.is_ok());
    }
}

#[tokio::test]
async fn each_client_of_a_udp_port_has_a_stream() {
    let mut engine = Engine::meet().await;
    let port = number(&engine.publish(Protocol::Udp, 0, 0, 53).await);
    for text in ["one", "another"] {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(text.as_bytes(), ("127.0.0.1", port)).await.unwrap();
        let (target, mut stream) = engine.carried().await;
        assert_eq!((target.protocol, target.address.port()), (Protocol::Udp, 53));
        let mut frame = vec![0; text.len() + 2];
        stream.read_exact(&mut frame).await.unwrap();
        assert_eq!((usize::from(frame[1]), &frame[2..]), (text.len(), text.as_bytes()));
        // Cut anywhere.
        for byte in &frame {
            stream.get_mut().write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut back = [0; 100];
        let count = timeout(SOON, client.recv(&mut back)).await.unwrap().unwrap();
        assert_eq!(&back[..count], text.as_bytes());
    }
}

#[tokio::test]
async fn changes_are_told_to_who_wants_to_know() {
    let mut engine = Engine::meet().await;
    assert!(matches!(engine.ask(Request::Watch).await, Answer::Refused { why: Refusal::Unknown, .. }));
    let (count, changes) = watch::channel(0);
    let mut engine = Engine::meet_with(Some(changes)).await;
    count.send_modify(|count| *count += 1);
    assert_eq!(engine.ask(Request::Settled).await, Answer::Done);
    // At once, for there may be some since before it asked.
    assert_eq!(engine.ask(Request::Watch).await, Answer::Changed);
    assert_eq!(engine.hear().await, Answer::Changed);
    count.send_modify(|count| *count += 1);
    assert_eq!(engine.hear().await, Answer::Changed);
    // Half a request is not lost to a change in between.
    engine.line.get_mut().write_all(b"9 sett").await.unwrap();
    count.send_modify(|count| *count += 1);
    assert_eq!(engine.hear().await, Answer::Changed);
    engine.line.get_mut().write_all(b"led\n").await.unwrap();
    let mut text = String::new();
    engine.line.read_line(&mut text).await.unwrap();
    assert_eq!(Answer::decode(&text), Some((9, Answer::Done)));
    engine.die_and_return().await;
    assert_eq!(engine.ask(Request::Watch).await, Answer::Changed);
    drop(count);
    // A machine that is going has no more changes, and its door stays open.
    assert_eq!(engine.ask(Request::Settled).await, Answer::Done);
}
