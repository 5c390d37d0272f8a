//! The engine dies again and again while two hundred containers live, write, end, are attached to, made, started, exec'd,
//! stopped and removed.

use crate::engine_death::mortal;
use pinnace_tests::api::Body;
use pinnace_tests::{Appliance, Backend, eventually, skip};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How much of it.
struct Size {
    sleepers: usize,
    writers: usize,
    enders: usize,
    deaths: u64,
}

/// PID 1 waits for up to a second between two deaths, so a hundred of them are for those who ask for them by
/// `PINNACE_STORM_DEATHS`. A translated machine does a tenth in the same time.
fn size() -> Size {
    let asked = std::env::var("PINNACE_STORM_DEATHS").ok().and_then(|number| number.parse().ok());
    match Backend::of_this_run() {
        Backend::Qemu => Size { sleepers: 12, writers: 5, enders: 3, deaths: asked.unwrap_or(4) },
        _ => Size { sleepers: 150, writers: 30, enders: 20, deaths: asked.unwrap_or(20) },
    }
}

const WRITES: &str = "trap 'exit 9' TERM; i=0; while :; do i=$((i+1)); echo $i; usleep 10000; done";

/// Every container of the storm has this label.
const LABEL: &str = "pinnace.test.storm";

#[test]
fn deaths_in_a_storm() {
    let Some((app, _turn)) = mortal() else { skip!("the reference engine is not ours to kill") };
    if let Err(reason) = app.can_kill_engine() {
        skip!("{reason}");
    }
    let size = size();
    // What a run that was broken off left on the disk.
    check_all_can_be_removed(app);
    let residents = start_residents(app, &size);
    let before = running(app);
    let over = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for churner in 0..4 {
            let (over, rounds) = (&over, &rounds);
            scope.spawn(move || churn(app, churner, over, rounds));
        }
        scope.spawn(|| visit(app, &over));
        let _calm = Calm(&over);
        for death in 0..size.deaths {
            std::thread::sleep(Duration::from_millis(death * 37 % 150));
            app.kill_engine();
            let now = running(app);
            let lost: Vec<_> = before.iter().filter(|name| !now.contains(name)).collect();
            assert!(lost.is_empty(), "after death {death} these do not run: {lost:?}");
        }
    });
    assert!(rounds.load(Ordering::Relaxed) > 0, "hardly anything happened besides: {rounds:?}");
    for (name, pid) in residents {
        assert_eq!(app.inspect(&name)["State"]["Pid"], pid, "{name}");
    }
    check_writers(app, size.writers);
    check_enders(app, size.enders);
    check_all_can_be_removed(app);
}

/// The storm ends with the deaths, also when one of them fails the test.
struct Calm<'a>(&'a AtomicBool);

impl Drop for Calm<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn create(app: &Appliance, name: &str, script: &str) {
    let body = json!({
        "Image": app.busybox(), "Cmd": ["sh", "-c", script], "Labels": { LABEL: "1" },
        // A network for some only: there are fewer addresses than a long storm takes.
        "HostConfig": { "NetworkMode": if name.ends_with('7') { "bridge" } else { "none" } },
    });
    app.api().post_json(&format!("/containers/create?name={name}"), body).is(201);
    app.api().post(&format!("/containers/{name}/start")).is(204);
}

/// Those that run through all of it, with their process ids; enders end in the middle of it.
fn start_residents(app: &Appliance, size: &Size) -> BTreeMap<String, Value> {
    let sleepers = (0..size.sleepers).map(|n| (format!("storm-sleeps-{n}"), "exec sleep 10000"));
    let writers = (0..size.writers).map(|n| (format!("storm-writes-{n}"), WRITES));
    let residents: Vec<_> = sleepers.chain(writers).collect();
    residents.iter().for_each(|(name, script)| create(app, name, script));
    (0..size.enders)
        .for_each(|n| create(app, &ender(n), &format!("echo begin; usleep {n}00000; echo end; exit {n}")));
    residents
        .into_iter()
        .map(|(name, _)| (name.clone(), app.inspect(&name)["State"]["Pid"].clone()))
        .collect()
}

