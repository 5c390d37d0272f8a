//! The folder of an appliance: who may have it, one turn after another, and what a bridge that lives beside costs.

mod bench;

use bench::{Bench, Guest};
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;

#[test]
fn down_while_up_prepares() {
    let bench = Bench::new();
    let up = bench.start_slow_up(Guest::Silent);
    bench.wait_for_bridge();
    bench.command("down").args(&["--timeout", "1"]).run().succeeds();
    up.end().fails("powered off");
    bench.leaves_nothing();
    bench.command("status").run().fails("");
}

#[test]
fn purge_while_up_prepares() {
    let bench = Bench::new();
    let up = bench.start_slow_up(Guest::Silent);
    bench.wait_for_bridge();
    bench.command("down").args(&["--timeout", "1", "--purge"]).run().succeeds();
    up.end().fails("powered off");
    bench.no_process_left();
    assert!(!bench.dir().exists(), "nothing of it is left");
}

#[test]
fn purge_while_another_up_waits() {
    let bench = Bench::new();
    let first = bench.start_up(Guest::Silent, &["--timeout", "60"]);
    bench.wait_until_booting();
    let second = bench.start_up(Guest::Silent, &["--timeout", "60"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    bench.command("down").args(&["--timeout", "1", "--purge"]).run().succeeds();
    first.end().fails("");
    // It had its turn before or after the disk went, never with a disk that went under it.
    bench.command("down").args(&["--timeout", "1", "--purge"]).run().succeeds();
    second.end().fails("");
    bench.no_process_left();
    assert!(!bench.dir().exists(), "nothing of it is left");
}

#[test]
fn status_while_up_prepares() {
    let bench = Bench::new();
    let up = bench.start_slow_up(Guest::Silent);
    bench.wait_for_bridge();
    bench.command("status").run().fails_saying_on_stdout("is booting");
    bench.command("down").args(&["--timeout", "1"]).run().succeeds();
    up.end().fails("");
}

#[test]
fn a_folder_that_others_may_write_to() {
    let bench = Bench::new();
    std::fs::write(bench.dir().join("theirs"), "").unwrap();
    bench.set_mode(0o777);
    bench.up(Guest::PowersOff, &[]).fails_in_one_line("is open to others (mode 0777)");
    for verb in ["down", "status", "logs", "console"] {
        bench.command(verb).run().fails_in_one_line("chmod 700");
    }
}

#[test]
fn a_folder_of_another_user() {
    let bench = Bench::new();
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    bench.give_to_nobody();
    bench.up(Guest::PowersOff, &[]).fails_in_one_line("belongs to another user");
    bench.command("down").args(&["--purge"]).run().fails_in_one_line("belongs to another user");
}

#[test]
fn links_in_the_folder_lead_nowhere() {
    for name in ["bridge.log", "state.new", "bridge.pid", "up.lock"] {
        let bench = Bench::new();
        let victim = bench.dir().with_extension("victim");
        std::fs::write(&victim, "text").unwrap();
        std::os::unix::fs::symlink(&victim, bench.dir().join(name)).unwrap();
        bench.up(Guest::PowersOff, &[]).fails("");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "text", "{name}");
    }
}

#[test]
fn more_clients_than_the_usual_limit_of_open_files() {
    let bench = Bench::new();
    let up = bench.command("up").arg("--image").arg(bench.image(Guest::Silent));
    let up = up.args(&["--memory", "128M", "--timeout", "60"]).limited_to(128).start();
    let qemu = bench.wait_for("qemu-system");
    let socket = bench.dir().join("docker.sock");
    let clients: Vec<UnixStream> = (0..400).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    bench.command("status").run().fails_saying_on_stdout("is booting");
    let waits = |mut client: &UnixStream| {
        client.set_nonblocking(true).unwrap();
        client.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    assert!(clients.iter().all(waits), "none was sent away");
    assert_eq!(bench.open_files(qemu), "128", "QEMU has the limit that pinnace was started with");
    drop(clients);
    bench.command("down").args(&["--timeout", "1"]).run().succeeds();
    up.end().fails("");
}

#[test]
fn purge_leaves_the_context_of_another_appliance() {
    let bench = Bench::new();
    let asked = bench.dir().with_extension("asked");
    let own = format!("unix://{}", bench.dir().join("docker.sock").display());
    for (host, forgotten) in [("unix:///elsewhere/docker.sock", false), (own.as_str(), true)] {
        let script = format!("echo \"$*\" >> {}\necho {host}", asked.display());
        let path = bench.stand_in("docker", &script);
        bench.command("down").args(&["--purge"]).env("PATH", &path).run().succeeds();
        let asked = std::fs::read_to_string(&asked).unwrap();
        assert_eq!(asked.contains("context rm --force pinnace"), forgotten, "{asked}");
    }
}
