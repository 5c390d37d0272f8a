//! Healthchecks: a program run inside the container again and again, and what its exit codes say together.
//!
//! ```text
//!               success                 retries failures in a row
//!   Starting ─────────────► Healthy ───────────────────────────────► Unhealthy
//!       │                      ▲ └──────────── success ───────────────┘ ▲
//!       └── retries failures in a row, those of the start period not counted
//! ```
//!
//! One task for each run asks; the driver judges and publishes. What is known lies in a file that outlives the engine,
//! so that a new one goes on where the old one was; a probe that the old one left behind is killed.

// What is known of a container's health lies on a tmpfs.
#![allow(clippy::disallowed_methods)]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::container::Container;
use super::driver::{Driver, Order};
use super::error::ContainerError;
use super::exec::ExecConfig;
use super::registry::{Containers, Shared};
use super::state::{Running, State};
use images::Healthcheck;
use model::timestamp::Timestamp;

/// What the probes say together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// None has succeeded yet.
    #[default]
    Starting,
    /// The last that counted succeeded.
    Healthy,
    /// Too many failed in a row, or nobody asks.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        }
    }
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// When it began.
    pub start: Timestamp,
    /// When it was over.
    pub end: Timestamp,
    /// Of the program; -1 where it could not be run or took too long.
    pub exit_code: i32,
    /// The beginning of what it printed, or why it was not run.
    pub output: String,
}

/// A probe that is over, and how old the run was when it began.
#[derive(Debug)]
pub(super) struct Probe {
    pub result: ProbeResult,
    pub age: Duration,
}

/// What is known of a container's health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// All together.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The newest probes, oldest first.
    pub log: Vec<ProbeResult>,
}

/// Probes that are kept.
const KEPT: usize = 5;
/// How long a killed probe may take to end; whatever holds it up, the next one is due.
const AFTER_KILL: Duration = Duration::from_secs(10);
/// Bytes of a probe's output that are kept.
const OUTPUT: usize = 4096;
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// The check that is to be made, unless there is none or it was switched off.
fn active(config: &Config) -> Option<&Healthcheck> {
    let check = config.healthcheck.as_ref()?;
    let known = check.test.first().is_some_and(|kind| kind == "CMD" || kind == "CMD-SHELL");
    (known && check.test.len() > 1).then_some(check)
}

fn or(nanos: i64, default: Duration) -> Duration {
    u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map_or(default, Duration::from_nanos)
}

/// What can be wrong with a healthcheck.
///
/// # Errors
/// dockerd's words.
pub(super) fn validate(config: &Config) -> Result<(), ContainerError> {
    let Some(check) = &config.healthcheck else { return Ok(()) };
    let times = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    if let Some((name, _)) = times.iter().find(|(_, nanos)| *nanos != 0 && *nanos < 1_000_000) {
        return Err(ContainerError::Invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
    }
    if check.retries < 0 {
        return Err(ContainerError::Invalid("Retries in Healthcheck cannot be negative".to_owned()));
    }
    Ok(())
}

/// What the container does not say the image says.
pub(super) fn merge(own: Option<Healthcheck>, image: Option<&Healthcheck>) -> Option<Healthcheck> {
    let (Some(mut own), Some(image)) = (own.clone(), image) else { return own.or(image.cloned()) };
    if own.test.is_empty() {
        own.test.clone_from(&image.test);
    }
    let numbers = [
        (&mut own.interval, image.interval),
        (&mut own.timeout, image.timeout),
        (&mut own.start_period, image.start_period),
        (&mut own.start_interval, image.start_interval),
        (&mut own.retries, image.retries),
    ];
    for (own, image) in numbers.into_iter().filter(|(own, _)| **own == 0) {
        *own = image;
    }
    Some(own)
}

impl Health {
    /// Takes a probe in. `age` is the run's at its beginning.
    fn note(&mut self, check: &Healthcheck, age: Duration, result: ProbeResult) {
        let succeeded = result.exit_code == 0;
        self.log.push(result);
        if self.log.len() > KEPT {
            self.log.remove(0);
        }
        if succeeded {
            (self.status, self.failing_streak) = (HealthStatus::Healthy, 0);
            return;
        }
        if self.status == HealthStatus::Starting && age < or(check.start_period, Duration::ZERO) {
            return;
        }
        self.failing_streak += 1;
        let retries = u32::try_from(check.retries).ok().filter(|retries| *retries > 0).unwrap_or(RETRIES);
        if self.failing_streak >= retries {
            self.status = HealthStatus::Unhealthy;
        }
    }
}

/// How long to the next probe, in a run of that age.
fn pause(check: &Healthcheck, status: HealthStatus, age: Duration) -> Duration {
    let interval = or(check.interval, INTERVAL);
    let left = or(check.start_period, Duration::ZERO).saturating_sub(age);
    match left {
        Duration::ZERO => interval,
        // The first that counts comes as soon as it may.
        left if left < interval => left.min(match status {
            HealthStatus::Starting => or(check.start_interval, START_INTERVAL),
            _ => left,
        }),
        _ if status == HealthStatus::Starting => or(check.start_interval, START_INTERVAL),
        _ => interval,
    }
}

/// The beginning of an output.
#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    cut: bool,
}

