//! The keeper: starts `engined`, is the parent of every container's first process, reaps, and holds what must
//! outlive the engine. What it says and hears is [`contract::keeper`]; what it holds is [`Table`].
//!
//! ```text
//!             start                    dies
//!   Waiting ─────────► engine lives ─────────► Waiting, for longer each time (Backoff)
//! ```
//!
//! When an engine dies its socket may still be open in a child that is on its way from clone3(2) to execve(2).
//! Such a socket is kept as *departed* until nobody has its other end any more, and the replay for the next engine
//! is held back for so long, so that it misses no process.

mod backoff;
mod engine;
mod table;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use contract::keeper::{Exit, FromKeeper, Key, MESSAGE_MAX, PROTOCOL_VERSION, ToKeeper};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process};
use sys::packet::{self, Packet};

use crate::messages::say;

use backoff::Backoff;
use engine::Engine;
pub use engine::Starter;
use table::Table;

/// How long a replay is held back for children of a dead engine. One that takes longer than this from clone3 to
/// execve hangs, and is killed when it registers: the new engine was told that it does not exist.
const DEPARTURE: Duration = Duration::from_secs(2);

/// An engine that the host sent and that ends by itself within this gives way to the image's own.
const PROBATION: Duration = Duration::from_secs(10);

/// What the rest of `init` has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The engine said hello.
    Greeted,
    /// The engine says that every container is stopped.
    Stopped,
    /// The engine is gone.
    EngineGone,
    /// A child that nobody registered was reaped.
    Reaped(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Present,
    Departed,
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    starter: Starter,
    table: Table<OwnedFd>,
    engine: Option<Engine>,
    departed: Vec<OwnedFd>,
    backoff: Backoff,
    start_at: Instant,
    starts: u32,
    /// The engine said hello; until when the replay may be held back.
    greeted: Option<Instant>,
    /// To be told to the engine before anything else.
    power_off: Option<u32>,
    blocked: bool,
}

impl Keeper {
    /// A keeper that starts its engine at the first [`Keeper::tick`].
    pub fn new(starter: Starter, now: Instant) -> Keeper {
        Keeper {
            starter,
            table: Table::default(),
            engine: None,
            departed: Vec::new(),
            backoff: Backoff::default(),
            start_at: now,
            starts: 0,
            greeted: None,
            power_off: None,
            blocked: false,
        }
    }

