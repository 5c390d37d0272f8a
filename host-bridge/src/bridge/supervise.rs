//! One appliance from its start to its end, boot after boot.

#[cfg(unix)]
use super::agent;
use super::forward::Gate;
use super::line::{Line, Welcome};
use super::shared::{Event, Over, Shared, Stop};
use super::{clock, door, first_answer, forward, pause, power_off, services, visitors};
use crate::backend::{self, Backend, BackendError, Ended, Link, Machine};
use crate::console::Consoles;
use crate::host;
use crate::order::Order;
use crate::place::{Place, PlaceError};
use crate::state::{Phase, State};
use crate::stream::Listener;
use contract::line;
use futures_util::FutureExt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::task::JoinSet;

/// A guest that resets itself more often than this in a row is given up.
const RESETS_MAX: u32 = 5;
/// A guest that was up so long did not reset "in a row".
const RESETS_FORGOTTEN: Duration = Duration::from_secs(60);
/// Grace of an end by signal: of the first, the second, and all others.
const SIGNAL_GRACES: [Duration; 3] = [Duration::from_secs(30), Duration::from_secs(5), Duration::ZERO];
/// A guest whose engine dies more often is not worth more lines in the log.
const DEATHS_TOLD: u32 = 20;
/// Lines of the console that explain a failure.
const TAIL_LINES: usize = 12;

/// Why an appliance did not come up, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The folder.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The machine.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Another bridge lives in this folder.
    #[error("an appliance runs in {dir} already: end it with pinnace down")]
    Running {
        /// The folder.
        dir: std::path::PathBuf,
    },
    /// A socket or a log could not be made.
    #[error("cannot make {path}")]
    Make {
        /// The file.
        path: std::path::PathBuf,
        /// From the file system.
        source: io::Error,
    },
    /// A signal could not be listened to.
    #[error("cannot listen to signals")]
    Signals {
        /// From the kernel.
        source: io::Error,
    },
    /// The guest ended before its API answered.
    #[error("the guest ended before its API answered: {how} (pinnace logs shows all it said)")]
    EndedEarly {
        /// How.
        how: String,
    },
    /// The guest's API did not answer in time.
    #[error(
        "the guest's API did not answer within {seconds} s (pinnace logs shows all it said; --timeout waits longer)"
    )]
    Silent {
        /// The limit.
        seconds: u64,
    },
    /// The machine stands still, so it answers nothing.
    #[error("the machine stands still: {reason}")]
    Paused {
        /// Why.
        reason: String,
    },
    /// The guest does not take what it was to be told.
    #[error("the guest does not take its configuration: {why}")]
    Unconfigured {
        /// Its words.
        why: String,
    },
    /// The guest ended itself while it was up, and not because somebody wished it.
    #[error("the guest gave up: {reason} (pinnace logs shows all it said)")]
    GaveUp {
        /// Its words.
        reason: String,
    },
    /// The machine died while it was up.
    #[error("the machine died: {how}")]
    Died {
        /// How.
        how: String,
    },
    /// The guest starts again and again.
    #[error("the guest reset itself {RESETS_MAX} times in a row (pinnace logs shows all it said)")]
    ResetLoop,
}

/// Runs an appliance to its end. `tell` hears of its progress until it is ready or failed.
pub async fn run(order: Order, mut tell: impl FnMut(Event)) -> Result<(), BridgeError> {
    let mut console = Vec::new();
    let mut ready = false;
    let mut tell_progress = |event: Event| {
        ready |= matches!(event, Event::Ready(_));
        tell(event);
    };
    let result = hold(&order, &mut tell_progress, &mut console).await;
    match &result {
        Err(error) => tell(Event::Failed { error: crate::one_line(error), console }),
        // Whoever waits for it must not wait for ever.
        Ok(()) if !ready => {
            tell(Event::Failed { error: "it was powered off while it booted".to_owned(), console })
        }
        Ok(()) => {}
    }
    result
}

async fn hold(
    order: &Order,
    tell: &mut dyn FnMut(Event),
    console: &mut Vec<String>,
) -> Result<(), BridgeError> {
    let place = Place::at(&order.dir)?;
    place.make()?;
    let Some(_held) = place.become_bridge()? else {
        return Err(BridgeError::Running { dir: place.dir().to_owned() });
    };
    place.clear_sockets()?;
    let result = supervise(order, &place, tell, console).await;
    place.remove_sockets();
    result
}

