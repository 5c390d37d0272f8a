//! The task that moves a container's output from its pipes into the spool, the hub and the log.
//!
//! All pumps share one thread, which waits for no disk: logs are written by workers. A disk that stands still for a while, or a
//! flood of one container's, costs no other its output.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::hub::{Chunk, Hub};
use super::log::{LogFile, LogPlace};
use super::output::{Output, Reading};
use super::scribe::Scribe;
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
    id: String,
    hub: Arc<Hub>,
    scribe: Scribe,
    sources: Vec<Source>,
    /// That output cannot be taken in was told.
    told: bool,
}

/// How long output waits in its pipe when there was no room for it (a full tmpfs, no memory) before it is tried again.
const RETRY: Duration = Duration::from_millis(100);

impl Pump {
    /// For a run that begins now.
    ///
    /// # Errors
    /// The log or the spool cannot be opened.
    pub fn begin(place: PumpPlace) -> io::Result<Pump> {
        let log = place.log.clone().map(LogFile::open).transpose()?;
        let length = log.as_ref().map_or(Ok(0), LogFile::mend)?;
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
        Pump {
            id: place.id.clone(),
            hub: place.hub,
            scribe: Scribe::new(place.id, spool, log, place.appended),
            sources: Vec::new(),
            told: false,
        }
    }

    /// Reads two pipes.
    ///
    /// # Errors
    /// A descriptor cannot be polled.
    pub(crate) fn read_pipes(&mut self, stdout: OwnedFd, stderr: OwnedFd, on: &Handle) -> io::Result<()> {
        let _reactor = on.enter();
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
    pub(crate) fn read_terminal(
        &mut self,
        master: OwnedFd,
        relay: (OwnedFd, OwnedFd),
        on: &Handle,
    ) -> io::Result<()> {
        let _reactor = on.enter();
        let pipe = pipe::Receiver::from_file_unchecked(master.into())?;
        self.sources.push(Source { stream: Stream::Stdout, pipe, relay: Some(relay), open: true });
        Ok(())
    }

    /// Begins to move everything until both streams end, or until what lies in the pipes is the last that counts.
    pub(crate) fn spawn(self, on: &Handle) -> Output {
        let (output, reading) = Output::begin();
        on.spawn(self.run(reading));
        output
    }

    /// Then closes the hub. The spool is removed: all was logged.
    async fn run(mut self, mut reading: Reading) {
        // What an engine before this one had moved into the spool but not taken.
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.scribe.write(stream, false).await;
        }
        while let Some(ready) = self.ready(&mut reading).await {
            self.step(ready, &mut reading).await;
        }
        self.drain().await;
        // No client waits for the log.
        self.hub.close();
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.scribe.write(stream, true).await;
        }
        // Followers look once more and see the end.
        self.scribe.close();
    }

    /// Waits for one of the streams. None when all have ended, or when only what lies in the pipes counts any more.
    async fn ready(&self, reading: &mut Reading) -> Option<(usize, io::Result<()>)> {
        let readable = async {
            let mut waits = self.sources.iter().enumerate().filter(|(_, source)| source.open);
            match (waits.next(), waits.next()) {
                (Some((i, a)), Some((j, b))) => tokio::select! {
                    result = a.pipe.readable() => Some((i, result)),
                    result = b.pipe.readable() => Some((j, result)),
                },
                (Some((i, a)), None) => Some((i, a.pipe.readable().await)),
                _ => None,
            }
        };
        tokio::select! {
            biased;
            () = reading.over() => None,
            ready = readable => ready,
        }
    }

    /// Handles what one of the streams has.
    async fn step(&mut self, (index, ready): (usize, io::Result<()>), reading: &mut Reading) {
        let source = &self.sources[index];
        let stream = source.stream;
        let moved = ready.and_then(|()| source.pipe.try_io(|| fill(source, self.scribe.spool())));
        match moved {
            Ok(0) => self.sources[index].open = false,
            Ok(count) => self.handle(stream, count, reading).await,
            // tokio says the first without the kernel's number.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                // A terminal whose last process ended.
                Some(Errno::IO) => self.sources[index].open = false,
                _ => self.wait_for_room(&error).await,
            },
        }
    }

    /// The spool cannot grow. The output stays in its pipe meanwhile: the process waits, and nothing is lost.
    async fn wait_for_room(&mut self, error: &io::Error) {
        if self.scribe.spool().give_back() {
            return;
        }
        if !std::mem::replace(&mut self.told, true) {
            tracing::error!(process = %self.id, %error, "cannot take output in, it waits");
        }
        tokio::time::sleep(RETRY).await;
    }

    /// Clients first: none of them waits for a disk. A client that lags behind holds the process back, until it has
    /// ended and the rest is only for the log.
    async fn handle(&mut self, stream: Stream, count: usize, reading: &mut Reading) {
        self.told = false;
        let chunk = self.last(stream, count);
        let lagging = chunk.as_ref().map(|chunk| self.hub.offer(chunk));
        self.scribe.write(stream, false).await;
        if let (Some(chunk), Some(lagging)) = (chunk, lagging) {
            tokio::select! {
                biased;
                () = reading.over() => {}
                () = lagging.wait(&chunk) => {}
            }
        }
    }

    /// The last `count` bytes that came into the spool, if anybody listens.
    fn last(&mut self, stream: Stream, count: usize) -> Option<Chunk> {
        if self.hub.is_empty() {
            return None;
        }
        let bytes = self.scribe.spool().last(stream, count);
        bytes.ok().map(|bytes| Chunk { stream, bytes: Bytes::from(bytes) })
    }

    /// Takes what lies in the pipes now, and no more: who still holds them may print for ever.
    async fn drain(&mut self) {
        for index in 0..self.sources.len() {
            if self.sources[index].open
                && let Err(error) = self.drain_one(index).await
            {
                tracing::error!(process = %self.id, %error, "cannot take the last output in, it is lost");
            }
        }
    }

    async fn drain_one(&mut self, index: usize) -> io::Result<()> {
        let mut left = rustix::io::ioctl_fionread(self.sources[index].pipe.as_fd())?;
        while left > 0 {
            let source = &self.sources[index];
            let stream = source.stream;
            let moved = match fill(source, self.scribe.spool()) {
                Ok(0) => return Ok(()),
                Ok(moved) => moved,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::IO) => return Ok(()),
                    _ if self.scribe.spool().give_back() => continue,
                    _ => return Err(error),
                },
            };
            left = left.saturating_sub(moved as u64);
            if let Some(chunk) = self.last(stream, moved) {
                // Who lags behind even now does not get it: one that never reads must not hold up the end.
                drop(self.hub.offer(&chunk));
            }
            self.scribe.write(stream, false).await;
        }
        Ok(())
    }
}

