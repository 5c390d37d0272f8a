//! What the appliance itself needs of memory.

use crate::Row;
use pinnace_tests::Appliance;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// MemTotal − MemAvailable of the idle guest.
pub fn of_guest(app: &Appliance) -> Row {
    let (total, available) = guest_kib(app);
    let used = format!("{:.0} MiB", (total - available) as f64 / 1024.0);
    Row::new("memory used in the idle guest", "64 MiB", used, format!("of {:.0} MiB", total as f64 / 1024.0))
}

/// MemTotal and MemAvailable in KiB, read by a container: its own few pages count.
pub fn guest_kib(app: &Appliance) -> (u64, u64) {
    let read = ["run", "--rm", "--network", "none", &app.busybox(), "cat", "/proc/meminfo"];
    let kib = fields(&app.docker(read).succeeds().text());
    (kib["MemTotal"], kib["MemAvailable"])
}

/// What the kernel of this host keeps for processes, files and namespaces, in KiB.
pub fn kernel_kib() -> u64 {
    let kib = fields(&std::fs::read_to_string("/proc/meminfo").expect("it is there"));
    ["Slab", "KernelStack", "PageTables", "Percpu"].iter().map(|name| kib[*name]).sum()
}

/// Proportional set sizes in KiB.
pub struct Engine {
    /// Of `engined`.
    pub engine_kib: f64,
    /// Of `init`.
    pub init_kib: f64,
}

impl Engine {
    /// Those of an appliance whose processes are this machine's.
    pub fn of(app: &Appliance) -> Engine {
        let init = app.status()["machine_pid"].as_u64().expect("status tells PID 1 as this host sees it");
        let engine = app.engine_process().expect("the engine runs");
        Engine { engine_kib: pss(&engine), init_kib: pss(&init.to_string()) }
    }
}

/// Proportional set size of a process of this machine, in KiB.
pub fn pss(pid: &str) -> f64 {
    let rollup = std::fs::read_to_string(Path::new("/proc").join(pid).join("smaps_rollup"));
    fields(&rollup.expect("root may read it"))["Pss"] as f64
}

/// Processor time that a process has used, in steps of 10 ms.
pub fn cpu(pid: &str) -> Duration {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("see proc_pid_stat(5)");
    let ticks = |at: usize| fields.split_whitespace().nth(at).and_then(|word| word.parse::<u64>().ok());
    let sum = ticks(11).zip(ticks(12)).map(|(user, system)| user + system).expect("utime and stime");
    Duration::from_millis(sum * 10)
}

/// `Name:   123 kB` lines.
fn fields(text: &str) -> BTreeMap<String, u64> {
    let field = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        Some((name.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
    };
    text.lines().filter_map(field).collect()
}
