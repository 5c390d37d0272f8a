//! The programs that PID 1 starts and starts again: a table of what each needs, and the state of each row.
//!
//! ```text
//!             start                   dies
//!   Waiting ─────────► Running ─────────────────► Waiting, for longer each time (Backoff)
//!                         └── without a pace ───► Over
//! ```
//!
//! Nothing here knows what a service does. What the engine says to PID 1 is the keeper's matter ([`crate::keeper`]).

mod backoff;
mod start;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use contract::keeper::EXIT_NEWER_DISK;
use contract::line::EngineOrigin;
use contract::paths::{
    AGENT_FD, API_UNIX_FD, API_VSOCK_FD, CARRIER_FD, CGROUP_CARRIER, CGROUP_ENGINE, CONFIG_FD, DOOR_FD,
    ENGINED, ENGINED_UPGRADE, HOST_FD, INIT, KEEPER_FD, NAMES_TCP_FD, NAMES_UDP_FD,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::messages::say;

use backoff::{Backoff, Pace};
pub use start::Given;

/// One row.
#[derive(Debug)]
pub struct Service {
    /// What it is called, also by itself.
    pub name: &'static str,
    /// The image's own executable.
    path: &'static str,
    /// Where one lies that goes before it once the host has sent it.
    sent_path: Option<&'static str>,
    /// Its cgroup, relative to the hierarchy's root.
    cgroup: &'static str,
    /// Its place in the out-of-memory killer's order.
    oom_score: &'static str,
    /// What it finds open, and at which number.
    inherits: &'static [(Inherited, i32)],
    /// How it is started again; one without a pace runs once.
    restart: Option<Pace>,
    /// Its death is told to the host, and whoever waits for it while the machine goes down waits no longer.
    pub vital: bool,
}

/// What a service may find open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inherited {
    /// Its end of a new keeper socket.
    Keeper,
    /// The API's unix socket.
    ApiUnix,
    /// The API's vsock, where there is vsock.
    ApiVsock,
    /// The host door, where there is a host.
    Door,
    /// The socket of published ports, where there is a host.
    Carrier,
    /// The ssh agent's socket.
    Agent,
    /// The socket of the address that stands for the host.
    Host,
    /// The name server's socket for UDP.
    NamesUdp,
    /// The name server's socket for TCP.
    NamesTcp,
    /// The configuration document, where this boot has one: a service that reads it waits for it.
    Config,
}

/// The engine's name in the table.
pub const ENGINE: &str = "engined";

/// Every service. The out-of-memory killer takes the engine after everything else: containers can do without it for a
/// moment, but nobody can reach them then. Containers get their own value. Clients wait for it, and one that cannot live
/// costs little at a pace of a second.
const TABLE: &[Service] = &[ENGINE_SERVICE, CARRIER_SERVICE];

const ENGINE_SERVICE: Service = Service {
    name: ENGINE,
    path: ENGINED,
    sent_path: Some(ENGINED_UPGRADE),
    cgroup: CGROUP_ENGINE,
    oom_score: "-999",
    inherits: &[
        (Inherited::Keeper, KEEPER_FD),
        (Inherited::ApiUnix, API_UNIX_FD),
        (Inherited::ApiVsock, API_VSOCK_FD),
        (Inherited::Config, CONFIG_FD),
        (Inherited::Door, DOOR_FD),
        (Inherited::NamesUdp, NAMES_UDP_FD),
        (Inherited::NamesTcp, NAMES_TCP_FD),
    ],
    restart: Some(Pace {
        first: Duration::from_millis(100),
        longest: Duration::from_secs(1),
        healthy: Duration::from_secs(10),
    }),
    vital: true,
};

/// Connections of published ports are in its hands. It is this program by another name.
const CARRIER_SERVICE: Service = Service {
    name: crate::carrier::NAME,
    path: INIT,
    sent_path: None,
    cgroup: CGROUP_CARRIER,
    oom_score: "-999",
    inherits: &[(Inherited::Carrier, CARRIER_FD), (Inherited::Agent, AGENT_FD), (Inherited::Host, HOST_FD)],
    restart: Some(Pace {
        first: Duration::from_millis(100),
        longest: Duration::from_secs(1),
        healthy: Duration::from_secs(10),
    }),
    vital: false,
};

/// One that the host sent and that ends by itself within this gives way to the image's own.
const PROBATION: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Row {
    service: &'static Service,
    state: State,
    backoff: Backoff,
    starts: u32,
    origin: EngineOrigin,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Running { pid: u32, born: Instant, dismissed: bool },
    Over,
}

/// A service that was started.
#[derive(Debug)]
pub struct Started {
    /// Its process id.
    pub pid: u32,
    /// Our end of its keeper socket, where it inherits the other.
    pub keeper: Option<OwnedFd>,
}

/// A service that ended.
#[derive(Debug)]
pub struct Gone {
    /// Which.
    pub service: &'static Service,
    /// How it ended; nobody's news where another one shall take its place.
    pub how: Option<String>,
    /// It was the first of this boot, and every other one would end in the same way: the data disk is of a newer release.
    pub hopeless: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Services {
    given: Given,
    rows: Vec<Row>,
}

impl Services {
    /// Those of the table, started at the first [`Services::tick`].
    pub fn new(given: Given, now: Instant) -> Services {
        Services { given, rows: TABLE.iter().map(|service| Row::new(service, now)).collect() }
    }

