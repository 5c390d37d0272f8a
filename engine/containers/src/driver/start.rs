//! How a run begins: by an order, by the restart policy, or as one that an engine before this one began.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Driver, Order, Queue, Run, write_of};
use crate::container::Container;
use crate::error::{ContainerError, FAILED};
use crate::files::on_files;
use crate::launch;
use crate::legality::Verb;
use crate::record::Recorded;
use crate::registry::Shared;
use crate::restart::{RestartPolicy, Restarts};
use crate::state::{Ended, Running, State};
use model::in_go_words;
use model::timestamp::Timestamp;
use process::{Pump, Sink};
use runtime::cgroup::Cgroup;
use runtime::stdio::Ends;
use store::{Durability, StoreError};
use tokio::time::Instant;

/// How long the record of a start may wait for another write to be written with.
const START_RECORDED: Duration = Duration::from_secs(1);
/// How long PID 1 may take to tell the end of a process that failed to execute its program.
const BURIAL: Duration = Duration::from_secs(2);

impl Driver {
    /// Where a boot starts the container again, a power cut must not make it forget that. Else nobody waits for the
    /// record: after a power cut nothing runs anyway, and after the engine's death PID 1 knows what does.
    async fn record_start(&self) -> Result<(), ContainerError> {
        if self.container.record().host.restart != RestartPolicy::No {
            return self.save(Durability::Synced).await;
        }
        let id = self.container.id().to_owned();
        let answer = move |saved: Result<(), StoreError>| {
            if let Err(error) = saved {
                tracing::error!(container = id, %error, "cannot record a start");
            }
        };
        let write = write_of(&self.shared, self.container.clone());
        let store = &self.shared.store;
        store.write_behind(Durability::Within(START_RECORDED), write, answer).map_err(ContainerError::Store)
    }

    pub(super) async fn start(&mut self, queue: &mut Queue) -> Result<(), ContainerError> {
        self.permit(Verb::Start)?;
        if self.shared.going_down.load(Ordering::Relaxed) {
            return Err(ContainerError::GoingDown);
        }
        self.amend(|record| record.restarts = Restarts::default());
        let started = self.begin().await;
        self.kept = false;
        if let Err(error) = &started {
            let exit_code = match error {
                ContainerError::Start { exit_code, .. } => *exit_code,
                _ => FAILED,
            };
            self.start_failed(error, exit_code, queue).await;
        }
        started
    }

    /// Begins a run.
    async fn begin(&mut self) -> Result<(), ContainerError> {
        self.settle_exit().await;
        let started_at = Timestamp::now();
        let (shared, container) = (self.shared.clone(), self.container.clone());
        let launched = process::launch(move || {
            let launched = launch::start(&shared, &container, started_at)?;
            // Files of the disk: the log is opened here, too.
            let pump = Pump::begin(container.pump_place(shared.spools()));
            Ok((launched, pump))
        });
        let (launched, pump) = launched.await.unwrap_or_else(|| Err(launch::panicked()))?;
        let finished_at = self.state().ended().map_or(Timestamp(0), |ended| ended.finished_at);
        self.amend(|record| {
            record.state = Recorded::Started(started_at);
            record.endpoints = launched.endpoints.clone();
            record.ports = launched.ports.clone();
            record.finished_at = finished_at;
        });
        let pid = launched.process.pid;
        let process = process::Running::new(pid, Some(launched.process.pidfd));
        let begun = std::time::Instant::now();
        let run = self.run.insert(Run { process, begun });
        connect(&self.shared, &self.container, &mut run.process, launched.ends, pump)?;
        self.publish(State::Running(Running { pid, started_at, paused: false }));
        self.begin_health(begun, false);
        self.record_start().await?;
        self.mount_events();
        self.network_events("connect");
        self.event("start", &[]);
        Ok(())
    }

    /// A container that ran before stays one that ran.
    async fn start_failed(&mut self, error: &ContainerError, exit_code: i32, queue: &mut Queue) {
        self.end_health();
        let born = self.run.take().is_some();
        self.container.console.close();
        self.undo().await;
        if born || matches!(error, ContainerError::Start { registered: true, .. }) {
            self.await_burial(queue).await;
        }
        let before = self.state().ended().cloned().unwrap_or_default();
        let ended = Ended { exit_code, error: in_go_words(&error.to_string()), oom_killed: false, ..before };
        let ran = ended.started_at != Timestamp(0);
        let record = self.amend(|record| {
            let recorded = if ran { Recorded::Exited } else { Recorded::Created };
            record.state = recorded(ended.clone());
        });
        self.container.hub.close();
        self.ended_as(if ran { State::Exited(ended) } else { State::Created(ended) }, exit_code);
        if self.save(Durability::Soon).await.is_ok() && record.host.auto_remove {
            let _ = self.remove_now(true).await;
        }
    }

