//! A container of `true` from create to remove, over the socket, beside runtimes without any engine and the kernel.

use crate::memory::Engine;
use crate::peer::Peer;
use crate::picture::Facts;
use crate::rivals::{Bundle, floor, installed, runtime};
use crate::sample::{Sample, millis};
use crate::{Row, rounds, say};
use pinnace_tests::api::{Body, Connection, Response};
use pinnace_tests::{Appliance, Backend, Ext4};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Containers in a row before the next rival has its turn: what disturbs the machine disturbs all alike.
const TURN: usize = 40;
/// Clients, or runtimes, at a time.
const AT_ONCE: usize = 8;
/// dockerd needs a tenth of a second and more for each: fewer in a turn tell as much.
const TURN_OF_DOCKERD: usize = 10;
/// Sleeping containers whose shims are weighed.
const WEIGHED: usize = 10;
const DISK_MIB: u32 = 4096;

/// The rows of the table.
pub fn rows(facts: &mut Facts) -> Vec<Row> {
    let disk = Ext4::new(DISK_MIB);
    let app = Appliance::boot(Backend::Namespace, disk.path());
    let bundle = Bundle::new();
    let peer = Peer::start();
    let mut field = Field::default();
    for round in 1..=rounds() {
        say(&format!("containers, round {round} of {}", rounds()));
        field.round(&app, peer.as_ref(), &bundle);
    }
    field.tell(facts, peer.as_ref());
    let mut rows = field.rows(peer.as_ref());
    rows.push(steps());
    rows.extend(memory(&app, peer.as_ref(), facts));
    rows
}

/// What the engines need of memory, idle and for each container that sleeps.
fn memory(app: &Appliance, peer: Option<&Peer>, facts: &mut Facts) -> Vec<Row> {
    let what = "memory of the idle engine, MiB (PSS)";
    let Engine { engine_kib, init_kib } = Engine::of(app);
    let (init, engine) = (init_kib / 1024.0, engine_kib / 1024.0);
    let parts = format!("{init:.1} + {engine:.1} MiB");
    let mut rows =
        vec![Row::new("PSS of init and engined", "16 MiB", format!("{:.1} MiB", init + engine), parts)];
    facts.ours(what, init + engine);
    let Some(peer) = peer else { return rows };
    let (daemons, _) = peer.memory_kib();
    facts.theirs(what, &peer.name(), daemons / 1024.0);
    let busybox = peer.app.busybox();
    let names: Vec<_> = (0..WEIGHED).map(|_| peer.app.name("weighed")).collect();
    for name in &names {
        let sleep = ["run", "--detach", "--network", "none", "--name", name, &busybox, "sleep", "600"];
        peer.app.docker(sleep).succeeds();
    }
    let (_, shims) = peer.memory_kib();
    rows.push(Row::new(
        &format!("the same, divided by {} with its containerd", peer.name()),
        "",
        format!("{:.2}", (init + engine) * 1024.0 / daemons),
        format!(
            "{:.1} MiB / {:.1} MiB; {:.1} MiB more there for the shim of each container",
            init + engine,
            daemons / 1024.0,
            shims / 1024.0 / WEIGHED as f64
        ),
    ));
    rows
}

/// Where the time of a start goes, as the engine tells it at its log level debug.
fn steps() -> Row {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let app = Appliance::boot_with(Backend::Namespace, dir.path(), &["--log", "debug"]);
    let mut caller = Caller::new(&app);
    let body = json!({ "Image": app.busybox(), "Cmd": ["true"], "HostConfig": { "NetworkMode": "none" } });
    let mut whole = Sample::default();
    for _ in 0..2 * TURN {
        let id = made(&mut caller, &body);
        whole.measure(1, || drop(caller.ask("POST", &format!("/containers/{id}/start"), None)));
        caller.call("POST", &format!("/containers/{id}/wait"), None);
        caller.call("DELETE", &format!("/containers/{id}"), None);
    }
    let log = app.pinnace("logs").run().succeeds().text();
    let mut steps: Vec<(String, Vec<u64>)> = Vec::new();
    for line in log.lines().filter_map(|line| line.split_once("start, in microseconds:")) {
        // Behind the steps is whose they are.
        let numbers = line.1.split_whitespace().filter_map(|step| {
            let (name, micros) = step.split_once('=')?;
            Some((name, micros.parse().ok()?))
        });
        for (at, (name, micros)) in numbers.enumerate() {
            if at == steps.len() {
                steps.push((name.to_owned(), Vec::new()));
            }
            steps[at].1.push(micros);
        }
    }
    let median = |numbers: &mut Vec<u64>| {
        numbers.sort_unstable();
        numbers[numbers.len() / 2]
    };
    let told: Vec<(String, u64)> =
        steps.into_iter().map(|(name, mut numbers)| (name, median(&mut numbers))).collect();
    let rest = (millis(whole.median()) * 1e3) as u64 - told.iter().map(|(_, micros)| micros).sum::<u64>();
    let told = told.iter().map(|(name, micros)| format!("{name} {micros}")).collect::<Vec<_>>().join(", ");
    Row::new(
        "a start without network, step by step, in microseconds",
        "",
        format!("{told}, request, threads and record {rest}"),
        whole.tell(),
    )
}