    /// What they find open.
    pub fn given(&self) -> &Given {
        &self.given
    }

    /// The same, to be added to.
    pub fn given_mut(&mut self) -> &mut Given {
        &mut self.given
    }

    /// Starts those whose time has come.
    pub fn tick(&mut self, now: Instant) -> Vec<Started> {
        let Services { given, rows } = self;
        rows.iter_mut().filter_map(|row| row.start_if_due(given, now)).collect()
    }

    /// When [`Services::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let waiting = |row: &Row| match row.state {
            State::Waiting { until } if self.given.suffices(row.service) => Some(until),
            _ => None,
        };
        self.rows.iter().filter_map(waiting).min()
    }

    /// The child `pid` ended; which service it was, if it was one.
    pub fn ended(&mut self, pid: u32, status: i32, now: Instant) -> Option<Gone> {
        self.rows.iter_mut().find_map(|row| row.ended(pid, status, now))
    }

    /// Another executable was sent for `name`: the one that runs is ended, as if it had died.
    pub fn replace(&mut self, name: &str, now: Instant) {
        let Some(row) = self.row_mut(name) else { return };
        say!("the host sent another {name}");
        row.origin = EngineOrigin::Upgrade;
        row.backoff = Backoff::default();
        match &mut row.state {
            State::Running { pid, dismissed, .. } => {
                *dismissed = true;
                kill(*pid);
            }
            state => *state = State::Waiting { until: now },
        }
    }

    /// What runs as `name` cannot be worked with.
    pub fn end_unfit(&mut self, name: &str) {
        let Some(row) = self.row_mut(name) else { return };
        row.give_up_sent();
        row.pid().into_iter().for_each(kill);
    }

    /// Its process id, while it runs.
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.row(name).and_then(Row::pid)
    }

    /// How often it was started.
    pub fn starts(&self, name: &str) -> u32 {
        self.row(name).map_or(0, |row| row.starts)
    }

    /// Whether it is the image's own.
    pub fn origin(&self, name: &str) -> EngineOrigin {
        self.row(name).map_or(EngineOrigin::Image, |row| row.origin)
    }

    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.service.name == name)
    }

    fn row_mut(&mut self, name: &str) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.service.name == name)
    }
}

impl Row {
    fn new(service: &'static Service, now: Instant) -> Row {
        let (state, origin) = (State::Waiting { until: now }, EngineOrigin::Image);
        Row { service, state, backoff: Backoff::default(), starts: 0, origin }
    }

    fn pid(&self) -> Option<u32> {
        match self.state {
            State::Running { pid, .. } => Some(pid),
            State::Waiting { .. } | State::Over => None,
        }
    }

    fn start_if_due(&mut self, given: &Given, now: Instant) -> Option<Started> {
        match self.state {
            State::Waiting { until } if now >= until && given.suffices(self.service) => {
                self.start(given, now)
            }
            _ => None,
        }
    }

    fn start(&mut self, given: &Given, now: Instant) -> Option<Started> {
        self.starts += 1;
        let sent = self.service.sent_path.filter(|_| self.origin == EngineOrigin::Upgrade);
        match start::start(self.service, sent.unwrap_or(self.service.path), given) {
            Ok(started) => {
                self.state = State::Running { pid: started.pid, born: now, dismissed: false };
                Some(started)
            }
            Err(error) => {
                say!("cannot start {}: {error}", self.service.name);
                let wait = match self.give_up_sent() {
                    true => Some(Duration::ZERO),
                    // Never at once: this process would do nothing else.
                    false => self
                        .service
                        .restart
                        .map(|pace| self.backoff.died(pace, Duration::ZERO).max(pace.first)),
                };
                self.wait_for(wait, now);
                None
            }
        }
    }

    fn ended(&mut self, pid: u32, status: i32, now: Instant) -> Option<Gone> {
        let State::Running { pid: running, born, dismissed } = self.state else { return None };
        if running != pid {
            return None;
        }
        let (name, how) = (self.service.name, told(status));
        say!("{name} (process {pid}) ended with {how}");
        let lived = now.saturating_duration_since(born);
        let mut wait = self.service.restart.map(|pace| self.backoff.died(pace, lived));
        // One that was killed from outside is not to blame.
        if lived < PROBATION && status != Signal::KILL.as_raw() && self.give_up_sent() {
            wait = Some(Duration::ZERO);
        } else if status == EXIT_NEWER_DISK << 8 {
            wait = None;
        }
        self.wait_for(wait, now);
        let hopeless = wait.is_none() && status == EXIT_NEWER_DISK << 8 && self.starts == 1;
        Some(Gone { service: self.service, how: (!dismissed).then_some(how), hopeless })
    }

    fn wait_for(&mut self, wait: Option<Duration>, now: Instant) {
        self.state = wait.map_or(State::Over, |wait| State::Waiting { until: now + wait });
    }

    /// Goes back to the image's own; false where that is the one already.
    fn give_up_sent(&mut self) -> bool {
        let sent = self.origin == EngineOrigin::Upgrade;
        if sent {
            say!("the {} that the host sent does not work: back to the image's own", self.service.name);
            self.origin = EngineOrigin::Image;
            crate::upload::remove();
        }
        sent
    }
}

/// Ends a process.
pub fn kill(pid: u32) {
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
