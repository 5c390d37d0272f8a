//! What a container may use of the machine: Docker's `Resources`, checked as dockerd checks them and turned into
//! the files of a control group (version 2).

// The files of control groups are answered by the kernel from memory.
#![allow(clippy::disallowed_methods)]

use serde::{Deserialize, Serialize};

/// A limit for one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// The device's node in the machine.
    pub path: String,
    /// Bytes or operations a second, or a weight.
    pub rate: u64,
}

/// A list of limits for single block devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceList {
    /// Weights.
    Weight,
    /// Bytes read a second.
    ReadBps,
    /// Bytes written a second.
    WriteBps,
    /// Reads a second.
    ReadIops,
    /// Writes a second.
    WriteIops,
}

/// Zero or empty is "not limited", and "as it is" in an update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes.
    pub memory: i64,
    /// Bytes of memory and swap together; -1 is without limit.
    pub memory_swap: i64,
    /// Bytes that are not taken away while others have more.
    pub memory_reservation: i64,
    /// Version 1 of control groups only: discarded with a warning.
    pub memory_swappiness: Option<i64>,
    /// Version 1 of control groups only: discarded with a warning.
    pub oom_kill_disable: Option<bool>,
    /// Billionths of a CPU.
    pub nano_cpus: i64,
    /// Relative weight, 1024 is everybody's.
    pub cpu_shares: i64,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds of each period.
    pub cpu_quota: i64,
    /// As in `0-2,4`.
    pub cpuset_cpus: String,
    /// As in `0-2,4`.
    pub cpuset_mems: String,
    /// Processes and threads; 0 and less are without limit.
    pub pids_limit: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: u16,
    /// Weights.
    pub blkio_weight_device: Vec<DeviceRate>,
    /// Bytes a second.
    pub blkio_read_bps: Vec<DeviceRate>,
    /// Bytes a second.
    pub blkio_write_bps: Vec<DeviceRate>,
    /// Operations a second.
    pub blkio_read_iops: Vec<DeviceRate>,
    /// Operations a second.
    pub blkio_write_iops: Vec<DeviceRate>,
}

/// What the machine's control groups can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Support {
    /// Memory.
    pub memory: bool,
    /// Swap.
    pub swap: bool,
    /// CPU time.
    pub cpu: bool,
    /// CPU sets.
    pub cpuset: bool,
    /// Number of processes.
    pub pids: bool,
    /// Throttling of block devices.
    pub io: bool,
    /// The file that weighs block devices.
    pub weight: Option<&'static str>,
    /// CPUs there are.
    pub cpus: usize,
    /// CPUs of the sets, as in `0-3`.
    pub cpuset_cpus: String,
    /// Memory nodes of the sets.
    pub cpuset_mems: String,
}

impl Support {
    /// Asks the parent of the containers' groups.
    pub(super) fn of(parent: &std::path::Path) -> Support {
        let read = |file: &str| std::fs::read_to_string(parent.join(file)).unwrap_or_default();
        let controllers = read("cgroup.subtree_control");
        let has = |name: &str| controllers.split_whitespace().any(|word| word == name);
        let weights = ["io.bfq.weight", "io.weight"];
        Support {
            memory: has("memory"),
            swap: has("memory") && parent.join("memory.swap.max").exists(),
            cpu: has("cpu"),
            cpuset: has("cpuset"),
            pids: has("pids"),
            io: has("io"),
            weight: weights.into_iter().find(|file| has("io") && parent.join(file).exists()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cpuset_cpus: read("cpuset.cpus.effective").trim().to_owned(),
            cpuset_mems: read("cpuset.mems.effective").trim().to_owned(),
        }
    }
}

/// The smallest memory limit, in bytes.
const LEAST_MEMORY: i64 = 6 << 20;

impl Resources {
    /// Drops what the machine cannot do, each with dockerd's warning.
    ///
    /// # Errors
    /// dockerd's text about what is wrong.
    pub(super) fn verify(&mut self, machine: &Support, update: bool) -> Result<Vec<String>, String> {
        let mut warnings = Vec::new();
        self.verify_memory(machine, update, &mut warnings)?;
        self.verify_cpu(machine, &mut warnings)?;
        self.verify_cpuset(machine, &mut warnings)?;
        self.verify_io(machine, &mut warnings)?;
        Ok(warnings)
    }

