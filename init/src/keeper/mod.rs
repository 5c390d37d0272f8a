//! The keeper: the parent of every container's first process, which reaps them and holds what must outlive the engine.
//! What it says and hears is [`contract::keeper`]; what it holds is [`Table`]; who is started is [`crate::services`].
//!
//! When an engine dies its socket may still be open in a child that is on its way from clone3(2) to execve(2).
//! Such a socket is kept as *departed* until nobody has its other end any more, and the replay for the next engine
//! is held back for so long, so that it misses no process.

mod table;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use contract::keeper::{Exit, FromKeeper, Key, MESSAGE_MAX, PROTOCOL_VERSION, ToKeeper};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use sys::packet::{self, Packet};

use crate::messages::say;
use crate::services::{ENGINE, Given, Gone, Services, kill};

use table::Table;

/// How long a replay is held back for children of a dead engine. One that takes longer than this from clone3 to
/// execve hangs, and is killed when it registers: the new engine was told that it does not exist.
const DEPARTURE: Duration = Duration::from_secs(2);

/// A process that was killed closes its descriptors and gives back its memory before its parent hears of it.
const DYING: Duration = Duration::from_secs(2);

/// What the rest of `init` has to know.
#[derive(Debug)]
pub enum Event {
    /// The engine said hello.
    Greeted,
    /// The engine says that every container is stopped.
    Stopped,
    /// A service ended.
    Gone(Gone),
    /// A child that nobody registered was reaped.
    Reaped(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Present,
    Departed,
}

/// The engine that is there, as its socket shows it.
#[derive(Debug)]
struct Link {
    pid: u32,
    /// Our end; `None` when it closed its own.
    socket: Option<OwnedFd>,
    /// Without the socket it cannot learn how its containers end: until when it may still be dying, which closes
    /// the socket first.
    deaf_until: Option<Instant>,
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    services: Services,
    table: Table<OwnedFd>,
    engine: Option<Link>,
    departed: Vec<OwnedFd>,
    /// The engine said hello; until when the replay may be held back.
    greeted: Option<Instant>,
    /// To be told to the engine before anything else: until when its containers may take.
    power_off: Option<Instant>,
    blocked: bool,
}

impl Keeper {
    /// A keeper that starts its services at the first [`Keeper::tick`].
    pub fn new(services: Services) -> Keeper {
        Keeper {
            services,
            table: Table::default(),
            engine: None,
            departed: Vec::new(),
            greeted: None,
            power_off: None,
            blocked: false,
        }
    }

    /// What it starts.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// What services find open.
    pub fn given_mut(&mut self) -> &mut Given {
        self.services.given_mut()
    }

    /// Descriptors to be watched for reading; the second says whether for writing too.
    pub fn sockets(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let present =
            self.engine.iter().filter_map(|engine| Some((engine.socket.as_ref()?.as_fd(), self.blocked)));
        present.chain(self.departed.iter().map(|socket| (socket.as_fd(), false)))
    }

    /// When [`Keeper::tick`] has something to do.
    pub fn deadline(&self, wanted: bool) -> Option<Instant> {
        let start = self.services.deadline().filter(|_| wanted);
        let deaf = self.engine.as_ref().and_then(|engine| engine.deaf_until);
        [start, deaf, self.greeted].into_iter().flatten().min()
    }

    /// Time passes: starts services, ends a deaf engine and the waiting for departed sockets. With `wanted` false what is dead
    /// stays dead.
    pub fn tick(&mut self, now: Instant, wanted: bool) {
        if wanted {
            for started in self.services.tick(now) {
                if let Some(socket) = started.keeper {
                    self.engine = Some(Link { pid: started.pid, socket: Some(socket), deaf_until: None });
                }
            }
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

    /// Another engine lies at its place.
    pub fn upgrade(&mut self, now: Instant) {
        self.services.replace(ENGINE, now);
    }

    /// Tells the engine to stop the containers until then.
    pub fn tell_power_off(&mut self, until: Instant) {
        self.power_off = self.engine.is_some().then_some(until);
        self.flush();
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
                Taken::End => {
                    engine.socket = None;
                    engine.deaf_until = Some(now + DYING);
                }
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
            // The next engine has been told already what there is.
            (Ok(ToKeeper::Keep { .. } | ToKeeper::Drop { .. }), Sender::Departed)
                if self.table.replayed() => {}
            (Ok(ToKeeper::Keep { name }), _) => tell(self.table.keep(name, packet.fds)),
            (Ok(ToKeeper::Drop { name }), _) => tell(self.table.drop_kept(&name)),
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
            self.services.end_unfit(ENGINE);
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
            if let Some(gone) = self.services.ended(pid, ended.status, now) {
                self.service_gone(pid);
                events.push(Event::Gone(gone));
            } else if !self.table.ended(pid, exit) {
                events.push(Event::Reaped(pid));
            }
        }
        self.flush();
        events
    }

    fn service_gone(&mut self, pid: u32) {
        let Some(engine) = self.engine.take_if(|engine| engine.pid == pid) else { return };
        self.departed.extend(engine.socket);
        self.table.engine_gone();
        (self.greeted, self.power_off, self.blocked) = (None, None, false);
    }

    /// Sends what the engine has to be told and its socket takes.
    fn flush(&mut self) {
        self.blocked = false;
        let Some(socket) = self.engine.as_ref().and_then(|engine| engine.socket.as_ref()) else { return };
        if let Some(until) = self.power_off {
            let left = until.saturating_duration_since(Instant::now());
            let millis = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
            match packet::try_send(socket.as_fd(), &FromKeeper::PowerOff { millis }.encode(), &[]) {
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

fn realtime_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
