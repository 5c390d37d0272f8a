//! What a container uses of the machine at one moment, from its control group (cgroup v2) and its network.

use std::collections::BTreeMap;

use runtime::cgroup::Cgroup;
use runtime::proc::{self, Interface, Machine};

use super::container::Container;
use super::registry::Containers;
use model::timestamp::Timestamp;

/// One look at a running container. What the control group has no controller for is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub read: Timestamp,
    /// Processor time.
    pub cpu: Cpu,
    /// The machine.
    pub machine: Machine,
    /// Memory.
    pub memory: Option<Memory>,
    /// Processes and threads: now, and at most.
    pub pids: Option<(u64, u64)>,
    /// Disks.
    pub io: Vec<Io>,
    /// Network interfaces; `None` for a container without a network of its own.
    pub interfaces: Option<Vec<Interface>>,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// All.
    pub used: u64,
    /// In the kernel.
    pub system: u64,
    /// In programs.
    pub user: u64,
    /// Periods of a limit, those in which it was reached, and the time waited for it.
    pub throttling: (u64, u64, u64),
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Charged to the container, caches included.
    pub usage: u64,
    /// At most; the machine's memory where there is no limit.
    pub limit: u64,
    /// How often the limit was not enough.
    pub failures: u64,
    /// The kernel's `memory.stat`.
    pub details: BTreeMap<String, u64>,
}

/// Traffic with one disk, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Io {
    /// Device number.
    pub device: (u64, u64),
    /// Read from it.
    pub read: u64,
    /// Written to it.
    pub written: u64,
}

impl Containers {
    /// What a container uses; `None` where it does not run. Blocks shortly.
    pub fn sample(&self, container: &Container) -> Option<Sample> {
        let pid = container.snapshot().state.running()?.pid;
        let cgroup = Cgroup::open(&self.shared.cgroup(&container.record())).ok()?;
        let machine = Machine::read().ok()?;
        let own_network = !matches!(container.record().host.network_mode.as_str(), "host" | "none");
        let read = Timestamp::now();
        let text = |file: &str| cgroup.read(file).ok();
        Some(Sample {
            read,
            cpu: cpu(&text("cpu.stat")?),
            machine,
            memory: text("memory.current").map(|usage| Memory {
                usage: number(&usage),
                limit: at_most(&text("memory.max").unwrap_or_default(), machine.memory),
                failures: pairs(&text("memory.events").unwrap_or_default()).get("oom").copied().unwrap_or(0),
                details: pairs(&text("memory.stat").unwrap_or_default()),
            }),
            pids: text("pids.current")
                .map(|now| (number(&now), at_most(&text("pids.max").unwrap_or_default(), u64::MAX))),
            io: io(&text("io.stat").unwrap_or_default()),
            // Without a network, or ended just now.
            interfaces: own_network.then(|| proc::interfaces(pid).unwrap_or_default()),
        })
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// A limit, `max` where there is none.
fn at_most(text: &str, none: u64) -> u64 {
    text.trim().parse().unwrap_or(none).min(none)
}

/// Lines of `key number`.
fn pairs(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// The kernel counts microseconds.
fn cpu(text: &str) -> Cpu {
    let pairs = pairs(text);
    let of = |key: &str| pairs.get(key).copied().unwrap_or(0);
    let nanos = |key: &str| of(key).saturating_mul(1000);
    Cpu {
        used: nanos("usage_usec"),
        system: nanos("system_usec"),
        user: nanos("user_usec"),
        throttling: (of("nr_periods"), of("nr_throttled"), nanos("throttled_usec")),
    }
}

/// Lines of `MAJOR:MINOR rbytes=N wbytes=N …`.
fn io(text: &str) -> Vec<Io> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let of = |key: &str| {
            line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.parse().ok()).unwrap_or(0)
        };
        let device = (major.parse().ok()?, minor.parse().ok()?);
        Some(Io { device, read: of("rbytes="), written: of("wbytes=") })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let text =
            "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 1\nthrottled_usec 9\n";
        let expected = Cpu { used: 5000, system: 2000, user: 3000, throttling: (7, 1, 9000) };
        assert_eq!(cpu(text), expected);
        let disks = io("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 \nbroken\n");
        assert_eq!(disks[0], Io { device: (8, 0), read: 10, written: 20 });
        assert_eq!(disks[1], Io { device: (8, 16), read: 0, written: 0 });
        assert_eq!(disks.len(), 2);
        assert_eq!(
            (at_most("max\n", 77), at_most("5\n", 77), at_most("9223372036854771712", 77)),
            (77, 5, 77)
        );
        assert_eq!(pairs("anon 4096\nfile x\n"), [("anon".to_owned(), 4096)].into());
    }
}
