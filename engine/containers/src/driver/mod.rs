//! The driver of one container: the task that alone changes its state.

mod end;
mod mounts;
mod networks;
mod removal;
mod start;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use contract::keeper::Exit;
use runtime::cgroup::{self, Cgroup};
use runtime::stdio::Ends;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connect::Connection;
use super::container::Container;
use super::error::ContainerError;
use super::files::on_files;
use super::health::Probe;
use super::legality::{Verb, permit};
use super::note;
use super::record::{CONTAINERS, Record, Recorded, STATES};
use super::registry::Shared;
use super::restart::RestartPolicy;
use super::state::{Running, State};
use super::update::Update;
use ::networks::Endpoint;
use ::networks::ports::Published;
use model::events::Subject;
use model::timestamp::Timestamp;
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

    /// Publishes a state without a run, and that a run ended, to those who wait.
    fn ended_as(&self, state: State, exit_code: i32) {
        self.container.snapshot.send_modify(|snapshot| {
            snapshot.state = state;
            snapshot.exits += 1;
            snapshot.last_exit = exit_code;
        });
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

    fn acknowledge(&self) {
        acknowledge(&self.shared, self.container.id());
    }
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