/// One splice from the source into the spool.
fn fill(source: &Source, spool: &mut Spool) -> io::Result<usize> {
    let Some((read, write)) = &source.relay else {
        return spool.fill(source.stream, source.pipe.as_fd());
    };
    // Bytes may lie in the relay since an engine before this one was killed between the two moves.
    let left = drain_relay(source.stream, read, spool)?;
    if left > 0 {
        return Ok(left);
    }
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    rustix::pipe::splice(source.pipe.as_fd(), None, write, None, CHUNK, flags)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Attributes, Reader, Rules};
    use std::io::Write;
    use std::path::Path;
    use std::process::Command;

    fn place(spools: &Path, folder: &Path) -> PumpPlace {
        let log = LogPlace {
            path: folder.join("log"),
            rules: Rules::default(),
            attributes: Attributes::new(),
            turns: Arc::default(),
        };
        PumpPlace {
            spools: spools.to_owned(),
            id: "x".to_owned(),
            log: Some(log),
            hub: Arc::default(),
            appended: Arc::new(watch::Sender::new(0)),
        }
    }

    fn logged(place: &PumpPlace) -> String {
        let mut reader = Reader::open(place.log.clone().unwrap(), None).unwrap();
        let mut text = String::new();
        while let Some(record) = reader.next_record().unwrap() {
            text += &record.text;
        }
        text
    }

    /// A pump that reads what is written into the returned ends.
    fn pumping(place: &PumpPlace) -> (Output, OwnedFd, OwnedFd) {
        let flags = rustix::pipe::PipeFlags::CLOEXEC;
        let (stdout, out) = rustix::pipe::pipe_with(flags).unwrap();
        let (stderr, err) = rustix::pipe::pipe_with(flags).unwrap();
        let mut pump = Pump::begin(place.clone()).unwrap();
        for end in [&stdout, &stderr] {
            rustix::io::ioctl_fionbio(end, true).unwrap();
        }
        pump.read_pipes(stdout, stderr, &Handle::current()).unwrap();
        (pump.spawn(&Handle::current()), out, err)
    }

    #[tokio::test]
    async fn a_line_that_a_power_cut_tore_takes_no_other_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), dir.path());
        let whole = r#"{"log":"before\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}"#;
        let torn = r#"{"log":"lost"#;
        std::fs::write(dir.path().join("log"), format!("{whole}\n{torn}")).unwrap();
        let (output, out, _) = pumping(&place);
        rustix::io::write(&out, b"after\n").unwrap();
        drop(out);
        output.drained().await;
        assert_eq!(logged(&place), "before\nafter\n");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_costs_no_output() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), dir.path());
        let asleep = place.hub.subscribe();
        let (output, out, _) = pumping(&place);
        // More chunks than a client may lag behind: the pump waits for it with the rest in the pipe.
        for n in 0..40 {
            rustix::io::write(&out, format!("line {n}\n").as_bytes()).unwrap();
            tokio::task::yield_now().await;
        }
        rustix::io::write(&out, b"unfinished").unwrap();
        // The program has ended; somebody holds its pipe.
        assert!(!output.settle(std::time::Duration::ZERO).await);
        output.drained().await;
        let lines: String = (0..40).map(|n| format!("line {n}\n")).collect();
        assert_eq!(logged(&place), lines + "unfinished");
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 1, "the spool is gone");
        drop((out, asleep));
    }

    #[tokio::test]
    async fn what_lies_in_the_pipe_at_the_end_reaches_clients_too() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), dir.path());
        let mut client = place.hub.subscribe();
        let (output, out, _) = pumping(&place);
        rustix::io::write(&out, b"last words").unwrap();
        // Somebody holds the pipe, and the pump had no turn yet.
        assert!(!output.settle(Duration::ZERO).await);
        assert_eq!(client.recv().await.unwrap().bytes, "last words");
        assert!(client.recv().await.is_none());
        output.drained().await;
        assert_eq!(logged(&place), "last words");
        drop(out);
    }

    #[tokio::test]
    async fn a_flood_is_logged_whole_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), dir.path());
        let mut client = place.hub.subscribe();
        let (output, out, err) = pumping(&place);
        let lines: String = (0..400_000).map(|n| format!("line {n}\n")).collect();
        assert!(lines.len() > 64 * CHUNK);
        let text = lines.clone();
        let writing =
            tokio::task::spawn_blocking(move || std::fs::File::from(out).write_all(text.as_bytes()));
        let mut heard = Vec::new();
        drop(err);
        while let Some(chunk) = client.recv().await {
            heard.extend_from_slice(&chunk.bytes);
        }
        writing.await.unwrap().unwrap();
        output.drained().await;
        assert!(heard == lines.as_bytes());
        assert!(logged(&place) == lines);
    }

    /// A tmpfs of a few pages.
    struct Small(tempfile::TempDir);

    impl Small {
        fn mount(size: &str) -> Small {
            let dir = tempfile::tempdir().unwrap();
            let mount = |dir: &Path| {
                let size = format!("size={size}");
                Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(dir).status()
            };
            assert!(mount(dir.path()).unwrap().success(), "this test runs as root");
            Small(dir)
        }
    }

    impl Drop for Small {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
        }
    }

    #[tokio::test]
    async fn a_full_spool_ends_no_stream() {
        let (spools, dir) = (Small::mount("64k"), tempfile::tempdir().unwrap());
        let place = place(spools.0.path(), dir.path());
        // Somebody else has taken nearly all.
        std::fs::write(spools.0.path().join("else"), vec![0; 40 << 10]).unwrap();
        let (output, out, _) = pumping(&place);
        let lines: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
        let text = lines.clone();
        let writing =
            tokio::task::spawn_blocking(move || std::fs::File::from(out).write_all(text.as_bytes()));
        writing.await.unwrap().unwrap();
        output.drained().await;
        assert!(logged(&place) == lines);
    }
}
