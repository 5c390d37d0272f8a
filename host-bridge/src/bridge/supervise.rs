//! One appliance from its start to its end, boot after boot.

use super::forward::Gate;
use super::shared::{Event, Shared, Stop};
use super::{control, first_answer, forward, pause, visitors};
use crate::backend::{self, Backend, BackendError, Ended, Link, Machine};
use crate::console::Consoles;
use crate::host;
use crate::order::Order;
use crate::place::{Place, PlaceError};
use crate::state::{Phase, State};
use crate::stream::Listener;
use contract::control::{Answer, Request};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

/// A guest that resets itself more often than this in a row is given up.
const RESETS_MAX: u32 = 5;
/// A guest that was up so long did not reset "in a row".
const RESETS_FORGOTTEN: Duration = Duration::from_secs(60);
/// How long a guest may take to power off after the power button, when it did not hear the control line.
const BUTTON_DEADLINE: Duration = Duration::from_secs(5);
/// Grace of an end by signal.
const SIGNAL_GRACE: Duration = Duration::from_secs(30);
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
    shared.publish(|state| {
        state.machine_pid = None;
        state.state = if result.is_ok() { Phase::Stopped } else { Phase::Failed };
        state.reason = result.as_ref().err().map(|error| crate::one_line(error));
    });
    if result.is_err() {
        *console = shared.consoles.last_lines(TAIL_LINES);
    }
    // Those who wait for the end must find the sockets gone.
    place.remove_sockets();
    shared.end();
    tokio::task::yield_now().await;
    result
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
        loop {
            wishes.next().await;
            shared.stop(Stop { grace: SIGNAL_GRACE });
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
    End,
}

impl Supervisor<'_> {
    async fn appliance(&mut self) -> Result<(), BridgeError> {
        let mut backend = self.prepare().await?;
        if self.wishes.try_recv().is_ok() {
            return Ok(());
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

    async fn boots(&mut self, backend: &mut dyn Backend) -> Result<(), BridgeError> {
        loop {
            let begun = Instant::now();
            let mut machine = self.start(backend, begun).await?;
            let outcome = self.one_boot(&mut *machine, begun).await;
            machine.destroy().await;
            match outcome? {
                After::End => return Ok(()),
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

    async fn one_boot(&mut self, machine: &mut dyn Machine, begun: Instant) -> Result<After, BridgeError> {
        let link = machine.link();
        let limit = Duration::from_secs(self.order.timeout_secs);
        // Ends with this boot.
        let mut beside = JoinSet::new();
        if let Some(pauses) = machine.pauses() {
            beside.spawn(pause::publish(self.shared.clone(), pauses));
        }
        tokio::select! {
            ended = machine.wait() => return early(ended),
            () = first_answer::wait(&*link) => {}
            () = tokio::time::sleep(limit) => return Err(self.silent()),
            Some(stop) = self.wishes.recv() => return Ok(self.power_off(machine, stop).await),
        }
        self.answered(&link, begun);
        let own_clock = machine.has_own_clock();
        let clock = async {
            if own_clock {
                control::keep_clock(link.clone()).await;
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = machine.wait() => ended,
            () = clock => return Ok(After::End),
            Some(stop) = self.wishes.recv() => return Ok(self.power_off(machine, stop).await),
        };
        match ended {
            Ended::PoweredOff => Ok(After::End),
            Ended::Reset => Ok(After::Boot),
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

    /// Word by word louder: the control line, the power button, the end of QEMU.
    async fn power_off(&mut self, machine: &mut dyn Machine, stop: Stop) -> After {
        (self.tell)(Event::Step("powering off".to_owned()));
        tracing::info!("powering off");
        self.shared.publish(|state| state.state = Phase::Stopping);
        let link = machine.link();
        let heard = tokio::select! {
            answer = control::ask(&*link, Request::PowerOff) => matches!(answer, Ok(Answer::Ok)),
            _ = machine.wait() => return After::End,
        };
        if heard && tokio::time::timeout(stop.grace, machine.wait()).await.is_ok() {
            return After::End;
        }
        tracing::warn!("the guest does not power off by itself: pressing its power button");
        machine.press_power_button().await;
        if tokio::time::timeout(BUTTON_DEADLINE, machine.wait()).await.is_err() {
            tracing::warn!("the guest does not hear its power button: ending it");
        }
        After::End
    }

    fn count_reset(&mut self, begun: Instant) -> Result<(), BridgeError> {
        self.resets = if begun.elapsed() > RESETS_FORGOTTEN { 1 } else { self.resets + 1 };
        tracing::info!("the guest starts again");
        if self.resets >= RESETS_MAX { Err(BridgeError::ResetLoop) } else { Ok(()) }
    }
}

/// A guest that ends before its first answer is not started again: it would only do the same.
fn early(ended: Ended) -> Result<After, BridgeError> {
    let how = match ended {
        Ended::PoweredOff => "it switched itself off".to_owned(),
        Ended::Reset => "it reset itself".to_owned(),
        Ended::Died(how) => how,
    };
    Err(BridgeError::EndedEarly { how })
}

/// Milliseconds of a time that is shorter than ages.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
