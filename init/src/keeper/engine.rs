//! Starting `engined`.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use contract::control::EngineOrigin;
use contract::paths::{
    API_UNIX_FD, API_VSOCK_FD, CGROUP, CGROUP_ENGINE, ENGINED, ENGINED_UPGRADE, KEEPER_FD,
};
use sys::clone::StringArray;
use sys::packet;
use sys::start::Program;

use crate::boot::Sockets;
use crate::messages::say;

/// What `engined` finds in its environment.
const ENVIRONMENT: &[&str] = &["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"];

/// The out-of-memory killer takes the engine after everything else: containers can do without it for a moment, but
/// nobody can reach them then. Containers get their own value.
const OOM_SCORE: &str = "-999";

/// A process that was killed closes its descriptors and gives back its memory before its parent hears of it.
const DYING: Duration = Duration::from_secs(2);

/// A living engine.
#[derive(Debug)]
pub struct Engine {
    /// Its process id.
    pub pid: u32,
    /// Our end; `None` when it closed its own.
    pub socket: Option<OwnedFd>,
    /// When it was started.
    pub born: Instant,
    /// Without the socket it cannot learn how its containers end: until when it may still be dying, which closes
    /// the socket first.
    pub deaf_until: Option<Instant>,
}

impl Engine {
    /// It closed its end of the socket.
    pub fn deaf(&mut self, now: Instant) {
        self.socket = None;
        self.deaf_until = Some(now + DYING);
    }
}

/// What is needed to start one.
#[derive(Debug)]
pub struct Starter {
    sockets: Sockets,
    /// The settings of this boot, as words.
    words: Vec<CString>,
    origin: EngineOrigin,
}

impl Starter {
    /// Every engine gets these sockets and these settings.
    pub fn new(sockets: Sockets, words: Vec<String>) -> Starter {
        let words = words.into_iter().filter_map(|word| CString::new(word).ok()).collect();
        Starter { sockets, words, origin: EngineOrigin::Image }
    }

    /// The listening sockets.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Which engine is started.
    pub fn origin(&self) -> EngineOrigin {
        self.origin
    }

    /// From now on the engine at [`ENGINED_UPGRADE`] is started.
    pub fn upgrade(&mut self) {
        self.origin = EngineOrigin::Upgrade;
    }

    /// Goes back to the image's own engine; false where that is the one already.
    pub fn give_up_upgrade(&mut self) -> bool {
        let upgraded = self.origin == EngineOrigin::Upgrade;
        if upgraded {
            say!("the engine that the host sent does not work: back to the image's own");
            self.origin = EngineOrigin::Image;
            crate::upload::remove();
        }
        upgraded
    }

    fn path(&self) -> &'static str {
        match self.origin {
            EngineOrigin::Image => ENGINED,
            EngineOrigin::Upgrade => ENGINED_UPGRADE,
        }
    }

    /// Starts one.
    pub fn start(&self, now: Instant) -> io::Result<Engine> {
        let (ours, theirs) = packet::pair()?;
        packet::pass_credentials(ours.as_fd())?;
        let null = File::open("/dev/null")?;
        let mut fds =
            vec![(null.as_fd(), 0), (theirs.as_fd(), KEEPER_FD), (self.sockets.api_unix(), API_UNIX_FD)];
        fds.extend(self.sockets.api_vsock().map(|socket| (socket, API_VSOCK_FD)));
        let cgroup = File::open(format!("{CGROUP}/{CGROUP_ENGINE}"))?;
        let path = CString::new(self.path()).expect("no NUL in a constant");
        let arguments = std::iter::once(c"engined".into()).chain(self.words.iter().cloned()).collect();
        let environment = ENVIRONMENT.iter().map(|word| CString::new(*word).expect("no NUL in a constant"));
        let program = Program {
            path: &path,
            arguments: StringArray::new(arguments),
            environment: StringArray::new(environment.collect()),
            cgroup: Some(cgroup.as_fd()),
            fds: &fds,
        };
        let pid = program.start()?.pid;
        if let Err(error) = std::fs::write(format!("/proc/{pid}/oom_score_adj"), OOM_SCORE) {
            say!("the engine is not protected from the out-of-memory killer: {error}");
        }
        Ok(Engine { pid, socket: Some(ours), born: now, deaf_until: None })
    }
}