    fn verify_memory(
        &mut self,
        machine: &Support,
        update: bool,
        warnings: &mut Vec<String>,
    ) -> Result<(), String> {
        let mut warn = |text: &str| warnings.push(text.to_owned());
        if self.memory != 0 && self.memory < LEAST_MEMORY {
            return Err("Minimum memory limit allowed is 6MB".to_owned());
        }
        if self.memory > 0 && !machine.memory {
            warn(
                "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation \
                 discarded.",
            );
            (self.memory, self.memory_swap) = (0, -1);
        }
        if self.memory > 0 && self.memory_swap != -1 && !machine.swap {
            warn(
                "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited \
                 without swap.",
            );
            self.memory_swap = -1;
        }
        if self.memory > 0 && self.memory_swap > 0 && self.memory_swap < self.memory {
            return Err("Minimum memoryswap limit should be larger than memory limit, see usage".to_owned());
        }
        if self.memory == 0 && self.memory_swap > 0 && !update {
            let text = "You should always set the Memory limit when using Memoryswap limit, see usage";
            return Err(text.to_owned());
        }
        // The command line's default for "not given".
        if self.memory_swappiness.take().is_some_and(|value| value != -1) {
            warn(
                "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory \
                 swappiness discarded.",
            );
        }
        if self.memory_reservation > 0 && !machine.memory {
            warn(
                "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. \
                 Limitation discarded.",
            );
            self.memory_reservation = 0;
        }
        if (1..LEAST_MEMORY).contains(&self.memory_reservation) {
            return Err("Minimum memory reservation allowed is 6MB".to_owned());
        }
        if self.memory > 0 && self.memory < self.memory_reservation {
            let text = "Minimum memory limit can not be less than memory reservation limit, see usage";
            return Err(text.to_owned());
        }
        if self.oom_kill_disable.take() == Some(true) {
            warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.");
        }
        if !machine.pids && self.pids_limit.take().is_some_and(|limit| limit > 0) {
            warn(
                "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit \
                 discarded.",
            );
        }
        Ok(())
    }

    fn verify_cpu(&mut self, machine: &Support, warnings: &mut Vec<String>) -> Result<(), String> {
        let mut warn = |text: &str| warnings.push(text.to_owned());
        let conflict = |with: &str| format!("Conflicting options: Nano CPUs and {with} cannot both be set");
        if self.nano_cpus > 0 && self.cpu_period > 0 {
            return Err(conflict("CPU Period"));
        }
        if self.nano_cpus > 0 && self.cpu_quota > 0 {
            return Err(conflict("CPU Quota"));
        }
        if self.nano_cpus > 0 && !machine.cpu {
            let text = "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is \
                        not mounted";
            return Err(text.to_owned());
        }
        let cpus = i64::try_from(machine.cpus).unwrap_or(i64::MAX);
        if self.nano_cpus < 0 || self.nano_cpus > cpus.saturating_mul(1_000_000_000) {
            let there = format!("as there are only {cpus} CPUs available");
            return Err(format!("range of CPUs is from 0.01 to {cpus}.00, {there}"));
        }
        if self.cpu_shares < 0 {
            let shares = self.cpu_shares;
            return Err(format!("invalid CPU shares ({shares}): value must be a positive integer"));
        }
        if self.cpu_shares > 0 && !machine.cpu {
            warn("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.");
            self.cpu_shares = 0;
        }
        if self.cpu_shares > 0 {
            self.cpu_shares = self.cpu_shares.clamp(2, 262_144);
        }
        if (self.cpu_period != 0 || self.cpu_quota != 0) && !machine.cpu {
            warn("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.");
            (self.cpu_period, self.cpu_quota) = (0, 0);
        }
        if self.cpu_period != 0 && !(1000..=1_000_000).contains(&self.cpu_period) {
            let text = "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)";
            return Err(text.to_owned());
        }
        if (1..1000).contains(&self.cpu_quota) {
            return Err("CPU cfs quota can not be less than 1ms (i.e. 1000)".to_owned());
        }
        Ok(())
    }

