//! What the appliance itself needs of memory.

use crate::Row;
use pinnace_tests::Appliance;
use std::collections::BTreeMap;
use std::path::Path;

/// MemTotal − MemAvailable of the idle guest, read by a container: its own few pages count.
pub fn of_guest(app: &Appliance) -> Row {
    let meminfo = app
        .docker(["run", "--rm", "--network", "none", &app.busybox(), "cat", "/proc/meminfo"])
        .succeeds()
        .text();
    let kib = fields(&meminfo);
    let used = kib["MemTotal"] - kib["MemAvailable"];
    let of = format!("of {:.0} MiB", kib["MemTotal"] as f64 / 1024.0);
    Row::new("memory used in the idle guest", "100 MiB", format!("{:.0} MiB", used as f64 / 1024.0), of)
}

/// Proportional set sizes of `init` and `engined`, where their processes are this machine's.
pub fn of_processes(app: &Appliance) -> Row {
    let init = app.status()["machine_pid"].as_u64().expect("status tells PID 1 as this host sees it");
    let engine = app.engine_process().expect("the engine runs");
    let pss = |pid: &str| {
        let rollup = std::fs::read_to_string(Path::new("/proc").join(pid).join("smaps_rollup"));
        fields(&rollup.expect("root may read it"))["Pss"] as f64 / 1024.0
    };
    let (init, engine) = (pss(&init.to_string()), pss(&engine));
    let parts = format!("{init:.1} + {engine:.1} MiB");
    Row::new("PSS of init and engined", "16 MiB", format!("{:.1} MiB", init + engine), parts)
}

/// `Name:   123 kB` lines.
fn fields(text: &str) -> BTreeMap<String, u64> {
    let field = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        Some((name.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
    };
    text.lines().filter_map(field).collect()
}