/// Everyone's times.
#[derive(Default)]
struct Field {
    none: Sample,
    /// Eight clients at once.
    eight: Sample,
    eight_took: Duration,
    crun_eight: Sample,
    bridge: Sample,
    exec: Sample,
    crun: Sample,
    runc: Sample,
    podman: Sample,
    floor: Vec<f64>,
    dockerd_none: Sample,
    dockerd_eight: Sample,
    dockerd_bridge: Sample,
    dockerd_exec: Sample,
}

impl Field {
    fn round(&mut self, app: &Appliance, peer: Option<&Peer>, bundle: &Bundle) {
        containers(app, "none", TURN, &mut self.none);
        runtime("crun", bundle, TURN, 1, &mut self.crun);
        self.eight_took += eight(app, TURN, &mut self.eight);
        runtime("crun", bundle, TURN, AT_ONCE, &mut self.crun_eight);
        containers(app, "bridge", TURN, &mut self.bridge);
        runtime("runc", bundle, TURN / 2, 1, &mut self.runc);
        if installed("podman") {
            runtime("podman", bundle, TURN / 4, 1, &mut self.podman);
        }
        execs(app, TURN, &mut self.exec);
        self.floor.extend(floor());
        if let Some(Peer { app, .. }) = peer {
            containers(app, "none", TURN_OF_DOCKERD, &mut self.dockerd_none);
            eight(app, TURN_OF_DOCKERD, &mut self.dockerd_eight);
            containers(app, "bridge", TURN_OF_DOCKERD, &mut self.dockerd_bridge);
            execs(app, TURN_OF_DOCKERD, &mut self.dockerd_exec);
        }
    }

    /// What goes into the picture.
    fn tell(&self, facts: &mut Facts, peer: Option<&Peer>) {
        let questions = [
            ("container on a bridge, create to remove, ms", &self.bridge, &self.dockerd_bridge),
            ("exec of `true`, ms", &self.exec, &self.dockerd_exec),
        ];
        for (what, ours, theirs) in questions {
            facts.ours(what, millis(ours.median()));
            if let Some(peer) = peer {
                facts.theirs(what, &peer.name(), millis(theirs.median()));
            }
        }
    }

    fn rows(&self, peer: Option<&Peer>) -> Vec<Row> {
        let ratio = |ours: &Sample, theirs: &Sample| {
            format!("{:.2}", millis(ours.median()) / millis(theirs.median()))
        };
        let sides = |ours: &Sample, theirs: &Sample| format!("{} / {}", ours.tell(), theirs.tell());
        let what = "create, start, wait, remove of `true` without network, divided by";
        let mut rows = vec![
            Row::new(
                &format!("{what} `crun run`"),
                "1",
                ratio(&self.none, &self.crun),
                sides(&self.none, &self.crun),
            ),
            Row::new(
                &format!("{what} `runc run`"),
                "",
                ratio(&self.none, &self.runc),
                sides(&self.none, &self.runc),
            ),
        ];
        rows.push(Row::new(
            &format!("the same, {AT_ONCE} at a time, divided by `crun run`, {AT_ONCE} at a time"),
            "",
            ratio(&self.eight, &self.crun_eight),
            format!(
                "{}; {:.0} containers a second",
                sides(&self.eight, &self.crun_eight),
                self.eight.count() as f64 / self.eight_took.as_secs_f64()
            ),
        ));
        rows.extend(self.beside_kernel());
        rows.push(Row::new(
            "the same on the bridge, with address and NAT, divided by the same without network",
            "1.3",
            ratio(&self.bridge, &self.none),
            sides(&self.bridge, &self.none),
        ));
        let row = |what: &str, ours: &Sample, theirs: &Sample| {
            Row::new(what, "", ratio(ours, theirs), sides(ours, theirs))
        };
        if self.podman.count() > 0 {
            rows.push(row("the same without network, divided by `podman run`", &self.none, &self.podman));
        }
        if let Some(peer) = peer {
            let row = |what: &str, ours: &Sample, theirs: &Sample| {
                row(&format!("{what}, divided by {}", peer.name()), ours, theirs)
            };
            rows.push(row("the same without network", &self.none, &self.dockerd_none));
            rows.push(row(&format!("the same, {AT_ONCE} at a time"), &self.eight, &self.dockerd_eight));
            rows.push(row("the same on the bridge", &self.bridge, &self.dockerd_bridge));
            rows.push(row("exec of `true`", &self.exec, &self.dockerd_exec));
        }
        rows
    }

