//! The ssh agent of the host's user in containers.

use pinnace_tests::images::Image;
use pinnace_tests::{Appliance, Backend, build_folder, skip};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

/// SSH_AGENTC_REQUEST_IDENTITIES and SSH_AGENT_IDENTITIES_ANSWER without any (draft-miller-ssh-agent, 3).
const QUESTION: [u8; 5] = [0, 0, 0, 1, 11];
const ANSWER: [u8; 9] = [0, 0, 0, 5, 12, 0, 0, 0, 0];
/// Asks it twice on one connection, as `ssh` does.
const ASKS: &str = r#"use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) or die; connect(S, sockaddr_un("/agent")) or die "connect: $!";
for (1, 2) { syswrite(S, "\0\0\0\1\x0b"); sysread(S, my $b, 9) or die "no answer"; print unpack("H*", $b), "\n" }"#;

/// Answers everybody until the test ends.
fn agent(path: &std::path::Path) {
    let listener = UnixListener::bind(path).expect("a socket");
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut question = [0; QUESTION.len()];
                while client.read_exact(&mut question).is_ok() {
                    assert_eq!(question, QUESTION);
                    client.write_all(&ANSWER).expect("it takes the answer");
                }
            });
        }
    });
}

/// O9: at Docker Desktop's path and at the host's own, for root and others, also after the carrier's end.
#[test]
fn containers_ask_the_agent_of_the_hosts_user() {
    let backend = Backend::of_this_run();
    if backend == Backend::Reference {
        skip!("the reference engine has no host beside its machine");
    }
    let here = tempfile::tempdir().expect("a folder");
    let place = tempfile::tempdir_in(build_folder("test")).expect("a folder");
    let socket = here.path().join("agent.sock");
    let path = socket.to_str().expect("UTF-8");
    let app = Appliance::boot_where(backend, place.path(), &["--share", "none"], &[("SSH_AUTH_SOCK", path)]);
    let debian = app.image(Image::Debian);
    let asks = |source: &str, user: &str| {
        let bind = format!("{source}:/agent");
        app.docker(["run", "--rm", "-u", user, "-v", &bind, &debian, "perl", "-e", ASKS])
    };
    let desktop = "/run/host-services/ssh-auth.sock";
    // Nobody listens yet: that is an answer, too.
    asks(desktop, "root").fails().says_on_stderr("no answer");
    agent(&socket);
    let want = "000000050c00000000\n".repeat(2);
    for (source, user) in [(desktop, "root"), (path, "root"), (desktop, "1234"), (path, "1234")] {
        assert_eq!(asks(source, user).succeeds().text(), want, "{source} {user}");
    }
    let mount = format!("type=bind,source={path},target=/agent");
    let twice = format!("perl -e '{ASKS}' & perl -e '{ASKS}'; wait");
    let both = app.docker(["run", "--rm", "--mount", &mount, &debian, "sh", "-c", &twice]).succeeds().text();
    assert_eq!(both, want.repeat(2));
}
