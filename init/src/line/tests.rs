//! Connections against peers of every kind: in pieces, of another release, hostile.

use super::*;
use contract::line::{FromGuest, LINE_MAX};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

fn connected() -> (UnixStream, Connections) {
    let (peer, ours) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (peer, Connections(vec![Connection::of(ours.into())]))
}

fn echo(asked: Asked) -> Answer {
    let text = match asked {
        Asked::Line(request) => format!("{request:?}"),
        Asked::Whole(request, body) => format!("{request:?} {}", body.is_whole()),
    };
    Answer::Refused { text }
}

fn talk(parts: &[&[u8]]) -> (String, bool) {
    let (mut peer, mut connections) = connected();
    for part in parts {
        peer.write_all(part).unwrap();
        connections.serve(echo);
    }
    let open = !connections.0.is_empty();
    drop(connections);
    let mut text = String::new();
    peer.read_to_string(&mut text).unwrap();
    (text, open)
}

fn check(parts: &[&[u8]], want: &str, open: bool) {
    assert_eq!(talk(parts), (want.to_owned(), open), "{parts:?}");
}

#[test]
fn lines_are_answered_however_they_arrive() {
    check(&[b"7 status\n"], "7 error Status\n", true);
    check(
        &[b"1 sta", b"tus\n2 power", b"-off 9\n"],
        "1 error Status\n2 error PowerOff { seconds: Some(9) }\n",
        true,
    );
    check(&[b"3 nonsense\n\xff\n"], "3 error unknown request\nerror unknown request\n", true);
    check(&[&[b'x'; LINE_MAX + 1]], "error a line of more than 1024 bytes\n", false);
    check(&[b"1 status"], "", true);
    check(
        &[b"4 config 5\n{\"a", b"\"}5 status\n"],
        "4 error Config { bytes: 5 } true\n5 error Status\n",
        true,
    );
    check(
        &[b"4 config 1048577\n"],
        "4 error the config is not taken: it has from 1 to 1048576 bytes\n",
        false,
    );
}

#[test]
fn a_host_of_the_first_version_is_served() {
    check(&[b"status\npower-off\n"], "error Status\nerror PowerOff { seconds: None }\n", true);
    check(
        &[b"engine 0\nstatus\n"],
        "error the engine is not taken: it has from 1 to 67108864 bytes\n",
        false,
    );
}

#[test]
fn events_go_to_hosts_that_take_them() {
    let event = Event::EngineDied { how: "signal 9".into() };
    for (hello, want) in [
        ("hello 2 engine-died other\n", "event engine-died signal 9\nevent gave-up tired\n"),
        ("hello 2 swim\n", ""),
        ("status\n", ""),
    ] {
        let hello = hello.replace("other", "gave-up");
        let (mut peer, mut connections) = connected();
        peer.write_all(hello.as_bytes()).unwrap();
        connections.serve(|_| Answer::Done);
        connections.tell(&event);
        last_words("tired");
        drop(connections);
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        let rest = text.split_once('\n').unwrap().1;
        assert_eq!(rest, want, "{hello}");
    }
}

#[test]
fn a_peer_that_does_not_read_is_dropped() {
    let (mut peer, mut connections) = connected();
    peer.write_all(b"hello 2 engine-died\n").unwrap();
    connections.serve(echo);
    let event = Event::EngineDied { how: "x".repeat(900) };
    for _ in 0..10_000 {
        connections.tell(&event);
    }
    assert!(connections.0.is_empty());
}

#[test]
fn what_the_socket_does_not_take_at_once_comes_later() {
    let (mut peer, mut connections) = connected();
    peer.write_all(b"hello 2 engine-died\n").unwrap();
    connections.serve(echo);
    let event = Event::EngineDied { how: "x".repeat(900) };
    let mut told = 0;
    while connections.fds().all(|(_, blocked)| !blocked) {
        connections.tell(&event);
        told += 1;
    }
    peer.set_nonblocking(true).unwrap();
    let mut text = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        match peer.read(&mut chunk) {
            Ok(length) => text.extend_from_slice(&chunk[..length]),
            Err(_) if connections.fds().all(|(_, blocked)| !blocked) => break,
            Err(_) => connections.serve(echo),
        }
    }
    let events = String::from_utf8(text).unwrap();
    assert_eq!(events.lines().skip(1).filter(|line| FromGuest::decode(line).is_ok()).count(), told);
}

proptest! {
    #[test]
    fn no_bytes_hurt(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..8)) {
        let (mut peer, mut connections) = connected();
        for part in &parts {
            if peer.write_all(part).is_err() {
                break;
            }
            connections.serve(echo);
            prop_assert!(connections.0.iter().all(|connection| connection.output.len() <= UNREAD));
        }
    }
}
