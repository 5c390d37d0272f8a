//! The loop of PID 1 after the boot: wait until something happens, let the part it belongs to act. Every part is
//! non-blocking; whatever takes long is another process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use contract::line::{self, Answer, Request, Status};
use contract::settings::Backend;
use nix::libc::{SIGCHLD, SIGINT, SIGPWR, SIGTERM};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::body::Body;
use crate::boot::modules::Late;
use crate::clock::Clock;
use crate::damage::Damage;
use crate::keeper::{Event, Keeper};
use crate::line::{Asked, Connections};
use crate::messages::say;
use crate::net::Uplink;
use crate::power::button::Buttons;
use crate::power::{AGAIN, Action, GRACE, Power};
use crate::services::ENGINE;
use crate::{config, upload};

/// A clock that is so far behind has not drifted: the machine was paused, with its lease running on.
const SLEPT_NANOS: i64 = 10_000_000_000;

/// Everything that lives as long as this process.
#[derive(Debug)]
pub struct Server {
    /// Where this boot runs.
    pub backend: Backend,
    /// Pending signals.
    pub signals: OwnedFd,
    /// See [`Keeper`].
    pub keeper: Keeper,
    /// See [`Uplink`].
    pub uplink: Uplink,
    /// Modules that are loaded beside the engine.
    pub modules: Late,
    /// Whether the data disk is well, where it is our own.
    pub damage: Option<Damage>,
    /// What the boot took.
    pub boot_time: Duration,
}

/// Which part a descriptor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Signals,
    Keeper,
    ControlUnix,
    ControlVsock,
    Control,
    Buttons,
    Links,
    Dhcp,
}

struct State {
    power: Power,
    clock: Clock,
    /// It was told that the data cannot be written any more.
    connections: Connections,
    buttons: Buttons,
}

/// Blocks the signals and returns the descriptor that tells of them.
pub fn signals() -> std::io::Result<OwnedFd> {
    sys::reap::signal_fd(&[SIGCHLD, SIGINT, SIGPWR, SIGTERM])
}

impl Server {
    /// Runs until the machine shall go down.
    pub fn run(mut self) -> Action {
        let (connections, buttons) = (Connections::default(), Buttons::default());
        let (power, clock) = (Power::Up, Clock::default());
        let mut state = State { power, clock, connections, buttons };
        // A child may have ended before the first look at the signals.
        let events = self.keeper.reap(Instant::now());
        self.follow(&mut state, events);
        loop {
            let now = Instant::now();
            state.power.tick(now);
            if let Power::Down(action) = state.power {
                return action;
            }
            self.keeper.tick(now, state.power.wants_engine());
            self.uplink.tick();
            self.modules.tick(now);
            state.clock.tick(now);
            let ready = self.wait(&state);
            for part in ready {
                self.act(part, &mut state);
            }
        }
    }

    /// Waits for a descriptor or for the earliest deadline; returns the parts that have something to do.
    fn wait(&self, state: &State) -> Vec<Part> {
        let watched = self.watched(state);
        let mut fds: Vec<PollFd<'_>> =
            watched.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        // A failure (EINTR, ENOMEM) is an empty round; the loop comes back.
        let _ = poll(&mut fds, self.timeout(state).as_ref());
        let mut parts: Vec<Part> = Vec::new();
        for ((part, ..), fd) in watched.iter().zip(&fds) {
            if !fd.revents().is_empty() && !parts.contains(part) {
                parts.push(*part);
            }
        }
        parts
    }

