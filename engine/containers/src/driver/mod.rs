//! The driver of one container: the task that alone changes its state.

mod mounts;
mod networks;
mod removal;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contract::keeper::Exit;
use runtime::cgroup::{self, Cgroup};
use runtime::stdio::Ends;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connect::Connection;
use super::container::Container;
use super::error::{ContainerError, FAILED};
use super::exec::ExecState;
use super::files::on_files;
use super::health::Probe;
use super::launch;
use super::legality::{Verb, permit};
use super::note;
use super::record::{CONTAINERS, Record, Recorded, STATES};
use super::registry::Shared;
use super::restart::{RestartPolicy, Restarts};
use super::state::{Ended, Running, State};
use super::update::Update;
use ::networks::Endpoint;
use ::networks::ports::Published;
use model::events::Subject;
use model::in_go_words;
use model::timestamp::Timestamp;
use process::{Pump, Sink};
use store::{Durability, Held, Lifetime, StoreError, Writer};

type Queue = mpsc::UnboundedReceiver<Order>;
type Answer<T> = oneshot::Sender<Result<T, ContainerError>>;

/// What enters a driver's queue.
#[derive(Debug)]
pub(super) enum Order {
    /// Begin a run.
    Start(Answer<()>),
    /// Send a signal to the first process.
    Signal(i32, Answer<()>),
    /// Freeze or thaw.
    Freeze(bool, Answer<()>),
    /// Take the container away.
    Remove(bool, Answer<()>),
    /// Whether the container stays after the end of this run although it removes itself.
    Keep(bool, Answer<()>),
    /// Publish an event behind those of what was ordered before.
    Tell(&'static str, Answer<()>),
    /// A probe of its health is over.
    Probed(Box<Probe>, Answer<()>),
    /// Change the limits or the restart policy.
    Update(Box<Update>, Answer<()>),
    /// Take the reserved name; the answer is the name before.
    Rename(String, Answer<String>),
    /// A place on one more network.
    Connect(Box<Connection>, Answer<()>),
    /// No place on the network of this name any more.
    Disconnect(String, Answer<()>),
    /// PID 1 says that the first process, `pid`, ended.
    Exited { pid: u32, exit: Exit },
    /// The delay of the restart policy is over.
    Again,
    /// An engine before this one left it waiting for its restart.
    Rearm,
    /// PID 1 still holds the run that an engine before this one began.
    Resume {
        pid: u32,
        started_at: Timestamp,
        endpoints: BTreeMap<String, Endpoint>,
        ports: Vec<Published>,
        ends: Option<Ends>,
        answer: Answer<()>,
    },
    /// The record says it was started, PID 1 does not hold it: the power was cut.
    Lost(Answer<()>),
}

/// How long after a process's end its output may still come before the run counts as over.
const OUTPUT_GRACE: Duration = Duration::from_secs(10);
/// How long the record of a start may wait for another write to be written with.
const START_RECORDED: Duration = Duration::from_secs(1);
/// The same for an end, which PID 1 keeps until then: a removal that follows at once takes it along.
const EXIT_RECORDED: Duration = Duration::from_millis(5);
/// How long PID 1 may take to tell the end of a process that failed to execute its program.
const BURIAL: Duration = Duration::from_secs(2);
const SIGKILL: i32 = 9;
/// Exit code of a run whose end nobody saw, as dockerd tells it.
pub(super) const LOST_EXIT_CODE: i32 = 255;

/// A run that goes on.
struct Run {
    process: process::Running,
    /// Of the machine's uptime: clocks are set, and a machine that slept has not run.
    begun: std::time::Instant,
}

pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) container: Arc<Container>,
    run: Option<Run>,
    /// Writes down the end of the last run; true when PID 1 may forget it.
    settling: Option<oneshot::Receiver<bool>>,
    /// When the restart policy's delay is over.
    wake: Option<Instant>,
    /// See [`Order::Keep`].
    kept: bool,
    /// Asks for the health of the run that goes on.
    pub(super) prober: Option<JoinHandle<()>>,
    /// What came while something else was waited for.
    later: VecDeque<Order>,
}

/// Serves `queue` until the container is removed.
pub(super) async fn run(shared: Arc<Shared>, container: Arc<Container>, mut queue: Queue) {
    let mut driver = Driver {
        shared,
        container,
        run: None,
        settling: None,
        wake: None,
        kept: false,
        prober: None,
        later: VecDeque::new(),
    };
    while let Some(order) = driver.next(&mut queue).await {
        driver.obey(order, &mut queue).await;
        if matches!(driver.container.snapshot.borrow().state, State::Removed(_)) {
            return;
        }
    }
}

impl Driver {
    async fn next(&mut self, queue: &mut Queue) -> Option<Order> {
        if let Some(order) = self.later.pop_front() {
            return Some(order);
        }
        let Some(wake) = self.wake else { return queue.recv().await };
        tokio::select! {
            biased;
            order = queue.recv() => order,
            () = tokio::time::sleep_until(wake) => Some(Order::Again),
        }
    }