impl Said {
    fn push(&mut self, bytes: &[u8]) {
        let room = (OUTPUT - self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..room]);
        self.cut |= room < bytes.len();
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        if self.cut { format!("{text}...") } else { text.into_owned() }
    }
}

/// Asks until it is aborted, which the driver does when the run ends.
async fn ask(containers: Containers, container: Arc<Container>, begun: Instant) {
    loop {
        let record = container.record();
        let Some(check) = active(&record.config) else { return };
        let status = record.health.as_ref().map_or(HealthStatus::Starting, |health| health.status);
        tokio::time::sleep(pause(check, status, begun.elapsed())).await;
        let mut states = container.watch();
        let frozen = |state: &State| matches!(state, State::Running(Running { paused: true, .. }));
        if frozen(&states.borrow().state) {
            let _ = states.wait_for(|snapshot| !frozen(&snapshot.state)).await;
            continue;
        }
        let age = begun.elapsed();
        let result = containers.probe(&container, check).await;
        let probe = Box::new(Probe { result, age });
        if container.order(|answer| Order::Probed(probe, answer)).await.is_err() {
            return;
        }
    }
}

impl Containers {
    async fn probe(&self, container: &Arc<Container>, check: &Healthcheck) -> ProbeResult {
        let mut command = check.test[1..].to_vec();
        if check.test[0] == "CMD-SHELL" {
            let shell = container.record().config.shell.clone().filter(|shell| !shell.is_empty());
            let mut shell = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
            shell.append(&mut command);
            command = shell;
        }
        let start = Timestamp::now();
        let ended = self.run_probe(container, command, or(check.timeout, TIMEOUT)).await;
        let (exit_code, output) = ended.unwrap_or_else(|error| (-1, error.to_string()));
        ProbeResult { start, end: Timestamp::now(), exit_code, output }
    }

    async fn run_probe(
        &self,
        container: &Arc<Container>,
        command: Vec<String>,
        patience: Duration,
    ) -> Result<(i32, String), ContainerError> {
        let config = ExecConfig {
            command,
            attach_stdout: true,
            attach_stderr: true,
            probe: true,
            ..ExecConfig::default()
        };
        let id = self.create_exec(container.id(), config).await?;
        // Nobody will ask for it any more; one a second would be many.
        let _forgotten = Forgotten { shared: &self.shared, id: &id };
        self.follow_probe(&id, patience).await
    }

    async fn follow_probe(&self, id: &str, patience: Duration) -> Result<(i32, String), ContainerError> {
        let exec = self.find_exec(id)?;
        let said = Mutex::new(Said::default());
        let run = async {
            // A container may keep a process from ever coming to its program: the start has its time, too.
            let mut output = self.start_exec(self.claim_exec(id)?, true, None).await?;
            while let Some(chunk) = output.recv().await {
                said.lock().expect("no holder of what was said panics").push(&chunk.bytes);
            }
            exec.ended().await;
            Ok(())
        };
        tokio::pin!(run);
        let text = || said.lock().expect("no holder of what was said panics").text();
        if let Ok(ended) = tokio::time::timeout(patience, run.as_mut()).await {
            return ended.map(|()| (exec.exit_code().unwrap_or(-1), text()));
        }
        exec.kill();
        let _ = tokio::time::timeout(AFTER_KILL, run).await;
        let output = text();
        let text = format!("Health check exceeded timeout ({})", model::duration::print(patience));
        Ok((-1, if output.is_empty() { text } else { format!("{text}: {output}") }))
    }
}

/// Takes a probe out of the list when it is over, or is asked for no more.
struct Forgotten<'a> {
    shared: &'a Shared,
    id: &'a str,
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        self.shared.execs.lock().expect("no holder of the execs panics").remove(self.id);
    }
}

/// Where a container's health lies while it runs.
fn place(shared: &Shared, id: &str) -> PathBuf {
    shared.settings.run.join("health").join(id)
}

impl Driver {
    /// A run began: its health is asked for, from nothing or from what an engine before this one knew.
    pub(super) fn begin_health(&mut self, begun: Instant, resumed: bool) {
        let record = self.container.record();
        if active(&record.config).is_none() {
            return;
        }
        let place = place(&self.shared, self.container.id());
        let known = std::fs::read(&place).ok().filter(|_| resumed);
        let known = known.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let fresh = || Health { log: record.health.clone().unwrap_or_default().log, ..Health::default() };
        let health = known.unwrap_or_else(fresh);
        self.amend(|record| record.health = Some(health.clone()));
        self.keep_health(&health);
        let containers = Containers { shared: self.shared.clone() };
        self.prober = Some(tokio::spawn(ask(containers, self.container.clone(), begun)));
    }