    fn verify_cpuset(&mut self, machine: &Support, warnings: &mut Vec<String>) -> Result<(), String> {
        if (!self.cpuset_cpus.is_empty() || !self.cpuset_mems.is_empty()) && !machine.cpuset {
            let text = "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.";
            warnings.push(text.to_owned());
            self.cpuset_cpus.clear();
            self.cpuset_mems.clear();
        }
        let sets = [
            (&self.cpuset_cpus, &machine.cpuset_cpus, "cpus", "CPUs"),
            (&self.cpuset_mems, &machine.cpuset_mems, "mems", "memory nodes"),
        ];
        for (asked, there, kind, noun) in sets {
            let set = numbers(asked).ok_or_else(|| {
                format!("Invalid value {asked} for cpuset {kind}: failed to parse integer list: {asked}")
            })?;
            let known = numbers(there).unwrap_or_default();
            if !set.iter().all(|number| known.contains(number)) {
                return Err(format!(
                    "Requested {noun} are not available - requested {asked}, available: {there}"
                ));
            }
        }
        Ok(())
    }

    fn verify_io(&mut self, machine: &Support, warnings: &mut Vec<String>) -> Result<(), String> {
        let lacks = |what: &str, discarded: &str| {
            format!(
                "Your kernel does not support {what} or the cgroup is not mounted. {discarded} discarded."
            )
        };
        if self.blkio_weight > 0 && machine.weight.is_none() {
            warnings.push(lacks("Block I/O weight", "Weight"));
            self.blkio_weight = 0;
        }
        if self.blkio_weight > 0 && !(10..=1000).contains(&self.blkio_weight) {
            return Err("Range of blkio weight is from 10 to 1000".to_owned());
        }
        if !self.blkio_weight_device.is_empty() && machine.weight.is_none() {
            warnings.push(lacks("Block I/O weight_device", "Weight-device"));
            self.blkio_weight_device.clear();
        }
        let throttles = [
            (&mut self.blkio_read_bps, "BPS Block I/O read limit", "Block I/O BPS read limit"),
            (&mut self.blkio_write_bps, "BPS Block I/O write limit", "Block I/O BPS write limit"),
            (&mut self.blkio_read_iops, "IOPS Block read limit", "Block I/O IOPS read limit"),
            (&mut self.blkio_write_iops, "IOPS Block write limit", "Block I/O IOPS write limit"),
        ];
        for (list, what, discarded) in throttles {
            if !list.is_empty() && !machine.io {
                warnings.push(lacks(what, discarded));
                list.clear();
            }
        }
        Ok(())
    }

    /// Defaults that follow from what is given.
    pub(super) fn complete(&mut self) {
        if self.memory > 0 && self.memory_swap == 0 {
            self.memory_swap = self.memory.saturating_mul(2);
        }
    }

    fn devices(&self, list: DeviceList) -> &Vec<DeviceRate> {
        match list {
            DeviceList::Weight => &self.blkio_weight_device,
            DeviceList::ReadBps => &self.blkio_read_bps,
            DeviceList::WriteBps => &self.blkio_write_bps,
            DeviceList::ReadIops => &self.blkio_read_iops,
            DeviceList::WriteIops => &self.blkio_write_iops,
        }
    }

    fn devices_mut(&mut self, list: DeviceList) -> &mut Vec<DeviceRate> {
        match list {
            DeviceList::Weight => &mut self.blkio_weight_device,
            DeviceList::ReadBps => &mut self.blkio_read_bps,
            DeviceList::WriteBps => &mut self.blkio_write_bps,
            DeviceList::ReadIops => &mut self.blkio_read_iops,
            DeviceList::WriteIops => &mut self.blkio_write_iops,
        }
    }

