//! What /proc tells of processes and of the machine, see proc(5).

use std::io;
use std::path::Path;

/// Clock ticks of /proc in a second: USER_HZ, the same on every architecture that Linux has now.
pub const TICKS: u64 = 100;
/// Longest command line read, in bytes.
const CMDLINE_MAX: u64 = 4 << 10;

/// One process at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// Its number where /proc was mounted.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// Process group.
    pub group: u32,
    /// Session.
    pub session: u32,
    /// Device number of its terminal, 0 without.
    pub terminal: u32,
    /// Process group in the terminal's foreground, -1 without.
    pub foreground: i32,
    /// One letter.
    pub state: char,
    /// Processor time used, in ticks.
    pub used: u64,
    /// Start after the machine's boot, in ticks.
    pub started: u64,
    /// Scheduling priority.
    pub priority: i64,
    /// Nice value.
    pub nice: i64,
    /// Threads.
    pub threads: u64,
    /// Address space, in bytes.
    pub virtual_size: u64,
    /// Memory present, in bytes.
    pub resident: u64,
    /// Real, effective user ids.
    pub users: (u32, u32),
    /// Real, effective group ids.
    pub groups: (u32, u32),
    /// Short name.
    pub name: String,
    /// Arguments, empty for a thread of the kernel and for a zombie.
    pub arguments: Vec<String>,
}

impl Process {
    /// Reads one.
    ///
    /// # Errors
    /// It has ended.
    pub fn read(pid: u32) -> io::Result<Process> {
        let folder = Path::new("/proc").join(pid.to_string());
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "unknown form of /proc/PID");
        let stat = String::from_utf8_lossy(&std::fs::read(folder.join("stat"))?).into_owned();
        let mut process = parse_stat(&stat).ok_or_else(bad)?;
        let status = String::from_utf8_lossy(&std::fs::read(folder.join("status"))?).into_owned();
        (process.users, process.groups) = parse_ids(&status).ok_or_else(bad)?;
        process.arguments = arguments(&folder.join("cmdline"))?;
        Ok(process)
    }
}

/// Whether the process is in a cgroup that has `name` on its path.
///
/// # Errors
/// It has ended.
pub fn is_in_cgroup(pid: u32, name: &str) -> io::Result<bool> {
    let place = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    Ok(place.split(['/', '\n']).any(|part| part == name))
}

fn arguments(file: &Path) -> io::Result<Vec<String>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(CMDLINE_MAX).read_to_end(&mut bytes)?;
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    Ok(bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

/// The name stands between the first `(` and the last `)` and may hold anything.
fn parse_stat(text: &str) -> Option<Process> {
    let (pid, rest) = text.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| -> Option<u64> { fields.get(at)?.parse().ok() };
    let signed = |at: usize| -> Option<i64> { fields.get(at)?.parse().ok() };
    let id = |at: usize| -> Option<u32> { fields.get(at)?.parse().ok() };
    Some(Process {
        pid: pid.trim().parse().ok()?,
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        ppid: id(1)?,
        group: id(2)?,
        session: id(3)?,
        terminal: signed(4)? as u32,
        foreground: signed(5)? as i32,
        used: number(11)? + number(12)?,
        priority: signed(15)?,
        nice: signed(16)?,
        threads: number(17)?,
        started: number(19)?,
        virtual_size: number(20)?,
        resident: number(21)?.saturating_mul(rustix::param::page_size() as u64),
        ..Process::default()
    })
}

type Ids = (u32, u32);

fn parse_ids(status: &str) -> Option<(Ids, Ids)> {
    let of = |key: &str| -> Option<Ids> {
        let mut ids = status.lines().find_map(|line| line.strip_prefix(key))?.split_ascii_whitespace();
        Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
    };
    Some((of("Uid:")?, of("Gid:")?))
}

/// The machine at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Machine {
    /// Boot, in seconds since 1970 UTC.
    pub booted: u64,
    /// Time that all processors together have spent in any state, in nanoseconds.
    pub processor_time: u64,
    /// Processors.
    pub processors: u32,
    /// Memory, in bytes.
    pub memory: u64,
}

impl Machine {
    /// Reads it.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn read() -> io::Result<Machine> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        Ok(parse_machine(&stat, &std::fs::read_to_string("/proc/meminfo")?))
    }
}

fn parse_machine(stat: &str, meminfo: &str) -> Machine {
    let after =
        |text: &str, key: &str| text.lines().find_map(|line| line.strip_prefix(key).map(str::to_owned));
    let first = |text: Option<String>| -> u64 {
        text.and_then(|text| text.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    // User to steal; the guests' time behind them is in the users' already.
    let all = after(stat, "cpu ").unwrap_or_default();
    let ticks: u64 = all.split_ascii_whitespace().take(7).filter_map(|word| word.parse::<u64>().ok()).sum();
    let one = |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| !rest.starts_with(' '));
    Machine {
        booted: first(after(stat, "btime")),
        processor_time: ticks.saturating_mul(1_000_000_000 / TICKS),
        processors: stat.lines().filter(one).count() as u32,
        memory: first(after(meminfo, "MemTotal:")) * 1024,
    }
}

/// Counters of one network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Received: bytes, packets, errors, dropped.
    pub received: [u64; 4],
    /// Sent: bytes, packets, errors, dropped.
    pub sent: [u64; 4],
}

/// The interfaces, but for `lo`, that a process sees.
///
/// # Errors
/// It has ended.
pub fn interfaces(pid: u32) -> io::Result<Vec<Interface>> {
    Ok(parse_interfaces(&std::fs::read_to_string(format!("/proc/{pid}/net/dev"))?))
}

fn parse_interfaces(text: &str) -> Vec<Interface> {
    let one = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> =
            counters.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        let four = |from: usize| counters.get(from..from + 4)?.try_into().ok();
        let name = name.trim().to_owned();
        Some(Interface { name, received: four(0)?, sent: four(8)? })
    };
    text.lines().filter_map(one).filter(|interface| interface.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let line = "42 (a) (b c)) S 1 42 40 34816 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 777 4096 2 1 2 3";
        let got = parse_stat(line).unwrap();
        assert_eq!((got.pid, got.name.as_str(), got.state, got.ppid), (42, "a) (b c)", 'S', 1));
        assert_eq!((got.used, got.threads, got.started, got.terminal), (200, 3, 777, 34816));
        assert_eq!(parse_stat("42 (cut"), None);
        assert_eq!(parse_stat("42 (cut) S 1"), None);
    }

    #[test]
    fn this_process_is_read() {
        let own = Process::read(std::process::id()).unwrap();
        assert_eq!(own.pid, std::process::id());
        assert!(!own.arguments.is_empty() && own.threads >= 1 && own.resident > 0);
        assert_eq!(own.users.1, rustix::process::geteuid().as_raw());
    }

    #[test]
    fn the_machine_is_read() {
        let stat = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 1\ncpu1 1 1\nintr 5\nbtime 1700000000\n";
        let got = parse_machine(stat, "MemTotal:       2048 kB\nMemFree: 1 kB\n");
        let expected =
            Machine { booted: 1_700_000_000, processor_time: 280_000_000, processors: 2, memory: 2 << 20 };
        assert_eq!(got, expected);
    }

    #[test]
    fn interfaces_are_counted() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
                    eth0: 10 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n";
        let eth0 = Interface { name: "eth0".into(), received: [10, 2, 3, 4], sent: [50, 6, 7, 8] };
        assert_eq!(parse_interfaces(text), [eth0]);
    }
}
