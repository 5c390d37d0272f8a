use super::*;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};

/// A carrier of its own thread, and where the host dials it.
struct Dialled(tempfile::TempDir);

impl Dialled {
    fn new() -> Dialled {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("carrier")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let agent = UnixListener::bind(folder.path().join("agent")).unwrap();
        agent.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let _ = Carrier::new(listener.into(), vec![Waiting::new(Service::Agent, agent.into())])
                .unwrap()
                .serve();
        });
        Dialled(folder)
    }

    fn dial(&self, first: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.0.path().join("carrier")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(first.as_bytes()).unwrap();
        stream
    }
}

/// Sends every connection back what it sends, and its end.
fn echo() -> u16 {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in server.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut from, mut to) = (stream.try_clone().unwrap(), stream);
                std::io::copy(&mut from, &mut to).and_then(|_| to.shutdown(Shutdown::Write))
            });
        }
    });
    port
}

fn rest(mut stream: &UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn bytes_go_both_ways_and_each_way_has_its_end() {
    let (carrier, port) = (Dialled::new(), echo());
    // What comes behind the line belongs to the stream.
    let stream = carrier.dial(&format!("tcp 127.0.0.1 {port}\nahead "));
    let bytes: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 253) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let text = bytes.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&text).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert!(rest(&stream) == [b"ahead ", &bytes[..]].concat());
    writing.join().unwrap();
}

#[test]
fn an_end_that_comes_before_the_connection_does_not_break_it() {
    let (carrier, port) = (Dialled::new(), echo());
    for _ in 0..50 {
        let stream = carrier.dial(&format!("tcp 127.0.0.1 {port}\nall"));
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&stream), b"all");
    }
}

#[test]
fn many_links_at_once() {
    let (carrier, port) = (Dialled::new(), echo());
    let streams: Vec<_> = (0..300).map(|_| carrier.dial(&format!("tcp 127.0.0.1 {port}\n"))).collect();
    for (number, mut stream) in streams.iter().enumerate() {
        stream.write_all(format!("{number}").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    }
    for (number, stream) in streams.iter().enumerate() {
        assert_eq!(rest(stream), format!("{number}").as_bytes());
    }
}

#[test]
fn who_cannot_be_reached_and_who_says_nonsense_is_told_by_the_end() {
    let carrier = Dialled::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let long = "x".repeat(200);
    for line in [&format!("tcp 127.0.0.1 {port}\n"), "sctp 127.0.0.1 9\n", "\n", &long] {
        let mut bytes = Vec::new();
        // What nobody has read of it makes it a reset.
        let end = (&carrier.dial(line)).read_to_end(&mut bytes);
        assert!(end.is_ok_and(|count| count == 0) || bytes.is_empty(), "{line}");
    }
}

#[test]
fn a_client_that_is_gone_frees_the_server() {
    let carrier = Dialled::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = carrier.dial(&format!("tcp 127.0.0.1 {}\n", server.local_addr().unwrap().port()));
    let (mut served, _) = server.accept().unwrap();
    served.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    drop(stream);
    assert_eq!(served.read(&mut [0; 10]).unwrap(), 0);
}

#[test]
fn a_reader_that_does_not_read_holds_back_its_server_and_nobody_else() {
    let (carrier, port) = (Dialled::new(), echo());
    let flood = TcpListener::bind("127.0.0.1:0").unwrap();
    let asleep = carrier.dial(&format!("tcp 127.0.0.1 {}\n", flood.local_addr().unwrap().port()));
    let (mut server, _) = flood.accept().unwrap();
    server.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    while server.write_all(&[7; 65536]).is_ok() {}
    let other = carrier.dial(&format!("tcp 127.0.0.1 {port}\nhello"));
    other.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&other), b"hello");
    drop(server);
    assert!(rest(&asleep).iter().all(|byte| *byte == 7));
}

#[test]
fn datagrams_are_framed_wherever_they_are_cut() {
    let carrier = Dialled::new();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut stream = carrier.dial(&format!("udp 127.0.0.1 {}\n", server.local_addr().unwrap().port()));
    let mut buffer = [0; 2000];
    for text in ["one", "another one", ""] {
        let frame = [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
        for byte in &frame {
            stream.write_all(&[*byte]).unwrap();
        }
        let (count, peer) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], text.as_bytes());
        server.send_to(&buffer[..count], peer).unwrap();
        let mut back = vec![0; frame.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, frame);
    }
}

#[test]
fn a_client_of_the_ssh_agent_gets_a_stream_that_waits_for_it() {
    let carrier = Dialled::new();
    let connect = || UnixStream::connect(carrier.0.path().join("agent")).unwrap();
    let mut first = carrier.dial("agent\n");
    let mut client = connect();
    client.write_all(b"question").unwrap();
    let mut bytes = [0; 8];
    first.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"question");
    first.write_all(b"answer").unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&client), b"answer");
    drop(client);
    assert_eq!(rest(&first), b"");
    // The next client waits for the next stream.
    let mut waits = connect();
    waits.write_all(b"later").unwrap();
    waits.shutdown(Shutdown::Write).unwrap();
    let second = carrier.dial("agent\n");
    assert_eq!(rest(&second), b"later");
    // Without any it is sent away after a while.
    assert_eq!(rest(&connect()), b"");
    // A host that speaks before a client does is sent away.
    assert_eq!(rest(&carrier.dial("agent\nearly")), b"");
}