    /// Takes over what `new` names, and the whole of `lists`, be they empty.
    ///
    /// # Errors
    /// dockerd's text where the two contradict each other.
    pub(super) fn update(&mut self, new: &Resources, lists: &[DeviceList]) -> Result<(), &'static str> {
        self.contradicts(new)?;
        for list in lists {
            self.devices_mut(*list).clone_from(new.devices(*list));
        }
        let numbers = [
            (&mut self.memory, new.memory),
            (&mut self.memory_swap, new.memory_swap),
            (&mut self.memory_reservation, new.memory_reservation),
            (&mut self.nano_cpus, new.nano_cpus),
            (&mut self.cpu_shares, new.cpu_shares),
            (&mut self.cpu_period, new.cpu_period),
            (&mut self.cpu_quota, new.cpu_quota),
        ];
        for (old, new) in numbers.into_iter().filter(|(_, new)| *new != 0) {
            *old = new;
        }
        let sets = [(&mut self.cpuset_cpus, &new.cpuset_cpus), (&mut self.cpuset_mems, &new.cpuset_mems)];
        for (old, new) in sets.into_iter().filter(|(_, new)| !new.is_empty()) {
            old.clone_from(new);
        }
        self.pids_limit = new.pids_limit.or(self.pids_limit);
        if new.blkio_weight != 0 {
            self.blkio_weight = new.blkio_weight;
        }
        Ok(())
    }

    fn contradicts(&self, new: &Resources) -> Result<(), &'static str> {
        let rules = [
            (
                new.nano_cpus > 0 && self.cpu_period > 0,
                "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
            ),
            (
                new.nano_cpus > 0 && self.cpu_quota > 0,
                "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
            ),
            (
                new.cpu_period > 0 && self.nano_cpus > 0,
                "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
            ),
            (
                new.cpu_quota > 0 && self.nano_cpus > 0,
                "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
            ),
            (
                new.memory != 0 && new.memory > self.memory_swap && new.memory_swap == 0,
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same \
                 time",
            ),
        ];
        rules.into_iter().find(|(broken, _)| *broken).map_or(Ok(()), |(_, text)| Err(text))
    }

    /// Files of the control group and their values; block devices are named by number through `number`.
    pub(super) fn files(
        &self,
        weight: Option<&'static str>,
        number: impl Fn(&str) -> std::io::Result<String>,
    ) -> std::io::Result<Vec<(&'static str, String)>> {
        let mut files = Vec::new();
        let max = |value: i64| if value > 0 { value.to_string() } else { "max".to_owned() };
        if self.memory > 0 {
            files.push(("memory.max", self.memory.to_string()));
            files.push((
                "memory.swap.max",
                match self.memory_swap {
                    ..=0 => "max".to_owned(),
                    swap => (swap - self.memory).max(0).to_string(),
                },
            ));
        }
        if self.memory_reservation > 0 {
            files.push(("memory.low", self.memory_reservation.to_string()));
        }
        if self.nano_cpus > 0 {
            files.push(("cpu.max", format!("{} 100000", self.nano_cpus / 10_000)));
        } else if self.cpu_quota != 0 || self.cpu_period != 0 {
            let period = if self.cpu_period > 0 { self.cpu_period } else { 100_000 };
            files.push(("cpu.max", format!("{} {period}", max(self.cpu_quota))));
        }
        if self.cpu_shares > 0 {
            files.push(("cpu.weight", cpu_weight(self.cpu_shares).to_string()));
        }
        for (file, set) in [("cpuset.cpus", &self.cpuset_cpus), ("cpuset.mems", &self.cpuset_mems)] {
            if !set.is_empty() {
                files.push((file, set.clone()));
            }
        }
        if let Some(limit) = self.pids_limit {
            files.push(("pids.max", max(limit)));
        }
        self.io_files(weight, number, &mut files)?;
        Ok(files)
    }

    /// What takes a line of [`Resources::files`] back, where the kernel keeps it until told otherwise: limits of single
    /// block devices.
    pub(super) fn takes_back(file: &str, line: &str) -> Option<String> {
        let (device, limit) = line.split_once(' ')?;
        match limit.split_once('=') {
            Some((key, _)) if file == "io.max" => Some(format!("{device} {key}=max")),
            None if file.ends_with("weight") && device.contains(':') => Some(format!("{device} default")),
            _ => None,
        }
    }

    fn io_files(
        &self,
        weight: Option<&'static str>,
        number: impl Fn(&str) -> std::io::Result<String>,
        files: &mut Vec<(&'static str, String)>,
    ) -> std::io::Result<()> {
        if let Some(file) = weight {
            let scale = |value: u64| if file == "io.weight" { io_weight(value) } else { value };
            if self.blkio_weight > 0 {
                files.push((file, scale(self.blkio_weight.into()).to_string()));
            }
            for device in &self.blkio_weight_device {
                files.push((file, format!("{} {}", number(&device.path)?, scale(device.rate))));
            }
        }
        let throttles = [
            ("rbps", &self.blkio_read_bps),
            ("wbps", &self.blkio_write_bps),
            ("riops", &self.blkio_read_iops),
            ("wiops", &self.blkio_write_iops),
        ];
        for (key, list) in throttles {
            for device in list {
                files.push(("io.max", format!("{} {key}={}", number(&device.path)?, device.rate)));
            }
        }
        Ok(())
    }
}