    /// Beside the least that the kernel needs for a process in namespaces of its own.
    fn beside_kernel(&self) -> Vec<Row> {
        let mut floor = self.floor.clone();
        floor.sort_by(f64::total_cmp);
        let Some(floor) = floor.get(floor.len() / 2) else { return Vec::new() };
        let row = |what: &str, limit, ours: &Sample| {
            let what =
                format!("{what}, divided by the kernel's floor: clone with the same namespaces, exec, wait");
            let sides = format!("{} / {floor:.2} ms", ours.tell());
            Row::new(&what, limit, format!("{:.1}", millis(ours.median()) / floor), sides)
        };
        vec![row("the same", "3", &self.none), row("exec of `true` in a running container", "1", &self.exec)]
    }
}

/// Clients side by side; returns how long all of them took.
fn eight(app: &Appliance, turn: usize, sample: &mut Sample) -> Duration {
    let start = Instant::now();
    let samples = std::thread::scope(|scope| {
        let one = || {
            let mut sample = Sample::default();
            containers(app, "none", turn, &mut sample);
            sample
        };
        let clients: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one)).collect();
        clients.into_iter().map(|client| client.join().expect("no client panics")).collect::<Vec<_>>()
    });
    let took = start.elapsed();
    samples.into_iter().for_each(|each| sample.extend(each));
    took
}

/// One connection that is kept, as an SDK keeps it.
pub struct Caller {
    connection: Connection,
}

impl Caller {
    /// A new connection.
    pub fn new(app: &Appliance) -> Caller {
        Caller { connection: app.api().connect() }
    }

    /// The answer's body, read and not looked into.
    pub fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let body = body.map_or(Body::Empty, Body::Json);
        let answer = self.connection.call(method, &format!("/v1.41{path}"), body);
        assert!(answer.head.status < 400, "{method} {path}: {}", answer.text());
        answer
    }

    /// The answer as JSON.
    pub fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.ask(method, path, body);
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }
}

/// Creates a container; returns its id.
pub fn made(caller: &mut Caller, body: &Value) -> String {
    caller.call("POST", "/containers/create", Some(body))["Id"].as_str().expect("an id").to_owned()
}

fn containers(app: &Appliance, network: &str, turn: usize, sample: &mut Sample) {
    let mut caller = Caller::new(app);
    let body = json!({ "Image": app.busybox(), "Cmd": ["true"], "HostConfig": { "NetworkMode": network } });
    let mut once = || {
        let id = made(&mut caller, &body);
        caller.call("POST", &format!("/containers/{id}/start"), None);
        let wait = caller.call("POST", &format!("/containers/{id}/wait"), None);
        assert_eq!(wait["StatusCode"], 0);
        caller.call("DELETE", &format!("/containers/{id}"), None);
    };
    once();
    sample.measure(turn, once);
}

fn execs(app: &Appliance, turn: usize, sample: &mut Sample) {
    let name = app.name("bench-exec");
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    let mut caller = Caller::new(app);
    let create = json!({ "Cmd": ["true"], "AttachStdout": true });
    let start = json!({ "Detach": false, "Tty": false });
    sample.measure(turn, || {
        let id = caller.call("POST", &format!("/containers/{}/exec", &*name), Some(&create))["Id"]
            .as_str()
            .expect("an id")
            .to_owned();
        // The stream of an exec ends with its connection.
        let answer = app.api().call("POST", &format!("/v1.41/exec/{id}/start"), Body::Json(&start));
        assert_eq!(answer.head.status, 200, "{}", answer.text());
    });
}