    /// The run is over, and so is what was known.
    pub(super) fn end_health(&mut self) {
        if let Some(prober) = self.prober.take() {
            prober.abort();
            self.unasked_health();
            let _ = std::fs::remove_file(place(&self.shared, self.container.id()));
        }
    }

    /// dockerd calls unhealthy what nobody asks.
    pub(super) fn unasked_health(&self) {
        if self.container.record().health.is_some() {
            self.amend(|record| {
                if let Some(health) = &mut record.health {
                    health.status = HealthStatus::Unhealthy;
                }
            });
        }
    }

    pub(super) fn probed(&mut self, probe: Probe) {
        let State::Running(Running { paused: false, .. }) = self.state() else { return };
        let record = self.container.record();
        let (Some(check), Some(health)) = (active(&record.config), &record.health) else { return };
        let mut health = health.clone();
        let before = health.status;
        health.note(check, probe.age, probe.result);
        self.amend(|record| record.health = Some(health.clone()));
        self.keep_health(&health);
        if health.status != before {
            self.event(&format!("health_status: {}", health.status.as_str()), &[]);
        }
    }

    /// Whole or not at all, for the next engine.
    fn keep_health(&self, health: &Health) {
        let place = place(&self.shared, self.container.id());
        let fresh = place.with_extension("new");
        let bytes = serde_json::to_vec(health).expect("a struct of strings and numbers is always JSON");
        let kept = std::fs::create_dir_all(place.parent().unwrap_or(&place))
            .and_then(|()| std::fs::write(&fresh, bytes))
            .and_then(|()| std::fs::rename(&fresh, &place));
        if let Err(error) = kept {
            tracing::warn!(container = self.container.id(), %error, "cannot keep what is known of its health");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn check(change: impl FnOnce(&mut Healthcheck)) -> Healthcheck {
        let mut check = Healthcheck { test: vec!["CMD".into(), "true".into()], ..Healthcheck::default() };
        change(&mut check);
        check
    }

    fn result(exit_code: i32) -> ProbeResult {
        ProbeResult { start: Timestamp(1), end: Timestamp(2), exit_code, output: String::new() }
    }

    #[test]
    fn probes_are_judged() {
        let check = check(|check| (check.start_period, check.retries) = (10 * SECOND, 2));
        let mut health = Health::default();
        let mut after = |seconds: u64, exit_code: i32| {
            health.note(&check, Duration::from_secs(seconds), result(exit_code));
            (health.status.as_str(), health.failing_streak, health.log.len())
        };
        assert_eq!(after(1, 1), ("starting", 0, 1), "the start period forgives");
        assert_eq!(after(11, 1), ("starting", 1, 2));
        assert_eq!(after(12, -1), ("unhealthy", 2, 3));
        assert_eq!(after(13, 0), ("healthy", 0, 4));
        assert_eq!(after(14, 1), ("healthy", 1, 5));
        assert_eq!(after(15, 0), ("healthy", 0, 5), "five are kept");
    }

    #[test]
    fn pauses_follow_the_start_period() {
        let check = check(|check| {
            (check.interval, check.start_period, check.start_interval) =
                (20 * SECOND, 60 * SECOND, 2 * SECOND);
        });
        let pause = |status, seconds| pause(&check, status, Duration::from_secs(seconds)).as_secs();
        assert_eq!(pause(HealthStatus::Starting, 0), 2);
        assert_eq!(pause(HealthStatus::Healthy, 0), 20);
        assert_eq!(pause(HealthStatus::Starting, 59), 1);
        assert_eq!(pause(HealthStatus::Healthy, 50), 10);
        assert_eq!(pause(HealthStatus::Starting, 60), 20);
    }

    #[test]
    fn long_outputs_are_cut() {
        let mut said = Said::default();
        said.push(&[b'x'; 4000]);
        assert_eq!(said.text().len(), 4000);
        said.push(&[b'y'; 97]);
        assert_eq!((said.text().len(), said.text().ends_with("y...")), (4099, true));
    }

    #[test]
    fn what_the_container_leaves_out_comes_from_the_image() {
        let image = check(|check| (check.interval, check.retries) = (5, 7));
        let own = Healthcheck { retries: 1, ..Healthcheck::default() };
        let merged = merge(Some(own), Some(&image)).unwrap();
        assert_eq!((merged.test.len(), merged.interval, merged.retries), (2, 5, 1));
        assert_eq!(merge(None, Some(&image)), Some(image.clone()));
        let none = check(|check| check.test = vec!["NONE".into()]);
        let config = Config { healthcheck: merge(Some(none), Some(&image)), ..Config::default() };
        assert!(active(&config).is_none());
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |check: Healthcheck| {
            validate(&Config { healthcheck: Some(check), ..Config::default() }).unwrap_err().to_string()
        };
        assert_eq!(refused(check(|c| c.interval = 5)), "Interval in Healthcheck cannot be less than 1ms");
        assert_eq!(refused(check(|c| c.timeout = -5)), "Timeout in Healthcheck cannot be less than 1ms");
        assert_eq!(refused(check(|c| c.retries = -1)), "Retries in Healthcheck cannot be negative");
    }
}
