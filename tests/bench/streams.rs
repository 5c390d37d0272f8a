//! How fast output flows, and what it costs the engine.

use crate::containers::{Caller, made};
use crate::memory::cpu;
use crate::{Row, say};
use pinnace_tests::api::Body;
use pinnace_tests::{Appliance, Backend};
use serde_json::json;
use std::io::Read;
use std::time::{Duration, Instant};

/// Bytes that flow in each measurement.
const MEBIBYTES: usize = 256;

/// The rows of the table.
pub fn rows() -> Vec<Row> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let app = Appliance::boot(Backend::Namespace, dir.path());
    say("streams");
    let (attached, log) = (attach(&app, "none"), attach(&app, "json-file"));
    vec![
        told("output to an attached client, nothing logged", &attached),
        told("output to an attached client, logged too (json-file)", &log),
        told("output to the log (json-file), nobody attached", &written(&app)),
        told("`logs` of it", &read(&app)),
    ]
}

struct Flow {
    bytes: usize,
    took: Duration,
    cpu: Duration,
}

fn told(what: &str, flow: &Flow) -> Row {
    let mebibytes = flow.bytes as f64 / f64::from(1 << 20);
    let speed = format!("{:.0} MiB/s", mebibytes / flow.took.as_secs_f64());
    let cost = flow.cpu.as_secs_f64() * 1e3 / mebibytes;
    Row::new(what, "", speed, format!("{cost:.2} ms of the engine's processor time for a MiB"))
}

/// Lines of text, as programs print them.
fn script() -> String {
    format!(
        "yes 'a line of sixty-four bytes, as programs print when they say it.' | head -c {}",
        MEBIBYTES << 20
    )
}

fn container(app: &Appliance, driver: &str) -> String {
    let body = json!({
        "Image": app.busybox(), "Cmd": ["sh", "-c", script()], "AttachStdout": true,
        "HostConfig": { "NetworkMode": "none", "LogConfig": { "Type": driver } },
    });
    made(&mut Caller::new(app), &body)
}

fn attach(app: &Appliance, driver: &str) -> Flow {
    let id = container(app, driver);
    let mut attached = app.api().hijack(&format!("/containers/{id}/attach?stream=1&stdout=1"), Body::Empty);
    measured(app, || {
        app.api().post(&format!("/containers/{id}/start")).is(204);
        drain(&mut attached)
    })
}

/// Until the container ended, which is when all is in the log.
fn written(app: &Appliance) -> Flow {
    let id = container(app, "json-file");
    measured(app, || {
        app.api().post(&format!("/containers/{id}/start")).is(204);
        app.api().post(&format!("/containers/{id}/wait")).is(200);
        MEBIBYTES << 20
    })
}

fn read(app: &Appliance) -> Flow {
    let list = app.api().get("/containers/json?all=1&limit=1").is(200).json();
    let id = list[0]["Id"].as_str().expect("one was just run").to_owned();
    measured(app, || {
        let mut arriving = app.api().stream("GET", &format!("/containers/{id}/logs?stdout=1"));
        drain(&mut arriving)
    })
}

fn measured(app: &Appliance, flow: impl FnOnce() -> usize) -> Flow {
    let engine = app.engine_process().expect("the engine runs");
    let (before, start) = (cpu(&engine), Instant::now());
    let bytes = flow();
    assert!(bytes >= MEBIBYTES << 20, "only {bytes} bytes flowed");
    Flow { bytes, took: start.elapsed(), cpu: cpu(&engine) - before }
}

/// Reads to the end; returns how many bytes there were.
fn drain(stream: &mut impl Read) -> usize {
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer).expect("the stream ends in order") {
            0 => return bytes,
            count => bytes += count,
        }
    }
}
