//! Names on networks of the user's own: the answers at 127.0.0.11, and the files in /etc.

use crate::appliance;
use crate::networks::{Net, address, inside, place, sleeper};
use pinnace_tests::eventually;
use serde_json::json;

/// M11, M12
#[test]
fn names_are_answered() {
    let app = appliance();
    let net = Net::of(app, "names", &["--subnet", "10.77.0.0/24"]);
    let other = Net::of(app, "others", &["--subnet", "10.78.0.0/24"]);
    let web = sleeper(app, "web", &["--network", &net, "--network-alias", "service", "--hostname", "hh"]);
    let twin = sleeper(app, "twin", &["--network", &net, "--network-alias", "service"]);
    let asker = sleeper(app, "asker", &["--network", &net]);
    let stranger = sleeper(app, "stranger", &["--network", &other]);
    let id = app.inspect(&web)["Id"].as_str().expect("an id").to_owned();
    let known = json!([&*web, "service", &id[..12], "hh"]);
    assert_eq!(place(app, &web, &net)["DNSNames"], known);
    let (of_web, of_twin) = (address(app, &web, &net), address(app, &twin, &net));
    let ask = |who: &str, name: &str| inside(app, who, &format!("nslookup {name}"));
    for name in [&*web, &id[..12], "hh", "HH", &format!("{}.{}", &*web, &*net)] {
        ask(&asker, name).mentions(&of_web).succeeds();
    }
    ask(&asker, "service").mentions(&of_web).mentions(&of_twin).succeeds();
    ask(&asker, &of_web).mentions(&format!("name = {}.{}", &*web, &*net)).succeeds();
    // Over TCP, and by programs that ask the C library.
    inside(app, &asker, &format!("ping -c 1 -W 2 {}", &*web)).mentions(&of_web).succeeds();
    ask(&stranger, &web).never_mentions(&of_web);
    inside(app, &asker, "cat /etc/resolv.conf")
        .mentions("nameserver 127.0.0.11")
        .mentions("ndots:0")
        .succeeds();
    app.docker(["stop", "-t", "0", &twin]).succeeds();
    ask(&asker, "service").mentions(&of_web).never_mentions(&of_twin).succeeds();
    let renamed = app.name("renamed");
    app.docker(["rename", &web, &renamed]).succeeds();
    ask(&asker, &renamed).mentions(&of_web).succeeds();
    app.docker(["rename", &renamed, &web]).succeeds();
}

/// M11
#[test]
fn a_container_can_serve_names_itself() {
    let app = appliance();
    let net = Net::of(app, "own", &[]);
    let name = sleeper(app, "server", &["--network", &net]);
    // Nothing of the engine's is at port 53 itself.
    inside(app, &name, "cat /proc/net/udp /proc/net/tcp | grep -c ':0035 '").prints("0\n");
    inside(app, &name, "nc -l -p 53 & sleep 0.5; netstat -lnt; kill %1").mentions(":53 ");
    inside(app, &name, "nslookup $(hostname)").mentions(&address(app, &name, &net)).succeeds();
}

/// M14
#[test]
fn resolv_conf_is_the_containers_once_it_changed_it() {
    let app = appliance();
    let net = Net::of(app, "resolv", &[]);
    let options = ["--network", &net, "--dns-search", "a.test", "--dns-option", "ndots:3"];
    let name = sleeper(app, "edits", &options);
    let text = inside(app, &name, "grep -v '^#' /etc/resolv.conf").succeeds();
    text.mentions("nameserver 127.0.0.11").mentions("search a.test").mentions("options ndots:3");
    // A container of the default bridge that comes to names asks for them from then on.
    let (follows, edits) = (sleeper(app, "follows", &[]), sleeper(app, "edits", &[]));
    inside(app, &edits, "echo 'nameserver 9.9.9.9' > /etc/resolv.conf").succeeds();
    for name in [&follows, &edits] {
        app.docker(["network", "connect", &net, name]).succeeds();
    }
    inside(app, &follows, "cat /etc/resolv.conf").mentions("nameserver 127.0.0.11").succeeds();
    inside(app, &follows, &format!("nslookup {}", &*edits)).mentions(&address(app, &edits, &net)).succeeds();
    inside(app, &edits, "cat /etc/resolv.conf").prints("nameserver 9.9.9.9\n").succeeds();
    app.docker(["restart", "-t", "0", &edits]).succeeds();
    inside(app, &edits, "cat /etc/resolv.conf").mentions("nameserver 127.0.0.11").succeeds();
}

