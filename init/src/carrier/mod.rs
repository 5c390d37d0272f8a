//! `carrier`: the bytes of published ports, between streams that the host dials and containers, and those of containers that
//! reach the host. A small service of its own, so that connections outlive the engine: see [`contract::carrier`].
//!
//! One thread and one epoll. Every descriptor is watched by edges, and each event has its link moved on until nothing goes any
//! further. A side that does not take its bytes has the other one not read.
//!
//! ```text
//!   accepted ──► the line ──► the target is connected ──► both directions, each to its own end ──► closed
//! ```

mod flow;
mod link;
mod waiting;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use contract::paths::{AGENT_FD, CARRIER_FD, HOST_FD};
use contract::vsock::HOST_CID;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use sys::listen::Peer;

use link::{Link, Side};
use waiting::{Service, Waiting};

/// The service's name, by which the program knows that it is meant.
pub const NAME: &str = "carrier";
/// Whoever has not said where to by then is sent away.
const LINE_WITHIN: Duration = Duration::from_secs(10);
/// How long nobody is accepted after one could not be, for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes read at a time; also the most that is held of one direction.
const CHUNK: usize = 64 << 10;
/// Descriptors: two for each of many thousand connections.
const FILES: u64 = 1 << 17;
/// Connections accepted before others have their turn.
const ACCEPT: usize = 64;
const EVENTS: usize = 256;
/// The listener's mark among the events.
const LISTENER: u64 = u64::MAX;
/// The mark of the first socket whose clients want to reach the host; the next ones are below.
const WAITING: u64 = u64::MAX - 1;

/// Whether the program was started as [`NAME`].
pub fn is_asked(program: &str) -> bool {
    program == NAME
}

/// Serves for ever; PID 1 starts it again where it cannot.
pub fn run() -> ! {
    let Some(listener) = sys::inherit::take(CARRIER_FD) else {
        crate::messages::say!("carrier: there is nobody to listen to");
        std::process::exit(1)
    };
    let Some(agent) = sys::inherit::take(AGENT_FD) else {
        crate::messages::say!("carrier: it has no socket for the ssh agent");
        std::process::exit(1)
    };
    let mut waiting = vec![Waiting::new(Service::Agent, agent)];
    // A kernel without IPv4 has no such address.
    waiting.extend(sys::inherit::take(HOST_FD).map(|host| Waiting::new(Service::Ports, host)));
    raise_files();
    match Carrier::new(listener, waiting).and_then(|mut carrier| carrier.serve()) {
        Ok(never) => match never {},
        Err(error) => {
            crate::messages::say!("carrier: {error}");
            std::process::exit(1)
        }
    }
}

fn raise_files() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = Rlimit { current: Some(FILES), maximum: Some(FILES) };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        crate::messages::say!("carrier: it has few descriptors: {error}");
    }
}

/// See the module.
struct Carrier {
    listener: OwnedFd,
    epoll: OwnedFd,
    links: Vec<Option<Link>>,
    free: Vec<usize>,
    /// Those that had more to move than fits into one turn.
    again: Vec<usize>,
    /// Those of whom the line is awaited, oldest first; some may be long past it.
    young: Vec<(usize, Instant)>,
    /// Nobody is accepted before.
    paused: Option<Instant>,
    buffer: Vec<u8>,
    waiting: Vec<Waiting>,
}