    /// The engine's process id, if it lives.
    pub fn engine_pid(&self) -> Option<u32> {
        self.engine.as_ref().map(|engine| engine.pid)
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// Descriptors to be watched for reading; the second says whether for writing too.
    pub fn sockets(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let present =
            self.engine.iter().filter_map(|engine| Some((engine.socket.as_ref()?.as_fd(), self.blocked)));
        present.chain(self.departed.iter().map(|socket| (socket.as_fd(), false)))
    }

    /// When [`Keeper::tick`] has something to do.
    pub fn deadline(&self, wanted: bool) -> Option<Instant> {
        match &self.engine {
            None => wanted.then_some(self.start_at),
            Some(engine) => [engine.deaf_until, self.greeted].into_iter().flatten().min(),
        }
    }

    /// What every engine inherits.
    pub fn starter(&self) -> &Starter {
        &self.starter
    }

    /// Time passes: starts the engine, ends a deaf one and the waiting for departed sockets. With `wanted` false a dead engine
    /// stays dead.
    pub fn tick(&mut self, now: Instant, wanted: bool) {
        if self.engine.is_none() && wanted && now >= self.start_at {
            self.start(now);
        }
        if let Some(engine) =
            self.engine.as_mut().filter(|engine| engine.deaf_until.is_some_and(|end| now >= end))
        {
            say!("the engine closed its keeper socket and is started anew");
            engine.deaf_until = None;
            kill(engine.pid);
        }
        if self.greeted.is_some_and(|until| self.departed.is_empty() || now >= until) {
            self.greeted = None;
            self.table.hello();
        }
        self.flush();
    }

    fn start(&mut self, now: Instant) {
        self.starts += 1;
        match self.starter.start(now) {
            Ok(engine) => self.engine = Some(engine),
            Err(error) => {
                say!("cannot start the engine: {error}");
                let wait = self.backoff.died(Duration::ZERO).max(Duration::from_millis(100));
                self.start_at = if self.starter.give_up_upgrade() { now } else { now + wait };
            }
        }
    }

    /// Another engine lies at its place: the one that runs is ended, as if it had died.
    pub fn upgrade(&mut self, now: Instant) {
        say!("the host sent another engine");
        self.starter.upgrade();
        self.backoff = Backoff::default();
        match &self.engine {
            Some(engine) => kill(engine.pid),
            None => self.start_at = now,
        }
    }

    /// Tells the engine to stop the containers; false where there is no engine to tell.
    pub fn tell_power_off(&mut self, seconds: u32) -> bool {
        self.power_off = self.engine.is_some().then_some(seconds);
        self.flush();
        self.engine.is_some()
    }

    /// Reads every packet that is there.
    pub fn receive(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        self.receive_present(now, &mut events);
        self.receive_departed(now, &mut events);
        events
    }

    fn receive_present(&mut self, now: Instant, events: &mut Vec<Event>) {
        while let Some(engine) = &mut self.engine {
            let Some(socket) = &engine.socket else { return };
            match take(socket.as_fd()) {
                Taken::Packet(packet) => self.handle(Sender::Present, packet, now, events),
                Taken::Nothing => return,
                Taken::End => return engine.deaf(now),
            }
        }
    }

    fn receive_departed(&mut self, now: Instant, events: &mut Vec<Event>) {
        let mut open = Vec::new();
        for socket in std::mem::take(&mut self.departed) {
            loop {
                match take(socket.as_fd()) {
                    Taken::Packet(packet) => self.handle(Sender::Departed, packet, now, events),
                    Taken::End => break,
                    Taken::Nothing => {
                        open.push(socket);
                        break;
                    }
                }
            }
        }
        self.departed = open;
    }

    fn handle(&mut self, from: Sender, packet: Packet, now: Instant, events: &mut Vec<Event>) {
        match (ToKeeper::decode(&packet.bytes), from) {
            (Ok(ToKeeper::Launched { key, note }), _) => match packet.pid {
                Some(pid) if from == Sender::Departed && self.table.replayed() => {
                    say!("process {pid} of a dead engine registers too late and is killed");
                    kill(pid);
                }
                Some(pid) => self.launched(key, pid, note, packet.fds),
                None => say!("a registration without a process id is ignored"),
            },
            (Ok(ToKeeper::Ack { key }), _) => tell(self.table.acknowledged(key)),
            // The process may have ended and been acknowledged in the meantime.
            (Ok(ToKeeper::Shed { key, keep }), _) => drop(self.table.shed(key, usize::from(keep))),
            (Ok(ToKeeper::Hello { version }), Sender::Present) => {
                self.hello(version, now);
                events.push(Event::Greeted);
            }
            (Ok(ToKeeper::Stopped), Sender::Present) => events.push(Event::Stopped),
            (Ok(_), Sender::Departed) => {}
            (Err(error), _) => say!("the engine sent nonsense: {error}"),
        }
    }

    fn launched(&mut self, key: Key, pid: u32, note: Vec<u8>, fds: Vec<OwnedFd>) {
        if let Err(refused) = self.table.launched(key, pid, note, fds) {
            // Nobody would ever hear of its end.
            say!("the engine is mistaken: {refused}; process {pid} is killed");
            return kill(pid);
        }
        // The engine speaks for a process that is born in a container, where others may have killed it at once. If it was reaped
        // before this came, its end would never be told.
        if !is_child(pid) {
            let killed = Exit {
                status: Signal::KILL.as_raw(),
                user_micros: 0,
                system_micros: 0,
                at_nanos: realtime_nanos(),
            };
            self.table.ended(pid, killed);
        }
    }

    fn hello(&mut self, version: u16, now: Instant) {
        if version == PROTOCOL_VERSION {
            self.greeted = Some(now + DEPARTURE);
        } else {
            say!("the engine speaks version {version} and not {PROTOCOL_VERSION}: it is killed");
            self.starter.give_up_upgrade();
            self.engine.iter().for_each(|engine| kill(engine.pid));
        }
    }

    /// Reaps every child that has ended. A registration is queued before its process can end, so the sockets are
    /// read between seeing who ended and taking it.
    pub fn reap(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        while let Ok(Some(pid)) = sys::reap::peek() {
            events.extend(self.receive(now));
            let Ok(Some(ended)) = sys::reap::take(pid) else { break };
            let exit = Exit {
                status: ended.status,
                user_micros: ended.user_micros,
                system_micros: ended.system_micros,
                at_nanos: realtime_nanos(),
            };
            if self.engine_pid() == Some(pid) {
                self.engine_died(ended.status, now);
                events.push(Event::EngineGone);
            } else if !self.table.ended(pid, exit) {
                events.push(Event::Reaped(pid));
            }
        }
        self.flush();
        events
    }

    fn engine_died(&mut self, status: i32, now: Instant) {
        let Some(engine) = self.engine.take() else { return };
        let lived = now.saturating_duration_since(engine.born);
        let mut wait = self.backoff.died(lived);
        say!("the engine (process {}) ended with {}", engine.pid, told(status));
        // One that was killed from outside is not to blame.
        if lived < PROBATION && status != Signal::KILL.as_raw() && self.starter.give_up_upgrade() {
            wait = Duration::ZERO;
        }
        self.departed.extend(engine.socket);
        self.table.engine_gone();
        (self.greeted, self.power_off, self.blocked) = (None, None, false);
        self.start_at = now + wait;
    }

    /// Sends what the engine has to be told and its socket takes.
    fn flush(&mut self) {
        self.blocked = false;
        let Some(socket) = self.engine.as_ref().and_then(|engine| engine.socket.as_ref()) else { return };
        if let Some(seconds) = self.power_off {
            match packet::try_send(socket.as_fd(), &FromKeeper::PowerOff { seconds }.encode(), &[]) {
                Ok(()) => self.power_off = None,
                Err(error) => return self.blocked = waits(&error),
            }
        }
        while let Some((message, fds)) = self.table.next() {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            match packet::try_send(socket.as_fd(), &message.encode(), &fds) {
                Ok(()) => self.table.sent(),
                Err(error) => return self.blocked = waits(&error),
            }
        }
    }
}

/// Whether the socket is full; a broken one needs nothing, since the engine's death follows.
fn waits(error: &std::io::Error) -> bool {
    let full = error.kind() == std::io::ErrorKind::WouldBlock;
    if !full && error.kind() != std::io::ErrorKind::BrokenPipe {
        say!("cannot send to the engine: {error}");
    }
    full
}

enum Taken {
    Packet(Packet),
    Nothing,
    End,
}

fn take(socket: BorrowedFd<'_>) -> Taken {
    loop {
        match packet::receive(socket, MESSAGE_MAX, false) {
            Ok(Some(packet)) => return Taken::Packet(packet),
            Ok(None) => return Taken::End,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Taken::Nothing,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => say!("the engine's {error}"),
            Err(error) => {
                say!("cannot receive from the engine: {error}");
                return Taken::End;
            }
        }
    }
}

fn tell<T>(result: Result<T, table::Refused>) {
    if let Err(refused) = result {
        say!("the engine is mistaken: {refused}");
    }
}

/// Whether the process, alive or not, is yet to be reaped.
fn is_child(pid: u32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let known = |pid| !matches!(rustix::process::waitid(WaitId::Pid(pid), options), Err(Errno::CHILD));
    Pid::from_raw(pid.cast_signed()).is_some_and(known)
}

fn kill(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        // ESRCH: it has ended already.
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn told(status: i32) -> String {
    match status & 0x7f {
        0 => format!("exit code {}", status >> 8 & 0xff),
        signal => format!("signal {signal}"),
    }
}

fn realtime_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
