//! Published ports: what the host's clients reach, and what Docker's clients are told of it.

use crate::engine_death::mortal;
use crate::{appliance, is_reference};
use pinnace_tests::images::Image;
use pinnace_tests::{Appliance, ContainerName, eventually, skip};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// Answers every connection with what it sent, once it has sent all.
const ECHO: &str = "exec nc -ll -p 7 -e cat";

/// The same, with room for many that come at once.
const WIDE_ECHO: &str = r#"exec perl -MIO::Socket::INET -e '
    $SIG{CHLD} = "IGNORE";
    $s = IO::Socket::INET->new(LocalPort => 7, Listen => 1024) or die;
    while (1) { $c = $s->accept or next; fork and close $c or do { while (sysread $c, $d, 65536) { syswrite $c, $d } exit } }'"#;

/// Sends every datagram back.
const UDP_ECHO: &str = r#"exec perl -MIO::Socket::INET -e '
    $s = IO::Socket::INET->new(LocalPort => 9, Proto => "udp") or die;
    while (defined $s->recv($d, 65535)) { $s->send($d) }'"#;

/// A container that runs `script`, with these options of `docker run`.
fn run(app: &Appliance, stem: &str, options: &[&str], script: &str) -> ContainerName {
    run_of(app, &app.busybox(), stem, options, script)
}

fn run_of(app: &Appliance, image: &str, stem: &str, options: &[&str], script: &str) -> ContainerName {
    let name = app.name(stem);
    let words = ["run", "--detach", "--name", &name].into_iter().chain(options.iter().copied());
    app.docker(words.chain([image, "sh", "-c", script])).succeeds();
    name
}

fn published(app: &Appliance, name: &str) -> Value {
    app.inspect(name)["NetworkSettings"]["Ports"].clone()
}