impl Carrier {
    fn new(listener: OwnedFd, waiting: Vec<Waiting>) -> Result<Carrier, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for (number, waiting) in (0..).zip(&waiting) {
            epoll::add(&epoll, waiting.listener(), EventData::new_u64(WAITING - number), EventFlags::IN)?;
        }
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Carrier {
            listener,
            epoll,
            links: Vec::new(),
            free: Vec::new(),
            again: Vec::new(),
            young: Vec::new(),
            paused: None,
            buffer: vec![0; CHUNK],
            waiting,
        })
    }

    fn serve(&mut self) -> Result<std::convert::Infallible, Errno> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            let timeout = self.timeout();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            let unfinished = std::mem::take(&mut self.again);
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    mark => match self.waiting_of(mark) {
                        Some(waiting) => {
                            waiting.accept();
                            self.pair();
                        }
                        None => self.happened(mark, event.flags),
                    },
                }
            }
            unfinished.into_iter().for_each(|index| self.move_on(index));
            self.look_at_the_time();
        }
    }

    /// The clients whose socket has this mark.
    fn waiting_of(&mut self, mark: u64) -> Option<&mut Waiting> {
        self.waiting.get_mut(usize::try_from(WAITING - mark).ok()?)
    }

    fn timeout(&self) -> Option<rustix::event::Timespec> {
        let wait = match (&self.again[..], self.paused, &self.young[..]) {
            ([_, ..], _, _) => Duration::ZERO,
            (_, Some(_), _) => PAUSE,
            (_, _, [_, ..]) => Duration::from_secs(1),
            _ if self.waiting.iter().any(Waiting::has_clients) => Duration::from_secs(1),
            _ => return None,
        };
        rustix::event::Timespec::try_from(wait).ok()
    }

    fn look_at_the_time(&mut self) {
        let now = Instant::now();
        if self.paused.is_some_and(|until| now >= until) {
            self.paused = None;
            let mark = EventData::new_u64(LISTENER);
            let _ = epoll::modify(&self.epoll, &self.listener, mark, EventFlags::IN);
        }
        self.waiting.iter_mut().for_each(|waiting| waiting.look_at_the_time(now));
        let late = self.young.iter().take_while(|(_, born)| now.duration_since(*born) > LINE_WITHIN).count();
        for (index, born) in self.young.drain(..late).collect::<Vec<_>>() {
            let is_it = |link: &Link| link.awaits_line() && link.born() == born;
            if self.links.get(index).and_then(Option::as_ref).is_some_and(is_it) {
                self.close(index);
            }
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPT {
            match sys::listen::accept(self.listener.as_fd()) {
                Ok((stream, Peer::Unix | Peer::Vsock { cid: HOST_CID })) => self.take(stream),
                // A container could open a vsock to its own machine; only the host is served.
                Ok((_, Peer::Vsock { .. })) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    crate::messages::say!("carrier: cannot accept: {error}");
                    self.paused = Some(Instant::now() + PAUSE);
                    let mark = EventData::new_u64(LISTENER);
                    let _ = epoll::modify(&self.epoll, &self.listener, mark, EventFlags::empty());
                    return;
                }
            }
        }
    }

    fn take(&mut self, stream: OwnedFd) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.links.push(None);
            self.links.len() - 1
        });
        let now = Instant::now();
        if self.watch(stream.as_fd(), index, Side::Host).is_err() {
            return self.free.push(index);
        }
        self.links[index] = Some(Link::new(stream, now));
        self.young.push((index, now));
        self.move_on(index);
    }

    /// A link's two descriptors are told apart by the lowest bit.
    fn watch(&self, fd: BorrowedFd<'_>, index: usize, side: Side) -> Result<(), Errno> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, fd, EventData::new_u64((index as u64) << 1 | side as u64), flags)
    }

    fn happened(&mut self, mark: u64, flags: EventFlags) {
        let index = usize::try_from(mark >> 1).unwrap_or(usize::MAX);
        let side = if mark & 1 == 0 { Side::Host } else { Side::Target };
        let Some(Some(link)) = self.links.get_mut(index) else { return };
        link.note(side, flags);
        self.move_on(index);
    }

    fn move_on(&mut self, index: usize) {
        let Some(Some(link)) = self.links.get_mut(index) else { return };
        let had_target = link.target().is_some();
        let moved = link.move_on(&mut self.buffer);
        let fresh = link.target().filter(|_| !had_target);
        let watched = match fresh {
            // What has happened to it since it was made is told as the first edge.
            Some(target) => {
                let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
                let mark = EventData::new_u64((index as u64) << 1 | Side::Target as u64);
                epoll::add(&self.epoll, target, mark, flags)
            }
            None => Ok(()),
        };
        let waits_for = link.waits_for();
        match (moved, watched) {
            (link::Moved::Waits, Ok(())) => {
                let mut waiting = self.waiting.iter_mut();
                if let Some(waiting) = waiting.find(|waiting| Some(waiting.service()) == waits_for) {
                    waiting.offer(index);
                    self.pair();
                }
            }
            (link::Moved::HasMore, Ok(())) => self.again.push(index),
            _ => self.close(index),
        }
    }

    /// Joins clients and the streams that wait for them.
    fn pair(&mut self) {
        let next = |waiting: &mut Vec<Waiting>| waiting.iter_mut().find_map(Waiting::pair);
        while let Some((index, client)) = next(&mut self.waiting) {
            if let Some(Some(link)) = self.links.get_mut(index) {
                link.join(client);
            }
            let target = self.links.get(index).and_then(Option::as_ref).and_then(Link::target);
            let watched = target.map(|target| self.watch(target, index, Side::Target));
            match watched {
                Some(Ok(())) => self.move_on(index),
                _ => self.close(index),
            }
        }
    }

    fn close(&mut self, index: usize) {
        self.waiting.iter_mut().for_each(|waiting| waiting.withdraw(index));
        self.links[index] = None;
        self.free.push(index);
    }
}

#[cfg(test)]
mod tests;