async fn supervise(
    order: &Order,
    place: &Place,
    tell: &mut dyn FnMut(Event),
    console: &mut Vec<String>,
) -> Result<(), BridgeError> {
    let consoles = Consoles::new(&place.console_log(), &place.serial_log());
    let (shared, wishes) = Shared::new(place.clone(), consoles, first_state(order, place));
    let shared = Arc::new(shared);
    // From here on this bridge can be asked, told to end and, by docker, waited for.
    shared.publish(|_| {});
    tokio::spawn(visitors::serve(listen(&place.bridge_socket())?, shared.clone()));
    tokio::spawn(forward::serve(listen(&place.docker_socket())?, shared.gate()));
    stop_on_signals(&shared)?;
    let mut supervisor = Supervisor { order, place, shared: shared.clone(), wishes, tell, resets: 0 };
    let result = supervisor.appliance().await;
    shared.set_gate(Gate::Closed);
    let complaint = match &result {
        Ok(complaint) => complaint.clone(),
        Err(error) => Some(crate::one_line(error)),
    };
    shared.publish(|state| {
        state.machine_pid = None;
        state.state = if result.is_ok() { Phase::Stopped } else { Phase::Failed };
        state.reason = complaint.clone();
    });
    if result.is_err() {
        *console = shared.consoles.last_lines(TAIL_LINES);
    }
    // Those who wait for the end must find the sockets gone.
    place.remove_sockets();
    shared.end(Over { complaint });
    shared.all_told().await;
    result.map(drop)
}

fn first_state(order: &Order, place: &Place) -> State {
    State {
        state: Phase::Preparing,
        reason: None,
        name: order.name.clone(),
        version: contract::VERSION.to_owned(),
        pid: std::process::id(),
        backend: order.backend.word().to_owned(),
        machine_pid: None,
        socket: place.docker_socket(),
        host_address: None,
        boots: 0,
        started_at: 0,
        first_instruction_millis: None,
        first_answer_millis: None,
        guest: None,
        order: Some(order.clone()),
    }
}

fn listen(path: &Path) -> Result<Listener, BridgeError> {
    Listener::bind(path).map_err(|source| BridgeError::Make { path: path.to_owned(), source })
}

fn stop_on_signals(shared: &Arc<Shared>) -> Result<(), BridgeError> {
    let mut wishes = host::EndWishes::listen().map_err(|source| BridgeError::Signals { source })?;
    let shared = shared.clone();
    tokio::spawn(async move {
        let mut count = 0;
        loop {
            wishes.next().await;
            shared.stop(Stop { grace: SIGNAL_GRACES[count] });
            count = (count + 1).min(SIGNAL_GRACES.len() - 1);
        }
    });
    Ok(())
}

struct Supervisor<'a> {
    order: &'a Order,
    place: &'a Place,
    shared: Arc<Shared>,
    wishes: UnboundedReceiver<Stop>,
    tell: &'a mut dyn FnMut(Event),
    resets: u32,
}

/// What a boot ended in.
enum After {
    Boot,
    /// The end, and what was not in order about it.
    End(Option<String>),
}

