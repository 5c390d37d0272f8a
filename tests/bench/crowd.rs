//! Many containers at once: what one more costs in memory, and how the answers grow with their number.

use crate::containers::{Caller, made};
use crate::memory::{self, Engine};
use crate::sample::{Sample, millis};
use crate::{Row, say};
use pinnace_tests::{Appliance, Backend};
use serde_json::{Value, json};
use std::time::Instant;

/// How many sleep at once in the end.
const CROWD: usize = 1000;
/// The numbers at which lists are asked for.
const STEPS: [usize; 3] = [10, 100, CROWD];
/// What the VM of the promise has, in MiB.
const GUEST_MIB: &str = "2048M";

/// The rows of the table that are about an appliance of this host's kernel.
pub fn rows() -> Vec<Row> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let app = Appliance::boot(Backend::Namespace, dir.path());
    let mut rows = Vec::new();
    let mut caller = Caller::new(&app);
    // Pools and caches fill first.
    let mut sleeping = fill(&app, Vec::new(), 3);
    let (engine, kernel) = (Engine::of(&app), memory::kernel_kib());
    for step in STEPS {
        say(&format!("a crowd of {step}"));
        sleeping = fill(&app, sleeping, step);
        rows.push(answers(&app, &mut caller, &sleeping));
    }
    let more = (CROWD - 3) as f64;
    let now = Engine::of(&app);
    let (of_engine, of_init) = (now.engine_kib - engine.engine_kib, now.init_kib - engine.init_kib);
    let slab = memory::kernel_kib().saturating_sub(kernel) as f64 / more;
    rows.push(Row::new(
        &format!("memory of engine and init for each of {CROWD} running containers"),
        "150 KiB",
        format!("{:.0} KiB", (of_engine + of_init) / more),
        format!(
            "{:.1} + {:.1} KiB; the kernel's slab, stacks and page tables grew by {slab:.0} KiB each",
            of_engine / more,
            of_init / more
        ),
    ));
    rows
}

/// A machine of 2 GiB with a thousand containers in it.
pub fn in_the_vm() -> Vec<Row> {
    say(&format!("a crowd of {CROWD} in a virtual machine"));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let app = Appliance::boot_with(Backend::Qemu, dir.path(), &["--memory", GUEST_MIB]);
    let start = Instant::now();
    let sleeping = fill(&app, Vec::new(), CROWD);
    let took = start.elapsed();
    let running = app.docker(["ps", "--quiet"]).succeeds().lines().len();
    assert_eq!(running, sleeping.len());
    let (total, available) = memory::guest_kib(&app);
    let mebibytes = |kib: u64| kib / 1024;
    vec![Row::new(
        "sleeping containers at once in a virtual machine of 2 GiB",
        "1000",
        running.to_string(),
        format!(
            "{} MiB of {} used; started one after the other in {:.0} s",
            mebibytes(total - available),
            mebibytes(total),
            took.as_secs_f64()
        ),
    )]
}

/// Starts sleeping containers until there are `wanted`.
fn fill(app: &Appliance, mut sleeping: Vec<String>, wanted: usize) -> Vec<String> {
    let mut caller = Caller::new(app);
    let body = sleeper(app);
    while sleeping.len() < wanted {
        let id = made(&mut caller, &body);
        caller.call("POST", &format!("/containers/{id}/start"), None);
        sleeping.push(id);
    }
    sleeping
}

/// What sleeps.
fn sleeper(app: &Appliance) -> Value {
    json!({ "Image": app.busybox(), "Cmd": ["sleep", "86400"], "HostConfig": { "NetworkMode": "none" } })
}

/// The list of all, and what is asked of each.
fn answers(app: &Appliance, caller: &mut Caller, sleeping: &[String]) -> Row {
    let all = caller.call("GET", "/containers/json", None);
    assert_eq!(all.as_array().map(Vec::len), Some(sleeping.len()));
    let (mut list, mut inspect, mut stats) = (Sample::default(), Sample::default(), Sample::default());
    let mut removal = Sample::default();
    for _ in 0..20 {
        let id = made(caller, &sleeper(app));
        removal.measure(1, || drop(caller.ask("DELETE", &format!("/containers/{id}"), None)));
    }
    list.measure(10, || drop(caller.ask("GET", "/containers/json", None)));
    for id in sleeping {
        inspect.measure(1, || drop(caller.ask("GET", &format!("/containers/{id}/json"), None)));
        let path = format!("/containers/{id}/stats?stream=0&one-shot=1");
        stats.measure(1, || drop(caller.ask("GET", &path, None)));
    }
    let tell = |sample: &Sample| format!("{:.2} ms", millis(sample.median()));
    Row::new(
        &format!(
            "with {} running containers: the list of all; inspect, stats and removal of one",
            sleeping.len()
        ),
        if sleeping.len() == CROWD { "5 ms for the list" } else { "" },
        format!("{}; {}, {} and {}", tell(&list), tell(&inspect), tell(&stats), tell(&removal)),
        format!(
            "all inspected in {:.0} ms, all stats in {:.0} ms",
            millis(inspect.total()),
            millis(stats.total())
        ),
    )
}