/// Shares of version 1 (2 to 262144, 1024 in the middle) as a weight of version 2 (1 to 10000, 100 in the middle): the
/// curve that runc draws through the three points.
fn cpu_weight(shares: i64) -> u64 {
    let exponent = (shares.clamp(2, 262_144) as f64).log2();
    let power = (exponent * exponent + 125.0 * exponent) / 612.0 - 7.0 / 34.0;
    // In 1..=10000.
    10f64.powf(power).ceil() as u64
}

/// 10 to 1000 of version 1 as 1 to 10000 of version 2.
fn io_weight(weight: u64) -> u64 {
    1 + weight.saturating_sub(10) * 9999 / 990
}

/// The numbers of a list such as `0-2,4`.
pub(super) fn numbers(list: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in list.split(',').map(str::trim).filter(|_| !list.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last > 8192 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Support {
        Support {
            memory: true,
            swap: true,
            cpu: true,
            cpuset: true,
            pids: true,
            io: true,
            weight: Some("io.weight"),
            cpus: 4,
            cpuset_cpus: "0-3".to_owned(),
            cpuset_mems: "0".to_owned(),
        }
    }

    fn some(change: impl FnOnce(&mut Resources)) -> Resources {
        let mut resources = Resources::default();
        change(&mut resources);
        resources
    }

    #[test]
    fn nonsense_is_refused_with_dockerds_words() {
        let check = |mut resources: Resources, expected: &str| {
            let got = resources.verify(&machine(), false);
            assert!(got.as_ref().is_err_and(|text| text.contains(expected)), "{expected}: {got:?}");
        };
        check(some(|r| r.memory = 1), "Minimum memory limit allowed is 6MB");
        check(
            some(|r| (r.memory, r.memory_swap) = (8 << 20, 7 << 20)),
            "Minimum memoryswap limit should be larger",
        );
        check(some(|r| r.memory_swap = 8 << 20), "You should always set the Memory limit");
        check(some(|r| r.memory_reservation = 1), "Minimum memory reservation allowed is 6MB");
        check(some(|r| (r.nano_cpus, r.cpu_period) = (1, 1)), "Nano CPUs and CPU Period cannot both be set");
        check(
            some(|r| r.nano_cpus = 5_000_000_000),
            "range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available",
        );
        check(some(|r| r.cpu_shares = -1), "invalid CPU shares (-1): value must be a positive integer");
        check(some(|r| r.cpu_period = 10), "CPU cfs period can not be less than 1ms");
        check(
            some(|r| r.cpuset_cpus = "9".into()),
            "Requested CPUs are not available - requested 9, available: 0-3",
        );
        check(some(|r| r.cpuset_mems = "x".into()), "Invalid value x for cpuset mems");
        check(some(|r| r.blkio_weight = 5), "Range of blkio weight is from 10 to 1000");
    }

    #[test]
    fn what_the_machine_lacks_is_dropped_with_a_warning() {
        let mut resources = Resources {
            memory: 8 << 20,
            memory_reservation: 7 << 20,
            memory_swappiness: Some(50),
            oom_kill_disable: Some(true),
            cpu_shares: 10,
            cpuset_cpus: "0".to_owned(),
            pids_limit: Some(5),
            blkio_weight: 10,
            blkio_read_bps: vec![DeviceRate { path: "/dev/x".to_owned(), rate: 1 }],
            ..Resources::default()
        };
        let warnings = resources.verify(&Support::default(), false).unwrap();
        assert_eq!(warnings.len(), 9, "{warnings:#?}");
        assert_eq!(resources, Resources { memory_swap: -1, ..Resources::default() });
        let mut quiet =
            Resources { memory_swappiness: Some(-1), oom_kill_disable: Some(false), ..some(|_| {}) };
        assert_eq!(quiet.verify(&machine(), false), Ok(vec![]));
    }

    #[test]
    fn limits_become_files() {
        let number = |path: &str| match path {
            "/dev/vda" => Ok("254:0".to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        };
        let check = |resources: Resources, expected: &[(&str, &str)]| {
            let files = resources.files(Some("io.weight"), number).unwrap();
            let files: Vec<_> = files.iter().map(|(file, value)| (*file, value.as_str())).collect();
            assert_eq!(files, expected);
        };
        check(Resources::default(), &[]);
        check(
            some(|r| (r.memory, r.memory_swap) = (100, 300)),
            &[("memory.max", "100"), ("memory.swap.max", "200")],
        );
        check(
            some(|r| (r.memory, r.memory_swap) = (100, -1)),
            &[("memory.max", "100"), ("memory.swap.max", "max")],
        );
        check(some(|r| r.nano_cpus = 1_500_000_000), &[("cpu.max", "150000 100000")]);
        check(some(|r| r.cpu_quota = 5000), &[("cpu.max", "5000 100000")]);
        check(some(|r| r.cpu_period = 5000), &[("cpu.max", "max 5000")]);
        check(some(|r| r.pids_limit = Some(0)), &[("pids.max", "max")]);
        check(some(|r| r.blkio_weight = 1000), &[("io.weight", "10000")]);
        let rate = DeviceRate { path: "/dev/vda".to_owned(), rate: 7 };
        check(some(|r| r.blkio_write_iops = vec![rate]), &[("io.max", "254:0 wiops=7")]);
        let missing = some(|r| r.blkio_read_bps = vec![DeviceRate { path: "/dev/no".to_owned(), rate: 1 }]);
        assert!(missing.files(None, number).is_err());
    }

    #[test]
    fn shares_are_weighed_as_runc_weighs_them() {
        for (shares, weight) in [(2, 1), (1024, 100), (262_144, 10_000), (1, 1), (512, 59)] {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
    }

    #[test]
    fn updates_keep_what_they_do_not_name() {
        let mut old = some(|r| (r.memory, r.memory_swap, r.cpu_shares) = (10, 20, 5));
        old.update(&some(|r| (r.memory, r.pids_limit) = (15, Some(3))), &[]).unwrap();
        assert_eq!((old.memory, old.memory_swap, old.cpu_shares, old.pids_limit), (15, 20, 5, Some(3)));
        let text = old.update(&some(|r| r.memory = 30), &[]).unwrap_err();
        assert!(text.starts_with("Memory limit should be smaller than already set memoryswap limit"));
        let mut nano = some(|r| r.nano_cpus = 1);
        assert!(
            nano.update(&some(|r| r.cpu_quota = 1000), &[]).unwrap_err().contains("NanoCPUs has already")
        );
    }

    #[test]
    fn lists_of_devices_are_replaced_as_a_whole() {
        let rate = |path: &str| vec![DeviceRate { path: path.to_owned(), rate: 5 }];
        let mut old = some(|r| (r.blkio_read_bps, r.blkio_write_bps) = (rate("a"), rate("b")));
        old.update(&some(|r| r.blkio_read_iops = rate("c")), &[DeviceList::ReadIops, DeviceList::ReadBps])
            .unwrap();
        assert_eq!(old.blkio_read_bps, []);
        assert_eq!((old.blkio_write_bps, old.blkio_read_iops), (rate("b"), rate("c")));
    }

    #[test]
    fn limits_of_devices_are_taken_back() {
        let check = |file: &str, line: &str, expected: Option<&str>| {
            assert_eq!(Resources::takes_back(file, line).as_deref(), expected, "{file} {line}");
        };
        check("io.max", "8:0 rbps=1000", Some("8:0 rbps=max"));
        check("io.bfq.weight", "8:0 500", Some("8:0 default"));
        check("io.weight", "500", None);
        check("cpu.max", "1000 100000", None);
        check("memory.max", "7", None);
    }
}