fn ender(n: usize) -> String {
    format!("storm-ends-{n}")
}

/// Names of the residents that run.
fn running(app: &Appliance) -> Vec<String> {
    let rows = app.api().get("/containers/json").is(200).json();
    let names = rows.as_array().expect("a list").iter().map(|row| row["Names"][0].as_str().expect("a name"));
    let resident = |name: &&str| name.starts_with("/storm-sleeps-") || name.starts_with("/storm-writes-");
    names.filter(resident).map(|name| name[1..].to_owned()).collect()
}

/// One container after the other through its whole life; whatever fails, fails.
fn churn(app: &Appliance, churner: usize, over: &AtomicBool, rounds: &AtomicU64) {
    let image = app.busybox();
    for round in 0.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("storm-churn-{churner}-{round}");
        let create = json!({
            "Image": image, "Cmd": ["sh", "-c", "echo hi; exec sleep 100"], "Labels": { LABEL: "1" },
            "HostConfig": { "NetworkMode": "none" },
        });
        attempt(app, "POST", &format!("/containers/create?name={name}"), &create);
        attempt(app, "POST", &format!("/containers/{name}/start"), &Value::Null);
        let exec = json!({ "Cmd": ["true"], "Detach": true });
        attempt(app, "POST", &format!("/containers/{name}/exec"), &exec);
        attempt(app, "POST", &format!("/containers/{name}/kill"), &Value::Null);
        attempt(app, "DELETE", &format!("/containers/{name}?force=1"), &Value::Null);
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

/// Clients that attach to a writer for a moment.
fn visit(app: &Appliance, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        attempt(app, "POST", "/containers/storm-writes-0/attach?stream=1&stdout=1", &Value::Null);
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn attempt(app: &Appliance, method: &str, path: &str, body: &Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    match app.api().try_connect() {
        Ok(connection) => drop(connection.try_call(request.as_bytes())),
        Err(_) => std::thread::sleep(Duration::from_millis(5)),
    }
}

/// Each wrote 1, 2, 3 and so on, and each of it is in its log once.
fn check_writers(app: &Appliance, count: usize) {
    for n in 0..count {
        let name = format!("storm-writes-{n}");
        app.api().post(&format!("/containers/{name}/stop?t=20")).is(204);
        assert_eq!(app.inspect(&name)["State"]["ExitCode"], 9, "{name}");
        let lines = app.docker(["logs", &name]).succeeds().lines();
        let wrong = lines.iter().enumerate().find(|(index, line)| **line != (index + 1).to_string());
        assert_eq!(wrong, None, "{name} of {} lines", lines.len());
        assert!(lines.len() > 10, "{name} wrote {} lines", lines.len());
    }
}

fn check_enders(app: &Appliance, count: usize) {
    for n in 0..count {
        let name = ender(n);
        let state = eventually("it has ended", app.patience(), || {
            Some(app.inspect(&name)["State"].clone()).filter(|state| state["Status"] == "exited")
        });
        assert_eq!(state["ExitCode"], n, "{name}");
        app.docker(["logs", &name]).prints("begin\nend\n").succeeds();
    }
}

/// Nothing is half made: what is listed is whole and goes, and nothing else is left.
fn check_all_can_be_removed(app: &Appliance) {
    let list = format!("/containers/json?all=1&filters={{%22label%22:[%22{LABEL}%22]}}");
    let rows = app.api().get(&list).is(200).json();
    for row in rows.as_array().expect("a list") {
        let id = row["Id"].as_str().expect("an id");
        app.api().get(&format!("/containers/{id}/json")).is(200);
        app.api().call("DELETE", &format!("/containers/{id}?force=1"), Body::Empty).is(204);
    }
    assert_eq!(app.api().get(&list).is(200).json(), json!([]));
}
