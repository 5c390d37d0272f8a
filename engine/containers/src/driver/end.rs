//! How a run ends: what is told, what is written down, and what is given back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Driver, LOST_EXIT_CODE, acknowledge, exit_code, write_of};
use crate::error::ContainerError;
use crate::exec::ExecState;
use crate::files::on_files;
use crate::record::Recorded;
use crate::runs;
use crate::state::{Ended, State};
use contract::keeper::Exit;
use model::timestamp::Timestamp;
use runtime::cgroup::Cgroup;
use store::{Durability, StoreError};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long after a process's end its output may still come before the run counts as over.
const OUTPUT_GRACE: Duration = Duration::from_secs(10);
/// How long the record of an end may wait for another write to be written with, which PID 1 keeps until then: a removal that follows at once takes it along.
const EXIT_RECORDED: Duration = Duration::from_millis(5);

impl Driver {
    /// The wait for a restart is over without one.
    pub(super) async fn give_up(&mut self, ended: Ended) -> Result<(), ContainerError> {
        self.wake = None;
        let exit_code = ended.exit_code;
        self.amend(|record| record.state = Recorded::Exited(ended.clone()));
        self.ended_as(State::Exited(ended), exit_code);
        self.save(Durability::Synced).await
    }

    /// The run is over once its output is: inspect, wait and logs agree from then on.
    pub(super) async fn exited(&mut self, pid: u32, exit: Exit) {
        let Some(run) = self.run.take_if(|run| run.process.pid == pid) else {
            // A start that failed after PID 1 was told.
            return self.acknowledge();
        };
        let ran = run.begun.elapsed();
        self.end_companions().await;
        let output = &run.process.output;
        // Somebody outside the container may hold its pipe open, or a client may not read.
        if !output.settle(OUTPUT_GRACE).await
            && tokio::time::timeout(OUTPUT_GRACE, output.drained()).await.is_err()
        {
            tracing::error!(container = self.container.id(), "the last output does not come to its log");
        }
        let State::Running(running) = self.state() else { return self.acknowledge() };
        self.container.console.close();
        let oom_killed = Cgroup::open(&self.shared.cgroup(&self.container.record()))
            .is_ok_and(|cgroup| cgroup.oom_kills() > 0);
        let ended = Ended {
            exit_code: exit_code(exit.status),
            started_at: running.started_at,
            finished_at: Timestamp(exit.at_nanos),
            error: String::new(),
            oom_killed,
        };
        if oom_killed {
            self.event("oom", &[]);
        }
        let may_restart = !self.shared.going_down.load(Ordering::Relaxed);
        self.end(ended, may_restart.then_some(ran)).await;
    }

    /// With a pid namespace of its own the kernel ends the container's processes together with the first. Where it
    /// shares one, they would go on, and hold its output open.
    async fn end_companions(&self) {
        let record = self.container.record();
        if matches!(record.host.pid_mode.as_str(), "" | "private") {
            return;
        }
        let path = self.shared.cgroup(&record);
        let ended = on_files(move || Cgroup::open(&path).and_then(|cgroup| cgroup.kill())).await;
        if let Err(error) =
            ended.map_err(|error| error.to_string()).and_then(|killed| killed.map_err(|e| e.to_string()))
        {
            tracing::warn!(container = self.container.id(), error, "cannot end what the first process left");
        }
    }

    /// A run that went on for `ran` may be followed by another; without that it is the last.
    async fn end(&mut self, ended: Ended, ran: Option<Duration>) {
        self.end_health();
        self.forget_unstarted_execs();
        let (exit_code, ended_at, started_at) = (ended.exit_code, ended.finished_at.0, ended.started_at.0);
        let mut delay = None;
        let record = self.amend(|record| {
            if let Some(ran) = ran {
                delay = record.restarts.after_run(record.host.restart, exit_code, ran);
            }
            let recorded = if delay.is_some() { Recorded::Restarting } else { Recorded::Exited };
            record.state = recorded(ended.clone());
        });
        self.wake = delay.map(|delay| Instant::now() + delay);
        let auto_remove = record.host.auto_remove && !self.kept;
        let state = match delay {
            Some(_) => State::Restarting(ended),
            None if auto_remove => State::Removing(ended),
            None => State::Exited(ended),
        };
        if !auto_remove {
            // Before anybody is told: who then makes all durable that was queued, takes this along.
            self.record_exit();
        }
        // Whoever hears of the end may remove the network.
        self.shared.networks.leave(self.container.id());
        self.ended_as(state, exit_code);
        self.network_events("disconnect");
        self.unmount_events();
        let lasted = Duration::from_nanos(ended_at.saturating_sub(started_at));
        let seconds = lasted.as_secs().to_string();
        self.event("die", &[("exitCode", exit_code.to_string()), ("execDuration", seconds)]);
        // After all were told: the next order waits for it, and nobody else needs to.
        self.undo().await;
        runs::forget(&self.shared, self.container.id());
        if auto_remove {
            match self.remove_now(true).await {
                Ok(()) => self.acknowledge(),
                Err(error) => {
                    tracing::error!(container = self.container.id(), %error, "cannot remove an ended container");
                    self.stay();
                }
            }
        }
    }

    /// An ended container whose removal failed stays one that ended: it can be seen and removed by hand, and PID 1 keeps
    /// its exit until that is on disk.
    fn stay(&mut self) {
        self.record_exit();
        if let State::Removing(ended) = self.state() {
            self.publish(State::Exited(ended));
        }
    }

    /// PID 1 keeps the status until it is on disk; nobody waits for that but PID 1 and the next run.
    fn record_exit(&mut self) {
        let (shared, container) = (self.shared.clone(), self.container.clone());
        let (settled, settling) = oneshot::channel();
        let answer = move |saved: Result<(), StoreError>| {
            match &saved {
                Ok(()) => acknowledge(&shared, container.id()),
                Err(error) => tracing::error!(container = container.id(), %error, "cannot record an exit"),
            }
            // The next run may never come.
            let _ = settled.send(saved.is_ok());
        };
        let write = write_of(&self.shared, self.container.clone());
        // A closed store's engine is going down, and PID 1 tells the next one.
        drop(self.shared.store.write_behind(Durability::Within(EXIT_RECORDED), write, answer));
        self.settling = Some(settling);
    }

    /// An exec belongs to the run in which it was created.
    fn forget_unstarted_execs(&self) {
        let id = self.container.id();
        let mut execs = self.shared.execs.lock().expect("no holder of the execs panics");
        execs.retain(|_, exec| exec.container != id || exec.state() != ExecState::Created);
    }

    pub(super) async fn lost(&mut self) -> Result<(), ContainerError> {
        let Recorded::Started(started_at) = self.container.record().state.clone() else { return Ok(()) };
        let finished_at = Timestamp::now();
        let ended = Ended { exit_code: LOST_EXIT_CODE, started_at, finished_at, ..Ended::default() };
        self.end(ended, None).await;
        Ok(())
    }
}