    async fn obey(&mut self, order: Order, queue: &mut Queue) {
        // An answer nobody waits for any more is fine: the client went away.
        match order {
            Order::Start(answer) => drop(answer.send(self.start(queue).await)),
            Order::Signal(signal, answer) => drop(answer.send(self.signal(signal).await)),
            Order::Freeze(frozen, answer) => drop(answer.send(self.freeze(frozen).await)),
            Order::Remove(volumes, answer) => drop(answer.send(self.remove(volumes).await)),
            Order::Keep(kept, answer) => {
                self.kept = kept;
                drop(answer.send(Ok(())));
            }
            Order::Tell(action, answer) => {
                self.event(action, &[]);
                drop(answer.send(Ok(())));
            }
            Order::Probed(probe, answer) => {
                self.probed(*probe);
                drop(answer.send(Ok(())));
            }
            Order::Update(update, answer) => drop(answer.send(self.update(&update).await)),
            Order::Rename(name, answer) => drop(answer.send(self.rename(name).await)),
            Order::Connect(asked, answer) => drop(answer.send(self.connect(*asked).await)),
            Order::Disconnect(network, answer) => drop(answer.send(self.disconnect(network).await)),
            Order::Exited { pid, exit } => self.exited(pid, exit).await,
            Order::Again => self.again(queue).await,
            Order::Rearm => self.rearm(),
            Order::Resume { pid, started_at, endpoints, ports, ends, answer } => {
                self.amend(|record| (record.endpoints, record.ports) = (endpoints, ports));
                drop(answer.send(self.resume(pid, started_at, ends).await));
            }
            Order::Lost(answer) => drop(answer.send(self.lost().await)),
        }
    }

    pub(super) fn state(&self) -> State {
        self.container.snapshot.borrow().state.clone()
    }

    fn permit(&self, verb: Verb) -> Result<(), ContainerError> {
        permit(&self.state(), verb, self.container.id())
    }

    fn publish(&self, state: State) {
        self.container.snapshot.send_modify(|snapshot| snapshot.state = state);
    }

    pub(super) fn event(&self, action: &str, extra: &[(&str, String)]) {
        let mut attributes = self.container.record().attributes();
        attributes.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.shared.events.publish(Subject::Container, action, self.container.id(), attributes);
    }

    /// Changes the record in memory; returns it for the store.
    pub(super) fn amend(&self, change: impl FnOnce(&mut Record)) -> Arc<Record> {
        let mut guard = self.container.record.write().expect("no writer of a record panics");
        let mut record = (**guard).clone();
        change(&mut record);
        *guard = Arc::new(record);
        guard.clone()
    }

    /// Writes the state.
    pub(super) async fn save(&self, durability: Durability) -> Result<(), ContainerError> {
        let write = write_of(&self.shared, self.container.clone());
        self.shared.store.write_async(durability, write).await.map_err(ContainerError::Store)
    }

    /// Writes what the container shall be.
    pub(super) async fn save_spec(&self) -> Result<(), ContainerError> {
        let record = self.container.record();
        let write = move |writer: &mut Writer<'_>| writer.put(CONTAINERS, record.id.as_str(), &record.spec);
        self.shared.store.write_async(Durability::Synced, write).await.map_err(ContainerError::Store)
    }

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

