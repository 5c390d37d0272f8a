//! The task that moves a container's output from its pipes into the spool, the log and the hub.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::hub::{Chunk, Hub};
use super::log::{Cut, LogFile, LogPlace};
use super::spool::{CHUNK, Spool, Stream};

/// Where one container's output goes.
#[derive(Debug, Clone)]
pub struct PumpPlace {
    /// Folder of the spools, on a tmpfs that outlives the engine.
    pub spools: PathBuf,
    /// Name of the spool: the container's id.
    pub id: String,
    /// The log; `None` logs nothing.
    pub log: Option<LogPlace>,
    /// Attached clients.
    pub hub: Arc<Hub>,
    /// Counts appends, to wake those who follow the log.
    pub appended: Arc<watch::Sender<u64>>,
}

/// One pipe to read.
struct Source {
    stream: Stream,
    pipe: pipe::Receiver,
    /// The terminal's bytes pass through this pipe, since splice(2) needs one.
    relay: Option<(OwnedFd, OwnedFd)>,
    open: bool,
}

/// The pump of one run.
pub struct Pump {
    place: PumpPlace,
    spool: Spool,
    log: Option<LogFile>,
    sources: Vec<Source>,
    pending: Vec<u8>,
    records: Vec<u8>,
}

impl Pump {
    /// For a run that begins now.
    ///
    /// # Errors
    /// The log or the spool cannot be opened.
    pub fn begin(place: PumpPlace) -> io::Result<Pump> {
        let log = place.log.clone().map(LogFile::open).transpose()?;
        let length = log.as_ref().map_or(Ok(0), LogFile::length)?;
        let spool = Spool::create(&place.spools, &place.id, length)?;
        Ok(Pump::new(place, spool, log))
    }

    /// For a run that an engine before this one began.
    ///
    /// # Errors
    /// The log or the spool cannot be opened.
    pub fn resume(place: PumpPlace) -> io::Result<Pump> {
        let log = place.log.clone().map(LogFile::open).transpose()?;
        let length = log.as_ref().map_or(Ok(0), LogFile::length)?;
        let (spool, cut) = match Spool::reopen(&place.spools, &place.id, length)? {
            Some(found) => found,
            None => (Spool::create(&place.spools, &place.id, length)?, length),
        };
        if let Some(log) = &log
            && cut < length
        {
            log.cut(cut)?;
        }
        Ok(Pump::new(place, spool, log))
    }

    fn new(place: PumpPlace, spool: Spool, log: Option<LogFile>) -> Pump {
        Pump { place, spool, log, sources: Vec::new(), pending: Vec::new(), records: Vec::new() }
    }