/// The host's port that leads to a container's, as inspect shows it.
fn port(app: &Appliance, name: &str, container: &str) -> u16 {
    let all = published(app, name);
    let text = all[container][0]["HostPort"].as_str().unwrap_or_else(|| panic!("{container} in {all}"));
    text.parse().expect("a number")
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// What comes back for `bytes` and the end of them.
fn echoed(port: u16, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = connect(port)?;
    let mut writer = stream.try_clone()?;
    let mut back = Vec::new();
    std::thread::scope(|scope| {
        let written =
            scope.spawn(move || writer.write_all(bytes).and_then(|()| writer.shutdown(Shutdown::Write)));
        let read = stream.read_to_end(&mut back);
        written.join().expect("no panic").and(read)
    })?;
    Ok(back)
}

/// Waits until the server in the container listens.
fn serves(app: &Appliance, port: u16) {
    eventually("it echoes", app.patience(), || (echoed(port, b"hello").ok()? == b"hello").then_some(()));
}

/// The reference engine's host is a network namespace of its own, which the tests are not in.
fn host_is_elsewhere(app: &Appliance) -> bool {
    is_reference(app)
}

/// N5, N6
#[test]
fn a_published_port_is_the_hosts() {
    let app = appliance();
    if host_is_elsewhere(app) {
        skip!("the reference engine's host is another network namespace");
    }
    let name = run(app, "port-echo", &["--publish", "127.0.0.1::7"], ECHO);
    let port = port(app, &name, "7/tcp");
    serves(app, port);
    // Both ways at once, and the end of one is not the end of the other.
    let bytes: Vec<u8> = (0..4_000_000_u32).map(|n| (n * 31 % 251) as u8).collect();
    assert!(echoed(port, &bytes).expect("it is carried") == bytes);
    app.docker(["stop", "--timeout", "0", &name]).succeeds();
    assert!(connect(port).is_err(), "it is closed when stop returns");
    app.docker(["start", &name]).succeeds();
    serves(app, self::port(app, &name, "7/tcp"));
}

#[test]
fn many_connections_at_once() {
    let app = appliance();
    if host_is_elsewhere(app) {
        skip!("the reference engine's host is another network namespace");
    }
    let name = run_of(app, &app.image(Image::Debian), "port-many", &["--publish", "127.0.0.1::7"], WIDE_ECHO);
    let port = port(app, &name, "7/tcp");
    serves(app, port);
    // All of them are open before the first says anything.
    let mut all: Vec<TcpStream> = (0..200).map(|_| connect(port).expect("it is taken")).collect();
    for (number, stream) in all.iter_mut().enumerate() {
        stream.write_all(format!("connection {number}").as_bytes()).expect("it is taken");
        stream.shutdown(Shutdown::Write).expect("it is open");
    }
    for (number, stream) in all.iter_mut().enumerate() {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers");
        assert_eq!(text, format!("connection {number}"));
    }
}

#[test]
fn datagrams_are_carried() {
    let app = appliance();
    if host_is_elsewhere(app) {
        skip!("the reference engine's host is another network namespace");
    }
    let image = app.image(Image::Debian);
    let name = run_of(app, &image, "port-udp", &["--publish", "127.0.0.1::9/udp"], UDP_ECHO);
    let port = port(app, &name, "9/udp");
    let sockets: Vec<UdpSocket> =
        (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").expect("there is a port")).collect();
    eventually("each client has its own answers", app.patience(), || {
        let told = sockets.iter().enumerate().all(|(number, socket)| {
            let text = format!("datagram of {number}");
            socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a time");
            socket.send_to(text.as_bytes(), ("127.0.0.1", port)).expect("it is sent");
            let mut back = [0; 64];
            socket.recv(&mut back).is_ok_and(|count| &back[..count] == text.as_bytes())
        });
        told.then_some(())
    });
}

/// N1, N2, N4, N5
#[test]
fn clients_are_told_where_the_host_listens() {
    let app = appliance();
    let name = run(app, "port-told", &["--publish", "80", "--expose", "81"], "exec sleep 600");
    let all = published(app, &name);
    let number = all["80/tcp"][0]["HostPort"].as_str().expect("a port").to_owned();
    let both = json!([{ "HostIp": "0.0.0.0", "HostPort": number }, { "HostIp": "::", "HostPort": number }]);
    assert_eq!(all, json!({ "80/tcp": both, "81/tcp": null }));
    let told = app.docker(["port", &name]).succeeds().text();
    assert_eq!(told, format!("80/tcp -> 0.0.0.0:{number}\n80/tcp -> [::]:{number}\n"));
    let filter = format!("%7B%22name%22:[%22{}%22],%22publish%22:[%22{number}%22]%7D", &*name);
    let list = app.api().get(&format!("/containers/json?filters={filter}")).is(200).json();
    let mut ports = list[0]["Ports"].as_array().expect("the container is listed").clone();
    ports.sort_by_key(Value::to_string);
    let of = |ip: &str| json!({ "IP": ip, "PrivatePort": 80, "PublicPort": number.parse::<u16>().unwrap(), "Type": "tcp" });
    assert_eq!(ports, [of("0.0.0.0"), of("::"), json!({ "PrivatePort": 81, "Type": "tcp" })]);
    app.docker(["stop", "--timeout", "0", &name]).succeeds();
    assert_eq!(published(app, &name), json!({}));
    let all = run(app, "port-all", &["--publish-all", "--expose", "90/udp"], "exec sleep 600");
    assert!(port(app, &all, "90/udp") > 0);
    // No binding is one to any port.
    let bare = app.name("port-bare");
    let body = json!({ "Image": app.busybox(), "Cmd": ["sleep", "600"], "HostConfig": { "PortBindings": { "80/tcp": [] } } });
    app.api().post_json(&format!("/containers/create?name={}", &*bare), body).is(201);
    app.docker(["start", &bare]).succeeds();
    assert!(port(app, &bare, "80/tcp") > 0);
}

/// N3
#[test]
fn who_comes_second_is_told_so() {
    let app = appliance();
    let first = run(app, "port-first", &["--publish", "80"], "exec sleep 600");
    let number = port(app, &first, "80/tcp");
    let second = app.name("port-second");
    let taken = format!("{number}:80");
    let image = app.busybox();
    let words = ["run", "--detach", "--name", &second, "--publish", &taken, &image, "sleep", "600"];
    let told = format!("Bind for 0.0.0.0:{number} failed: port is already allocated");
    app.docker(words).exits(125).says_on_stderr(&told).says_on_stderr(
        "failed to set up container networking: driver failed programming external connectivity on endpoint",
    );
    assert_eq!(app.inspect(&second)["State"]["Status"], "created");
    // UDP is another world, and so is the container once the first is gone.
    let udp = format!("{number}:80/udp");
    drop(run(app, "port-third", &["--publish", &udp], "exec sleep 600"));
    app.docker(["rm", "--force", &first]).succeeds();
    app.docker(["start", &second]).succeeds();
    assert_eq!(port(app, &second, "80/tcp"), number);
}

/// N3
#[test]
fn what_somebody_else_has_on_the_host_is_refused() {
    let app = appliance();
    if host_is_elsewhere(app) {
        skip!("the reference engine's host is another network namespace");
    }
    let theirs = TcpListener::bind("0.0.0.0:0").expect("there is a port");
    let number = theirs.local_addr().expect("it is bound").port();
    let name = app.name("port-theirs");
    let (wanted, image) = (format!("{number}:80"), app.busybox());
    let outcome =
        app.docker(["run", "--detach", "--name", &name, "--publish", &wanted, &image, "sleep", "600"]);
    let outcome =
        outcome.exits(125).says_on_stderr(&format!("failed to bind host port for 0.0.0.0:{number}:"));
    outcome.says_on_stderr(":80/tcp: address already in use");
    // Of a range the next is taken.
    let range = format!("{number}-{}:80", number.saturating_add(20));
    drop(run(app, "port-range", &["--publish", &range], "exec sleep 600"));
    let nowhere = ["run", "--rm", "--publish", "192.0.2.1:80:80", &image, "true"];
    app.docker(nowhere).exits(125).says_on_stderr("cannot assign requested address");
}

/// N6, M17
#[test]
fn containers_reach_a_published_port_by_the_gateway() {
    let app = appliance();
    let name = run(app, "port-gate", &["--publish", "7"], ECHO);
    let number = port(app, &name, "7/tcp");
    let image = app.busybox();
    let ask = |options: &[&str]| {
        let script =
            format!("echo hello | nc -w 5 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p') {number}");
        let words = ["run", "--rm"].into_iter().chain(options.iter().copied());
        app.docker(words.chain([image.as_str(), "sh", "-c", &script])).text()
    };
    eventually("another container is answered", app.patience(), || (ask(&[]) == "hello\n").then_some(()));
    let script =
        format!("echo hello | nc -w 5 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p') {number}");
    app.docker(["exec", &name, "sh", "-c", &script]).prints("hello\n").succeeds();
    let warned = ["run", "--rm", "--network", "host", "--publish", "80:80", &image, "true"];
    app.docker(warned)
        .succeeds()
        .says_on_stderr("Published ports are discarded when using host network mode");
}

#[test]
fn what_is_no_port_is_refused() {
    let app = appliance();
    let create = |bindings: Value| {
        let body = json!({ "Image": app.busybox(), "HostConfig": { "PortBindings": bindings } });
        app.api().post_json("/containers/create", body)
    };
    let told = r#"invalid port specification: "x""#;
    create(json!({ "80/tcp": [{ "HostPort": "x" }] })).refuses(400, told);
    create(json!({ "80/tcp": [{ "HostPort": "70000" }] })).refuses(400, "invalid port specification");
    create(json!({ "x/tcp": [{ "HostPort": "80" }] })).refuses(400, "invalid port 'x': invalid syntax");
}

#[test]
fn a_connection_outlives_the_engine() {
    let Some((app, _turn)) = mortal() else { return };
    let name = run(app, "port-lives", &["--publish", "127.0.0.1::7"], ECHO);
    let number = port(app, &name, "7/tcp");
    serves(app, number);
    let mut stream = connect(number).expect("it is taken");
    let mut exchange = |text: &[u8]| {
        stream.write_all(text).expect("it is carried");
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).expect("it comes back");
        assert_eq!(back, text);
    };
    exchange(b"before");
    app.kill_engine();
    exchange(b"while it is away or new");
    assert_eq!(port(app, &name, "7/tcp"), number);
    serves(app, number);
    app.docker(["rm", "--force", &name]).succeeds();
    eventually("it is closed", app.patience(), || connect(number).is_err().then_some(()));
}