impl Supervisor<'_> {
    async fn appliance(&mut self) -> Result<Option<String>, BridgeError> {
        let mut backend = self.prepare().await?;
        if self.wishes.try_recv().is_ok() {
            return Ok(None);
        }
        self.shared.publish(|state| state.backend = backend.name());
        self.shared.consoles.begin_logs().map_err(|source| {
            let path = self.place.console_log();
            BridgeError::Make { path, source }
        })?;
        self.boots(&mut *backend).await
    }

    /// Looks at what a boot needs. This unpacks files for a second or more, on a thread of its own; who wishes the end
    /// meanwhile waits for it, so that nothing is written any more when all is over.
    async fn prepare(&self) -> Result<Box<dyn Backend>, BridgeError> {
        let (order, place) = (self.order.clone(), self.place.clone());
        let prepared = tokio::task::spawn_blocking(move || {
            backend::sweep(&place);
            backend::prepare(&order, &place)
        });
        Ok(prepared.await.expect("what a boot needs is looked at without a panic")?)
    }

    /// Until the end; returns what was not in order about it.
    async fn boots(&mut self, backend: &mut dyn Backend) -> Result<Option<String>, BridgeError> {
        loop {
            let begun = Instant::now();
            let mut machine = self.start(backend, begun).await?;
            let welcome = Welcome { clock: machine.has_own_clock(), config: self.order.config() };
            let (line, events) = Line::begin(machine.link(), welcome);
            let line = Arc::new(line);
            self.shared.set_line(Some(line.clone()));
            let mut boot = Boot { machine: &mut *machine, line: &line, news: News { events, gave_up: None } };
            let outcome = self.one_boot(&mut boot, begun).await;
            self.shared.set_line(None);
            machine.destroy().await;
            match outcome? {
                After::End(complaint) => return Ok(complaint),
                After::Boot => self.count_reset(begun)?,
            }
        }
    }

    async fn start(
        &mut self,
        backend: &mut dyn Backend,
        begun: Instant,
    ) -> Result<Box<dyn Machine>, BridgeError> {
        (self.tell)(Event::Step(format!("booting, {}", backend.name())));
        self.shared.set_gate(Gate::Booting);
        self.shared.consoles.main.reboot();
        let machine = backend.start(&self.shared.consoles).await?;
        tracing::info!("boot began, {}, pid {}", backend.name(), machine.pid());
        let started_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() - begun.elapsed();
        self.shared.publish(|state| {
            state.state = Phase::Booting;
            state.machine_pid = Some(machine.pid());
            state.host_address = machine.host_address();
            state.boots += 1;
            state.started_at = started_at.as_secs();
            (state.first_instruction_millis, state.first_answer_millis) = (None, None);
        });
        Ok(machine)
    }

    async fn one_boot(&mut self, boot: &mut Boot<'_>, begun: Instant) -> Result<After, BridgeError> {
        let link = boot.machine.link();
        let limit = Duration::from_secs(self.order.timeout_secs);
        // Ends with this boot.
        let mut beside = JoinSet::new();
        if let Some(pauses) = boot.machine.pauses() {
            beside.spawn(pause::publish(self.shared.clone(), pauses));
        }
        // Only when it was told the time is it ready: no container shall see its clock jump. One that does not take its
        // configuration never answers.
        let ready =
            async { tokio::try_join!(first_answer::wait(&*link).map(Ok), boot.line.welcomed()).map(drop) };
        tokio::select! {
            ended = boot.machine.wait() => return early(self.explained(boot, ended).await),
            welcomed = ready => welcomed.map_err(|why| BridgeError::Unconfigured { why })?,
            () = boot.news.listen() => unreachable!("it listens for ever"),
            () = tokio::time::sleep(limit) => return Err(self.silent()),
            Some(stop) = self.wishes.recv() => return Ok(self.power_off(boot, stop).await),
        }
        self.answered(&link, begun);
        beside.spawn(door::keep(link.clone(), boot.machine.changes()));
        beside.spawn(services::keep(link.clone()));
        #[cfg(unix)]
        if let Some(agent) = self.order.ssh_agent.clone() {
            beside.spawn(agent::keep(link.clone(), agent));
        }
        let own_clock = boot.machine.has_own_clock();
        let clock = async {
            if own_clock {
                clock::keep(boot.line).await;
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = boot.machine.wait() => ended,
            () = clock => unreachable!("it is kept for ever"),
            () = boot.news.listen() => unreachable!("it listens for ever"),
            Some(stop) = self.wishes.recv() => return Ok(self.power_off(boot, stop).await),
        };
        match self.explained(boot, ended).await {
            Ended::PoweredOff => Ok(After::End(None)),
            Ended::Reset => Ok(After::Boot),
            Ended::GaveUp(reason) => Err(BridgeError::GaveUp { reason }),
            Ended::Died(how) => Err(BridgeError::Died { how }),
        }
    }

    fn silent(&self) -> BridgeError {
        let state = self.shared.state();
        match (state.state, state.reason) {
            (Phase::Paused, Some(reason)) => BridgeError::Paused { reason },
            _ => BridgeError::Silent { seconds: self.order.timeout_secs },
        }
    }

    /// From outside, a guest that gave up looks like one that was told to power off: its own last words tell them apart.
    async fn explained(&self, boot: &mut Boot<'_>, ended: Ended) -> Ended {
        self.shared.consoles.main.settled().await;
        boot.news.catch_up();
        match (boot.news.gave_up.take().or_else(|| self.shared.consoles.main.gave_up()), ended) {
            (Some(reason), Ended::Reset) => {
                tracing::warn!("the guest gave up and starts again: {reason}");
                Ended::Reset
            }
            (Some(reason), _) => Ended::GaveUp(reason),
            (None, ended) => ended,
        }
    }

    fn answered(&mut self, link: &Arc<dyn Link>, begun: Instant) {
        let answer = begun.elapsed();
        self.shared.set_gate(Gate::Open(link.clone()));
        let first = self.shared.consoles.main.first_instruction();
        self.shared.publish(|state| {
            state.state = Phase::Up;
            state.first_instruction_millis = first.map(|at| millis(at.duration_since(begun)));
            state.first_answer_millis = Some(millis(answer));
        });
        let state = self.shared.state();
        tracing::info!(
            "up: first answer after {} ms, first instruction of PID 1 after {:?} ms",
            millis(answer),
            state.first_instruction_millis
        );
        (self.tell)(Event::Ready(Box::new(state)));
    }

    async fn power_off(&mut self, boot: &mut Boot<'_>, stop: Stop) -> After {
        (self.tell)(Event::Step("powering off".to_owned()));
        tracing::info!("powering off");
        self.shared.publish(|state| state.state = Phase::Stopping);
        let complaint = match power_off::run(boot.machine, boot.line, stop, &mut self.wishes).await {
            Err(killed) => {
                tracing::warn!("{killed}");
                Some(killed.to_string())
            }
            Ok(None) => None,
            Ok(Some(ended)) => match self.explained(boot, ended).await {
                Ended::GaveUp(reason) => Some(format!("the guest gave up while it powered off: {reason}")),
                Ended::Died(how) => Some(format!("the machine died while it powered off: {how}")),
                Ended::PoweredOff | Ended::Reset => None,
            },
        };
        After::End(complaint)
    }

    fn count_reset(&mut self, begun: Instant) -> Result<(), BridgeError> {
        self.resets = if begun.elapsed() > RESETS_FORGOTTEN { 1 } else { self.resets + 1 };
        tracing::info!("the guest starts again");
        if self.resets >= RESETS_MAX { Err(BridgeError::ResetLoop) } else { Ok(()) }
    }
}

