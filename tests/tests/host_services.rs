//! What containers reach of the host: `host.docker.internal`, its resolver, and nothing else of its loopback interface.

use super::networks::Net;
use pinnace_tests::images::Image;
use pinnace_tests::{Appliance, Backend, build_folder, skip};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// Answers whoever comes to the host's loopback interface with what it was told, behind a word.
fn service() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("a port").port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut said = Vec::new();
                // A client that has gone is none.
                let _ = client.read_to_end(&mut said);
                let _ = client.write_all(&[b"host heard ", &said[..]].concat());
            });
        }
    });
    port
}

/// Says a word, ends its side, and prints the answer.
fn asks(address: &str, port: u16) -> String {
    format!(
        "use IO::Socket::INET; my $s = IO::Socket::INET->new(PeerAddr => '{address}', PeerPort => {port}, Timeout => 3) \
         or die \"no way: $@\"; print $s 'hello'; shutdown($s, 1); print <$s>, \"\\n\""
    )
}

/// M15, M33: by the name, on every kind of network, also after the engine's death; nobody by another address of the host's.
#[test]
fn containers_reach_the_host_by_its_name_and_its_loopback_by_no_other() {
    let app = Appliance::shared();
    if app.backend == Backend::Reference {
        skip!("the reference engine has no host beside its machine");
    }
    let (debian, port) = (app.image(Image::Debian), service());
    let own = Net::of(app, "host", &[]);
    let perl = |network: &str, address: &str| {
        let program = asks(address, port);
        app.docker(["run", "--rm", "--network", network, &debian, "perl", "-e", &program])
    };
    for network in ["bridge", &own, "host"] {
        for name in ["host.docker.internal", "gateway.docker.internal"] {
            perl(network, name).prints("host heard hello\n");
        }
    }
    let program = asks("mine", port);
    let run = ["run", "--rm", "--add-host", "mine:host-gateway", &debian, "perl", "-e", &program];
    app.docker(run).prints("host heard hello\n");
    // A port where nobody is ends the connection, which is all that a stream can say.
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
    app.docker(["run", "--rm", &debian, "perl", "-e", &asks("host.docker.internal", free)]).prints("\n");
    if app.backend == Backend::Qemu {
        // QEMU's user network has the loopback interface at .2, and at .3 where the host's resolver is.
        for (network, address) in [("bridge", "10.0.2.2"), (&*own, "10.0.2.2"), ("bridge", "10.0.2.3")] {
            perl(network, address).fails().says_on_stderr("no way");
        }
    }
}

/// Answers every question for an address with this one (RFC 1035, 4.1).
fn name_server(at: &str, address: &str) {
    const ADDRESS: [u8; 2] = [0, 1];
    let socket = UdpSocket::bind((at, 53)).expect("the port is free");
    let address: Ipv4Addr = address.parse().expect("an address");
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let name = bytes[12..length].iter().position(|byte| *byte == 0).expect("a name ends");
            let question = &bytes[12..12 + name + 5];
            let is_known = question[name + 1..name + 3] == ADDRESS;
            let head = [&bytes[..2], &[0x81, 0x80, 0, 1, 0, u8::from(is_known), 0, 0, 0, 0]].concat();
            // The name of the question, its type and class, a minute, and four bytes.
            let record = [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4], &address.octets()[..]].concat();
            let answer = [&head[..], question, if is_known { &record[..] } else { &[] }].concat();
            socket.send_to(&answer, from).expect("it is sent");
        }
    });
}

/// M13: whoever the host asks at that moment is asked, also by those on the default bridge.
#[test]
fn names_are_asked_of_whom_the_host_asks_at_that_moment() {
    let backend = Backend::of_this_run();
    if backend == Backend::Reference {
        skip!("the reference engine has no host beside its machine");
    }
    let place = tempfile::tempdir_in(build_folder("test")).expect("a folder");
    let here = tempfile::tempdir().expect("a folder");
    let conf = here.path().join("resolv.conf");
    std::fs::write(&conf, "").expect("it is written");
    let app = Appliance::boot_with_resolver(backend, place.path(), &conf);
    let debian = app.image(Image::Debian);
    app.docker(["network", "create", "asked"]).succeeds();
    for (server, address) in [("127.0.7.1", "192.0.2.71"), ("127.0.7.2", "192.0.2.72")] {
        name_server(server, address);
        std::fs::write(&conf, format!("nameserver {server}\n")).expect("it is written");
        for network in ["bridge", "asked", "host"] {
            let run = ["run", "--rm", "--network", network, &debian, "getent", "ahostsv4", "moving.example"];
            let said = app.docker(run).succeeds().text();
            assert!(said.contains(address), "{network}: {said}");
        }
    }
}