    fn watched<'a>(&'a self, state: &'a State) -> Vec<(Part, BorrowedFd<'a>, PollFlags)> {
        let sockets = self.keeper.services().given().sockets();
        let one = |part| move |fd| (part, fd, PollFlags::IN);
        let mut watched = vec![
            (Part::Signals, self.signals.as_fd(), PollFlags::IN),
            (Part::ControlUnix, sockets.control_unix(), PollFlags::IN),
        ];
        let both = |part| {
            move |(fd, blocked)| {
                (part, fd, if blocked { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN })
            }
        };
        watched.extend(self.keeper.sockets().map(both(Part::Keeper)));
        watched.extend(sockets.control_vsock().map(one(Part::ControlVsock)));
        watched.extend(state.connections.fds().map(both(Part::Control)));
        watched.extend(state.buttons.fds().map(one(Part::Buttons)));
        watched.extend(self.uplink.links().map(one(Part::Links)));
        watched.extend(self.uplink.sockets().map(one(Part::Dhcp)));
        watched
    }

    fn timeout(&self, state: &State) -> Option<Timespec> {
        let keeper = self.keeper.deadline(state.power.wants_engine());
        let beside = [self.uplink.deadline(), self.modules.deadline(), state.clock.deadline()];
        let next = [keeper, state.power.deadline()].into_iter().chain(beside).flatten().min()?;
        let left = next.saturating_duration_since(Instant::now());
        Some(Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() })
    }

    fn act(&mut self, part: Part, state: &mut State) {
        let now = Instant::now();
        match part {
            Part::Signals => self.take_signals(state, now),
            Part::Keeper => {
                let events = self.keeper.receive(now);
                self.follow(state, events);
            }
            Part::ControlUnix => {
                state.connections.accept_unix(self.keeper.services().given().sockets().control_unix())
            }
            Part::ControlVsock => {
                if let Some(listener) = self.keeper.services().given().sockets().control_vsock() {
                    state.connections.accept_vsock(listener);
                }
            }
            Part::Control => self.serve_control(state, now),
            Part::Buttons => {
                if state.buttons.pressed() {
                    say!("the power button was pressed");
                    self.ask_power(state, Action::PowerOff, None, now);
                }
            }
            Part::Links => self.uplink.look(),
            Part::Dhcp => self.uplink.receive(),
        }
    }

    fn take_signals(&mut self, state: &mut State, now: Instant) {
        while let Some(signal) = sys::reap::next_signal(self.signals.as_fd()) {
            if signal == SIGCHLD {
                let events = self.keeper.reap(now);
                self.follow(state, events);
            } else {
                say!("signal {signal} asks for power off");
                self.ask_power(state, Action::PowerOff, None, now);
            }
        }
    }

    fn follow(&mut self, state: &mut State, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Greeted => self.modules.begin(),
                Event::Stopped => state.power.engine_done(),
                Event::Gone(gone) if gone.hopeless => {
                    crate::power::give_up(
                        "the data disk was written by a newer release of Pinnace: start that one",
                    );
                }
                Event::Gone(gone) if gone.service.vital => {
                    state.power.engine_done();
                    if let (Some(how), Power::Up) = (gone.how, state.power) {
                        state.connections.tell(&line::Event::EngineDied { how });
                    }
                }
                Event::Gone(_) => {}
                Event::Reaped(pid) if self.modules.ended(pid) => {
                    state.buttons = Buttons::open();
                    state.clock = Clock::open(Instant::now());
                }
                Event::Reaped(_) => {}
            }
        }
    }

    fn serve_control(&mut self, state: &mut State, now: Instant) {
        let mut connections = std::mem::take(&mut state.connections);
        connections.serve(|asked| match asked {
            Asked::Line(request) => self.answer(request, state, now),
            Asked::Whole(request, body) => self.take(&request, body, state, now),
        });
        state.connections = connections;
        if self.damage.as_mut().is_some_and(Damage::is_news) {
            say!("the data disk is damaged, and can only be read until the next boot");
            state.connections.tell(&line::Event::ReadOnly);
        }
    }

    fn answer(&mut self, request: Request, state: &mut State, now: Instant) -> Answer {
        match request {
            Request::Status => Answer::Status(Status {
                version: contract::VERSION.to_owned(),
                engine_pid: self.keeper.services().pid(ENGINE).unwrap_or(0),
                engine_starts: self.keeper.services().starts(ENGINE),
                boot_millis: u32::try_from(self.boot_time.as_millis()).unwrap_or(u32::MAX),
                engine: self.keeper.services().origin(ENGINE),
                read_only: self.damage.as_ref().is_some_and(Damage::found),
            }),
            Request::Clock { .. } if self.backend == Backend::Namespace => {
                refused("the clock is the host's own")
            }
            Request::Clock { nanos } => self.follow_clock(state, nanos),
            Request::PowerOff { seconds } => self.ask_power(state, Action::PowerOff, seconds, now),
            Request::Reboot { seconds } => self.ask_power(state, Action::Reboot, seconds, now),
            Request::Engine { .. } | Request::Config { .. } => refused("it comes with its bytes"),
        }
    }

    fn follow_clock(&mut self, state: &State, nanos: u64) -> Answer {
        match state.clock.follow(nanos) {
            Ok(behind) => {
                if behind > SLEPT_NANOS {
                    self.uplink.look_again();
                }
                Answer::Offset { nanos: behind.saturating_neg() }
            }
            Err(error) => refused(format!("cannot set the clock: {error}")),
        }
    }

    fn take(&mut self, request: &Request, body: Body, state: &State, now: Instant) -> Answer {
        let noun = body.noun;
        let taken = match request {
            _ if state.power != Power::Up => return refused("the machine is powering off"),
            Request::Config { .. } => self.configure(body),
            _ => body.into_file().and_then(upload::install).map(|()| self.keeper.upgrade(now)),
        };
        match taken {
            Ok(()) => Answer::Done,
            Err(error) => refused(format!("the {noun} is not taken: {error}")),
        }
    }

    fn configure(&mut self, body: Body) -> std::io::Result<()> {
        let given = self.keeper.given_mut();
        given.set_config(config::seal(body.into_file()?, given.config())?);
        Ok(())
    }

    /// Whoever names no time (button, signal, a host of the first version) gives the usual, and the second time little.
    fn ask_power(&mut self, state: &mut State, action: Action, seconds: Option<u32>, now: Instant) -> Answer {
        let usual = if state.power == Power::Up { GRACE } else { AGAIN };
        let within = seconds.map_or(usual, |seconds| Duration::from_secs(seconds.into()));
        let engine_lives = self.keeper.services().pid(ENGINE).is_some();
        if let Some(until) = state.power.request(action, within, engine_lives, now) {
            let left = until.saturating_duration_since(now).as_secs_f32();
            say!("the engine is asked to stop the containers, within {left:.1} s");
            self.keeper.tell_power_off(until);
        }
        Answer::Done
    }
}

fn refused(text: impl Into<String>) -> Answer {
    Answer::Refused { text: text.into() }
}