    async fn start(&mut self, queue: &mut Queue) -> Result<(), ContainerError> {
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
    async fn undo(&self) {
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

    /// Publishes a state without a run, and that a run ended, to those who wait.
    fn ended_as(&self, state: State, exit_code: i32) {
        self.container.snapshot.send_modify(|snapshot| {
            snapshot.state = state;
            snapshot.exits += 1;
            snapshot.last_exit = exit_code;
        });
    }

    /// The delay of the restart policy is over. A failed start ends the policy's work, as it does in dockerd.
    async fn again(&mut self, queue: &mut Queue) {
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

    fn rearm(&mut self) {
        let State::Restarting(ended) = self.state() else { return };
        let over = Duration::from_nanos(Timestamp::now().0.saturating_sub(ended.finished_at.0));
        self.wake = Some(Instant::now() + self.container.record().restarts.delay().saturating_sub(over));
    }

    /// A signal by hand ends the policy's work until the next start: any where the container names no stop signal of
    /// its own, else that one and SIGKILL. On disk before it is sent, as the engine may not see what comes of it.
    async fn note_hand(&self, signal: i32) -> Result<(), ContainerError> {
        if self.shared.going_down.load(Ordering::Relaxed) {
            return Ok(());
        }
        let ends = self.ends_by(signal);
        let record = self.container.record();
        if record.restarts.by_hand && (record.restarts.cancelled || !ends) {
            return Ok(());
        }
        self.amend(|record| {
            record.restarts.by_hand = true;
            record.restarts.cancelled |= ends;
        });
        if record.host.restart == RestartPolicy::No {
            return Ok(());
        }
        self.save(Durability::Synced).await
    }

    /// The wait for a restart is over without one.
    async fn give_up(&mut self, ended: Ended) -> Result<(), ContainerError> {
        self.wake = None;
        let exit_code = ended.exit_code;
        self.amend(|record| record.state = Recorded::Exited(ended.clone()));
        self.ended_as(State::Exited(ended), exit_code);
        self.save(Durability::Synced).await
    }

    async fn signal(&mut self, signal: i32) -> Result<(), ContainerError> {
        self.permit(Verb::Signal)?;
        self.note_hand(signal).await?;
        if let State::Restarting(ended) = self.state() {
            return match self.container.record().restarts.cancelled {
                true => self.give_up(ended).await,
                false => Ok(()),
            };
        }
        let Some(run) = &self.run else { return Ok(()) };
        run.process.signal(signal).map_err(ContainerError::machine("send a signal"))?;
        self.after_signal(signal).await
    }

    async fn after_signal(&self, signal: i32) -> Result<(), ContainerError> {
        self.event("kill", &[("signal", signal.to_string())]);
        // A frozen process dies only when it thaws.
        if self.ends_by(signal) && self.state().running().is_some_and(|running| running.paused) {
            self.set_frozen(false).await?;
        }
        Ok(())
    }

    /// Whether a signal is meant to end the container, as dockerd tells: with no stop signal of its own, any.
    fn ends_by(&self, signal: i32) -> bool {
        let own = super::stop::signal_number(&self.container.record().config.stop_signal);
        signal == SIGKILL || own.is_none_or(|own| own == signal)
    }

    async fn freeze(&self, frozen: bool) -> Result<(), ContainerError> {
        self.permit(if frozen { Verb::Pause } else { Verb::Unpause })?;
        self.set_frozen(frozen).await
    }

    async fn set_frozen(&self, frozen: bool) -> Result<(), ContainerError> {
        let State::Running(running) = self.state() else { return Ok(()) };
        let machine = |error: cgroup::CgroupError| {
            ContainerError::machine("freeze the container")(std::io::Error::other(error))
        };
        let path = self.shared.cgroup(&self.container.record());
        // Waits until the last process stands still.
        on_files(move || set_frozen(&path, frozen)).await?.map_err(machine)?;
        self.publish(State::Running(Running { paused: frozen, ..running }));
        if frozen {
            self.unasked_health();
        }
        self.event(if frozen { "pause" } else { "unpause" }, &[]);
        Ok(())
    }

    /// The run is over once its output is: inspect, wait and logs agree from then on.
    async fn exited(&mut self, pid: u32, exit: Exit) {
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
        super::runs::forget(&self.shared, self.container.id());
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

    fn acknowledge(&self) {
        acknowledge(&self.shared, self.container.id());
    }

    async fn resume(
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

    async fn lost(&mut self) -> Result<(), ContainerError> {
        let Recorded::Started(started_at) = self.container.record().state.clone() else { return Ok(()) };
        let finished_at = Timestamp::now();
        let ended = Ended { exit_code: LOST_EXIT_CODE, started_at, finished_at, ..Ended::default() };
        self.end(ended, None).await;
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

/// Blocks.
fn set_frozen(path: &std::path::Path, frozen: bool) -> Result<(), cgroup::CgroupError> {
    Cgroup::open(path)?.freeze(frozen)
}

/// Writes the container's present state: two writers in any order leave the newest. While it runs it holds its network.
fn write_of(
    shared: &Shared,
    container: Arc<Container>,
) -> impl FnOnce(&mut Writer<'_>) -> Result<(), StoreError> + Send + use<> {
    let networks = networks::held(shared, &container.record());
    move |writer| {
        let record = container.record();
        // Removed in the meantime: a late write must not bring it back.
        if !writer.contains(CONTAINERS, record.id.as_str())? {
            return Ok(());
        }
        writer.put(STATES, record.id.as_str(), &record.state_row())?;
        writer.release_run(&record.holder())?;
        if matches!(record.state, Recorded::Started(_)) {
            for network in networks {
                writer.hold(&Held::Network(network), &record.holder(), Lifetime::Run);
            }
        }
        Ok(())
    }
}

/// PID 1 may forget the process.
pub(super) fn acknowledge(shared: &Shared, id: &str) {
    let Some(key) = note::key(id) else { return };
    if let Err(error) = shared.keeper.acknowledge(key) {
        tracing::error!(process = id, %error, "cannot acknowledge an exit");
    }
}

/// A wait status as a shell tells it.
pub(super) fn exit_code(status: i32) -> i32 {
    let signal = status & 0x7f;
    if signal == 0 { (status >> 8) & 0xff } else { 128 + signal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_are_read_as_shells_do() {
        assert_eq!(exit_code(0x0300), 3);
        assert_eq!(exit_code(9), 137);
        assert_eq!(exit_code(0x80 | 11), 139);
        assert_eq!(exit_code(15), 143);
    }
}
