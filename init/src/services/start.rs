//! Starting one service.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use contract::paths::CGROUP;
use contract::settings::{ConfigSource, Settings};
use sys::clone::StringArray;
use sys::packet;
use sys::start::Program;

use crate::boot::Sockets;
use crate::messages::say;

use super::{Inherited, Service, Started};

/// What a service finds in its environment.
const ENVIRONMENT: &[&str] = &["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"];

/// What services are given.
#[derive(Debug)]
pub struct Given {
    sockets: Sockets,
    /// The settings of this boot, as words.
    words: Vec<CString>,
    config_source: ConfigSource,
    config: Option<File>,
}

impl Given {
    /// The sockets and the settings of this boot.
    pub fn new(sockets: Sockets, settings: &Settings) -> Given {
        let words = settings.words().into_iter().filter_map(|word| CString::new(word).ok()).collect();
        Given { sockets, words, config_source: settings.config, config: None }
    }

    /// The configuration document, once it is there.
    pub fn config(&self) -> Option<&File> {
        self.config.as_ref()
    }

    /// It is there.
    pub fn set_config(&mut self, config: File) {
        self.config = Some(config);
    }

    /// Whether `service` need not wait for anything.
    pub fn suffices(&self, service: &Service) -> bool {
        let reads = service.inherits.iter().any(|(what, _)| *what == Inherited::Config);
        !reads || self.config_source == ConfigSource::None || self.config.is_some()
    }

    /// The listening sockets.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    fn find(&self, what: Inherited) -> Option<BorrowedFd<'_>> {
        match what {
            Inherited::Keeper => None,
            Inherited::ApiUnix => Some(self.sockets.api_unix()),
            Inherited::ApiVsock => self.sockets.api_vsock(),
            Inherited::Door => self.sockets.door(),
            Inherited::Carrier => self.sockets.carrier(),
            Inherited::Agent => Some(self.sockets.agent()),
            Inherited::Host => self.sockets.host(),
            Inherited::NamesUdp => self.sockets.names_udp(),
            Inherited::NamesTcp => self.sockets.names_tcp(),
            Inherited::Config => self.config.as_ref().map(AsFd::as_fd),
        }
    }
}

/// Starts `service` from `path`.
pub fn start(service: &Service, path: &str, given: &Given) -> io::Result<Started> {
    let null = File::open("/dev/null")?;
    let keeper = keeper(service)?;
    let mut fds = vec![(null.as_fd(), 0)];
    for (what, number) in service.inherits {
        let ours = keeper.as_ref().filter(|_| *what == Inherited::Keeper).map(|(_, theirs)| theirs.as_fd());
        fds.extend(ours.or_else(|| given.find(*what)).map(|fd| (fd, *number)));
    }
    let cgroup = File::open(format!("{CGROUP}/{}", service.cgroup))?;
    let word = |word: &str| CString::new(word).expect("no NUL in a constant");
    let arguments = std::iter::once(word(service.name)).chain(given.words.iter().cloned()).collect();
    let program = Program {
        path: &word(path),
        arguments: StringArray::new(arguments),
        environment: StringArray::new(ENVIRONMENT.iter().map(|variable| word(variable)).collect()),
        cgroup: Some(cgroup.as_fd()),
        fds: &fds,
    };
    let pid = program.start()?.pid;
    if let Err(error) = std::fs::write(format!("/proc/{pid}/oom_score_adj"), service.oom_score) {
        say!("{} has the usual place in the out-of-memory killer's order: {error}", service.name);
    }
    Ok(Started { pid, keeper: keeper.map(|(ours, _)| ours) })
}

/// Both ends of a keeper socket, where `service` inherits one.
fn keeper(service: &Service) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
    if service.inherits.iter().all(|(what, _)| *what != Inherited::Keeper) {
        return Ok(None);
    }
    let (ours, theirs) = packet::pair()?;
    packet::pass_credentials(ours.as_fd())?;
    Ok(Some((ours, theirs)))
}