    /// Gives back what a run had. The kernel may take its time for it.
    pub(super) async fn undo(&self) {
        let (shared, container) = (self.shared.clone(), self.container.clone());
        if process::launch(move || launch::undo(&shared, &container)).await.is_none() {
            tracing::error!(container = self.container.id(), "what a run had is not given back");
        }
    }

    /// A process that could not execute its program had registered with PID 1 before: until its end is told, PID 1
    /// refuses another of that name.
    async fn await_burial(&mut self, queue: &mut Queue) {
        let buried = async {
            while let Some(order) = queue.recv().await {
                match order {
                    Order::Exited { .. } => return,
                    other => self.later.push_back(other),
                }
            }
        };
        let _ = tokio::time::timeout(BURIAL, buried).await;
        self.acknowledge();
    }

    /// The end of the run before is on disk, or PID 1 forgets it now: it holds one process of a name.
    async fn settle_exit(&mut self) {
        let Some(mut settling) = self.settling.take() else { return };
        if settling.try_recv().is_ok_and(|settled| settled) {
            return;
        }
        // It may be waiting to be taken along. What comes of this, it is told itself.
        drop(self.save(Durability::Synced).await);
        if !settling.await.unwrap_or(false) {
            self.acknowledge();
        }
    }

    /// The delay of the restart policy is over. A failed start ends the policy's work, as it does in dockerd.
    pub(super) async fn again(&mut self, queue: &mut Queue) {
        self.wake = None;
        let State::Restarting(ended) = self.state() else { return };
        if self.shared.going_down.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.begin().await {
            tracing::warn!(container = self.container.id(), %error, "cannot start an ended container again");
            self.start_failed(&error, ended.exit_code, queue).await;
        }
    }

    pub(super) fn rearm(&mut self) {
        let State::Restarting(ended) = self.state() else { return };
        let over = Duration::from_nanos(Timestamp::now().0.saturating_sub(ended.finished_at.0));
        self.wake = Some(Instant::now() + self.container.record().restarts.delay().saturating_sub(over));
    }

    pub(super) async fn resume(
        &mut self,
        pid: u32,
        started_at: Timestamp,
        ends: Option<Ends>,
    ) -> Result<(), ContainerError> {
        let begun = begun(started_at);
        // Without a pidfd the process is a zombie whose exit is on its way.
        let mut process = process::Running::new(pid, process::pidfd(pid));
        let connected = match ends {
            Some(ends) => {
                let place = self.container.pump_place(self.shared.spools());
                let pump = on_files(move || Pump::resume(place)).await?;
                connect(&self.shared, &self.container, &mut process, ends, pump)
            }
            None => Ok(()),
        };
        // It runs, whether or not its output can be read (a full disk, say): another one beside it would be worse.
        if let Err(error) = connected {
            tracing::error!(container = self.container.id(), %error, "the output of a running container is not read");
        }
        self.run = Some(Run { process, begun });
        self.amend(|record| record.state = Recorded::Started(started_at));
        let frozen = Cgroup::open(&self.shared.cgroup(&self.container.record()))
            .and_then(|cgroup| cgroup.read("cgroup.freeze"))
            .is_ok_and(|text| text.trim() == "1");
        self.publish(State::Running(Running { pid, started_at, paused: frozen }));
        self.begin_health(begun, true);
        Ok(())
    }
}

/// The streams get their readers and writers.
fn connect(
    shared: &Shared,
    container: &Container,
    process: &mut process::Running,
    ends: Ends,
    pump: std::io::Result<Pump>,
) -> Result<(), ContainerError> {
    let connected = pump.and_then(|pump| {
        process.connect(ends, &container.console, Sink::Pump(Box::new(pump)), &shared.output)
    });
    connected.map_err(ContainerError::machine("open the output of the container"))
}

/// When a run that an engine before this one began did so, on this engine's clock.
fn begun(started_at: Timestamp) -> std::time::Instant {
    let now = std::time::Instant::now();
    let ago = Duration::from_nanos(Timestamp::now().0.saturating_sub(started_at.0));
    now.checked_sub(ago).unwrap_or(now)
}