/// A boot under way.
struct Boot<'a> {
    machine: &'a mut dyn Machine,
    line: &'a Line,
    news: News,
}

/// What the guest tells unasked.
struct News {
    events: Receiver<line::Event>,
    gave_up: Option<String>,
}

impl News {
    /// Never ends; may be dropped and called again.
    async fn listen(&mut self) {
        let mut deaths = 0;
        while let Some(event) = self.events.recv().await {
            deaths += u32::from(matches!(event, line::Event::EngineDied { .. }));
            self.hear(event, deaths <= DEATHS_TOLD);
        }
        std::future::pending().await
    }

    /// Hears what arrived before the end.
    fn catch_up(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.hear(event, true);
        }
    }

    fn hear(&mut self, event: line::Event, aloud: bool) {
        match event {
            line::Event::GaveUp { reason } => self.gave_up = Some(reason),
            line::Event::EngineDied { how } if aloud => {
                tracing::warn!("the engine died and is started again: {how}")
            }
            line::Event::EngineDied { .. } => {}
            line::Event::ReadOnly => {
                tracing::error!("the guest's data disk is damaged and can only be read until it boots again")
            }
        }
    }
}

/// A guest that ends before its first answer is not started again: it would only do the same.
fn early(ended: Ended) -> Result<After, BridgeError> {
    let how = match ended {
        Ended::PoweredOff => "it switched itself off".to_owned(),
        Ended::Reset => "it reset itself".to_owned(),
        Ended::GaveUp(reason) => format!("it gave up: {reason}"),
        Ended::Died(how) => how,
    };
    Err(BridgeError::EndedEarly { how })
}

/// Milliseconds of a time that is shorter than ages.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