    /// Reads two pipes.
    ///
    /// # Errors
    /// A descriptor cannot be polled.
    pub fn read_pipes(&mut self, stdout: OwnedFd, stderr: OwnedFd) -> io::Result<()> {
        for (stream, end) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
            let pipe = pipe::Receiver::from_file_unchecked(end.into())?;
            self.sources.push(Source { stream, pipe, relay: None, open: true });
        }
        Ok(())
    }

    /// Reads a terminal through `relay`.
    ///
    /// # Errors
    /// A descriptor cannot be polled.
    pub fn read_terminal(&mut self, master: OwnedFd, relay: (OwnedFd, OwnedFd)) -> io::Result<()> {
        let pipe = pipe::Receiver::from_file_unchecked(master.into())?;
        self.sources.push(Source { stream: Stream::Stdout, pipe, relay: Some(relay), open: true });
        Ok(())
    }

    /// Moves everything until both streams end, then closes the hub. The spool is removed: all was logged.
    pub async fn run(mut self) {
        // What an engine before this one had moved into the spool but not taken.
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.take(stream, false);
        }
        while self.sources.iter().any(|source| source.open) {
            self.step().await;
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.take(stream, true);
        }
        self.place.hub.close();
        self.spool.remove();
        // Followers look once more and see the end.
        self.place.appended.send_modify(|count| *count += 1);
    }

    /// Waits for one of the streams and handles what it has.
    async fn step(&mut self) {
        let ready = {
            let mut waits = self.sources.iter().enumerate().filter(|(_, source)| source.open);
            let (first, second) = (waits.next(), waits.next());
            match (first, second) {
                (Some((i, a)), Some((j, b))) => tokio::select! {
                    result = a.pipe.readable() => (i, result),
                    result = b.pipe.readable() => (j, result),
                },
                (Some((i, a)), None) => (i, a.pipe.readable().await),
                _ => return,
            }
        };
        let (index, result) = ready;
        let stream = self.sources[index].stream;
        let moved = result.and_then(|()| fill(&self.sources[index], &mut self.spool));
        match moved {
            Ok(0) => self.sources[index].open = false,
            Ok(count) => self.handle(stream, count).await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // A terminal whose last process ended answers EIO; anything else ends the stream as well.
            Err(_) => self.sources[index].open = false,
        }
    }

    async fn handle(&mut self, stream: Stream, count: usize) {
        if self.spool.pending(stream, &mut self.pending).is_err() {
            return;
        }
        let fresh = self.pending.len().saturating_sub(count);
        let chunk = (!self.place.hub.is_empty())
            .then(|| Chunk { stream, bytes: Bytes::copy_from_slice(&self.pending[fresh..]) });
        self.log_pending(stream, false);
        if let Some(chunk) = chunk {
            self.place.hub.publish(&chunk).await;
        }
    }

    fn take(&mut self, stream: Stream, finish: bool) {
        if self.spool.pending(stream, &mut self.pending).is_ok() && !self.pending.is_empty() {
            self.log_pending(stream, finish);
        }
    }

    /// Brings the complete lines of `pending` into the log. A log that cannot be written (disk full) loses them,
    /// as the container must not stop for it; the loss is told.
    fn log_pending(&mut self, stream: Stream, finish: bool) {
        let Some(log) = &mut self.log else {
            let _ = self.spool.take(stream, self.pending.len() as u64, 0);
            let _ = self.spool.done(stream);
            return;
        };
        let mut rest = &self.pending[..];
        loop {
            if log.room(self.spool.log_length()) == 0 {
                begin_anew(&mut self.spool, log, &self.place.id);
            }
            let offset = self.spool.log_length();
            // A full file that could not be left grows.
            let room = log.room(offset).max(1);
            self.records.clear();
            let cut = Cut { stream, attributes: log.attributes(), finish, room };
            let taken = cut.records(rest, &mut self.records);
            if taken == 0 {
                return;
            }
            rest = &rest[taken..];
            let written = self
                .spool
                .take(stream, taken as u64, offset + self.records.len() as u64)
                .and_then(|()| log.append(&self.records, offset))
                .and_then(|()| self.spool.done(stream));
            match written {
                Ok(()) => self.place.appended.send_modify(|count| *count += 1),
                Err(error) => {
                    tracing::error!(container = %self.place.id, %error, "cannot write the log, output is lost");
                    let _ = self.spool.take(stream, 0, offset);
                }
            }
        }
    }
}

/// Goes on in an empty log file, if there can be one. The spool says so before and is right whether or not it comes to
/// that: nothing is taken in between.
fn begin_anew(spool: &mut Spool, log: &mut LogFile, id: &str) {
    let full = spool.log_length();
    let turned = spool.take(Stream::Stdout, 0, 0).and_then(|()| log.turn());
    if let Err(error) = turned {
        tracing::warn!(container = %id, %error, "cannot begin a new log file, the full one grows");
        let _ = spool.take(Stream::Stdout, 0, full);
    }
}

/// One splice from the source into the spool, inside tokio's readiness.
fn fill(source: &Source, spool: &mut Spool) -> io::Result<usize> {
    let Some((read, write)) = &source.relay else {
        return source.pipe.try_io(|| spool.fill(source.stream, source.pipe.as_fd()));
    };
    // Bytes may lie in the relay since an engine before this one was killed between the two moves.
    let left = drain_relay(source.stream, read, spool)?;
    if left > 0 {
        return Ok(left);
    }
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    source.pipe.try_io(|| Ok(rustix::pipe::splice(source.pipe.as_fd(), None, write, None, CHUNK, flags)?))?;
    drain_relay(source.stream, read, spool)
}

fn drain_relay(stream: Stream, relay: &OwnedFd, spool: &mut Spool) -> io::Result<usize> {
    let mut total = 0;
    loop {
        match spool.fill(stream, relay) {
            Ok(0) => return Ok(total),
            Ok(count) => total += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(total),
            Err(error) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
}