/// M16
#[test]
fn links_stand_in_the_hosts_file() {
    let app = appliance();
    let target = sleeper(app, "target", &["--hostname", "th"]);
    let link = format!("{}:db", &*target);
    let name = sleeper(app, "linked", &["--link", &link]);
    let line = format!("{}\tdb th {}", address(app, &target, "bridge"), &*target);
    inside(app, &name, "cat /etc/hosts").mentions(&line).succeeds();
    let shown = json!([format!("/{}:/{}/db", &*target, &*name)]);
    assert_eq!(app.inspect(&name)["HostConfig"]["Links"], shown);
    let body = json!({ "Image": app.busybox(), "HostConfig": { "Links": ["missing:db"] } });
    app.api()
        .post_json("/containers/create", body)
        .refuses(400, "could not get container for missing: No such container: missing");
    let net = Net::of(app, "links", &[]);
    let (far, asker) = (sleeper(app, "far", &["--network", &net]), app.name("asker"));
    let link = format!("{}:near", &*far);
    let args = [
        "run",
        "--rm",
        "--name",
        &asker,
        "--network",
        &net,
        "--link",
        &link,
        &app.busybox(),
        "sh",
        "-c",
        "nslookup near",
    ];
    app.docker(args).mentions(&address(app, &far, &net)).succeeds();
}

/// M13: whoever asks without end is answered, and so are all others.
#[test]
fn a_flood_of_questions_holds_up_nobody() {
    let app = appliance();
    let net = Net::of(app, "flood", &[]);
    let (hostile, other) =
        (sleeper(app, "hostile", &["--network", &net]), sleeper(app, "other", &["--network", &net]));
    // What is no question at all, and questions for outside, as fast as it can.
    let garbage = "syslogd -n -R 127.0.0.11:53 & yes flood | logger";
    let questions =
        "while :; do nslookup nosuch.invalid >/dev/null 2>&1 & nslookup hostile >/dev/null 2>&1; done";
    app.docker(["exec", "-d", &hostile, "sh", "-c", garbage]).succeeds();
    app.docker(["exec", "-d", &hostile, "sh", "-c", questions]).succeeds();
    for _ in 0..10 {
        app.api().get("/_ping").is(200);
        inside(app, &other, "nslookup $(hostname)").mentions(&address(app, &other, &net)).succeeds();
    }
    app.docker(["rm", "-f", &hostile]).succeeds();
    inside(app, &other, "nslookup $(hostname)").succeeds();
}

/// While the engine is away questions wait in their socket.
#[test]
fn a_question_waits_for_the_engine() {
    let Some((app, _turn)) = crate::engine_death::mortal() else { return };
    if let Err(reason) = app.can_kill_engine() {
        pinnace_tests::skip!("{reason}");
    }
    let net = Net::of(app, "waits", &[]);
    let asker = sleeper(app, "asker", &["--network", &net]);
    let script = "i=0; while [ $i -lt 40 ]; do nslookup $(hostname) >/dev/null || echo lost; i=$((i+1)); usleep 20000; done; \
                  echo done";
    app.docker(["exec", "-d", &asker, "sh", "-c", &format!("({script}) > /told 2>&1")]).succeeds();
    app.kill_engine();
    eventually("all was asked", app.patience(), || {
        inside(app, &asker, "cat /told").text().contains("done").then_some(())
    });
    inside(app, &asker, "cat /told").prints("done\n");
}
