//! Reading what a container has printed. The files are read by file workers, a batch at a time: a log has gigabytes of
//! which a request may want nothing.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::container::Container;
use super::error::ContainerError;
use super::files::on_files;
use super::state::Snapshot;
use model::timestamp::Timestamp;
use process::Stream;
use process::log::{LogPlace, Reader, Record};

/// Which part of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRequest {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Go on until the run ends.
    pub follow: bool,
    /// Last lines only.
    pub tail: Option<u64>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
}

/// Most records of a batch that are wanted.
const BATCH: usize = 256;
/// Most that are read for one, wanted or not: then others have their turn, and a client that left is noticed.
const LOOKED_AT: usize = 16 * 1024;
/// Batches read ahead of a slow client.
const AHEAD: usize = 2;

impl Container {
    /// The records that `request` names, in order, in batches. The channel ends with the log, or with the run for
    /// `follow`.
    ///
    /// # Errors
    /// Neither stream is asked for, or the log cannot be read.
    pub async fn logs(&self, request: LogRequest) -> Result<mpsc::Receiver<Vec<Record>>, ContainerError> {
        if !request.stdout && !request.stderr {
            let text = "must specify at least one of 'stdout' or 'stderr'";
            return Err(ContainerError::Invalid(text.to_owned()));
        }
        let place = self.log_place().ok_or_else(|| {
            ContainerError::NotSupported("configured logging driver does not support reading".to_owned())
        })?;
        stream(place, request, self.appended.subscribe(), self.watch()).await
    }
}

async fn stream(
    place: LogPlace,
    request: LogRequest,
    appended: watch::Receiver<u64>,
    states: watch::Receiver<Snapshot>,
) -> Result<mpsc::Receiver<Vec<Record>>, ContainerError> {
    let tail = request.tail;
    let reader = on_files(move || Reader::open(place, tail)).await?;
    let reader = reader.map_err(ContainerError::machine("open the container's log"))?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(follow(reader, Arc::new(request), sender, appended, states));
    Ok(receiver)
}

async fn follow(
    mut reader: Reader,
    request: Arc<LogRequest>,
    sender: mpsc::Sender<Vec<Record>>,
    mut appended: watch::Receiver<u64>,
    mut states: watch::Receiver<Snapshot>,
) {
    loop {
        appended.mark_unchanged();
        // Read before the log's end is looked for: what was written before the run ended is then seen.
        let running = states.borrow_and_update().state.running().is_some();
        let Some(read) = deliver(reader, &request, &sender).await else { return };
        reader = read;
        if !request.follow || !running {
            return;
        }
        tokio::select! {
            _ = appended.changed() => {}
            _ = states.changed() => {}
            () = sender.closed() => return,
        }
    }
}

/// Sends all there is; nothing comes back when nobody wants more.
async fn deliver(
    mut reader: Reader,
    request: &Arc<LogRequest>,
    sender: &mpsc::Sender<Vec<Record>>,
) -> Option<Reader> {
    loop {
        let asked = request.clone();
        let read = on_files(move || {
            let batch = batch(&mut reader, &asked);
            (reader, batch)
        });
        let (back, batch) = read.await.ok()?;
        reader = back;
        if sender.is_closed() || (!batch.records.is_empty() && sender.send(batch.records).await.is_err()) {
            return None;
        }
        match batch.next {
            Next::More => {}
            Next::Later => return Some(reader),
            Next::Nothing => return None,
        }
    }
}

/// What a worker has read.
struct Batch {
    records: Vec<Record>,
    next: Next,
}

/// What comes behind a batch.
enum Next {
    More,
    /// The log's present end.
    Later,
    /// No record that is wanted.
    Nothing,
}

fn batch(reader: &mut Reader, request: &LogRequest) -> Batch {
    let mut records = Vec::new();
    for _ in 0..LOOKED_AT {
        let record = match reader.next_record() {
            Ok(Some(record)) => record,
            Ok(None) => return Batch { records, next: Next::Later },
            Err(error) => {
                tracing::warn!(%error, "cannot read a container's log");
                return Batch { records, next: Next::Nothing };
            }
        };
        if request.until.is_some_and(|until| record.time > until) {
            return Batch { records, next: Next::Nothing };
        }
        let wanted = match record.stream {
            Stream::Stdout => request.stdout,
            Stream::Stderr => request.stderr,
        };
        if wanted && request.since.is_none_or(|since| record.time >= since) {
            records.push(record);
        }
        if records.len() == BATCH {
            break;
        }
    }
    Batch { records, next: Next::More }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // Tests serve nobody.
mod tests {
    use super::super::state::{Ended, State};
    use super::*;
    use process::log::{Attributes, Rules};
    use std::fmt::Write;
    use std::path::Path;
    use std::time::Duration;

    fn place(path: &Path) -> LogPlace {
        let (path, rules) = (path.to_owned(), Rules::default());
        LogPlace { path, rules, attributes: Attributes::new(), turns: Arc::default() }
    }

    fn request() -> LogRequest {
        LogRequest { stdout: true, stderr: true, ..LogRequest::default() }
    }

    async fn opened(path: &Path, request: LogRequest) -> mpsc::Receiver<Vec<Record>> {
        let ended = Snapshot { state: State::Exited(Ended::default()), exits: 1, last_exit: 0 };
        let (appended, states) = (watch::Sender::new(0), watch::Sender::new(ended));
        stream(place(path), request, appended.subscribe(), states.subscribe()).await.unwrap()
    }

    /// Lines of two seconds each, from 1970 on.
    fn written(lines: usize) -> String {
        (0..lines).fold(String::new(), |mut text, n| {
            let (minute, second) = (n / 30, n % 30 * 2);
            let time = format!("1970-01-01T{:02}:{:02}:{second:02}Z", minute / 60, minute % 60);
            let _ = writeln!(text, r#"{{"log":"line {n}\n","stream":"stdout","time":"{time}"}}"#);
            text
        })
    }

    /// A log that does not come: the files of several requests may take as long as they like, the API has one thread and is
    /// not to wait for them.
    #[test]
    fn a_slow_log_holds_up_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let (told, answered) = std::sync::mpsc::channel();
        let log = path.clone();
        let control = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let reading = [1, 2].map(|_| {
                    let log = log.clone();
                    tokio::spawn(async move { opened(&log, request()).await.recv().await })
                });
                let ping = tokio::spawn(async {
                    for _ in 0..100 {
                        tokio::task::yield_now().await;
                    }
                });
                ping.await.unwrap();
                told.send(()).unwrap();
                for reading in reading {
                    drop(reading.await.unwrap());
                }
            });
        });
        // Not a measure: what would wait for ever fails instead.
        answered.recv_timeout(Duration::from_secs(60)).expect("others are served while the log is read");
        // A reader's open(2) waits for a writer, and its read(2) ends when the last writer has gone: see fifo(7).
        while !control.is_finished() {
            drop(std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
        control.join().unwrap();
    }

    #[tokio::test]
    async fn batches_are_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let lines = LOOKED_AT + 3 * BATCH + 7;
        std::fs::write(&path, written(lines)).unwrap();
        let read = async |request| {
            let (mut records, mut batches) = (opened(&path, request).await, Vec::new());
            while let Some(batch) = records.recv().await {
                batches.extend(batch.into_iter().map(|record| record.text));
            }
            batches
        };
        let all: Vec<String> = (0..lines).map(|n| format!("line {n}\n")).collect();
        assert!(read(request()).await == all);
        let second = |n: usize| Some(Timestamp(n as u64 * 2_000_000_000));
        // More than one batch has nothing that is wanted.
        let since = LOOKED_AT + 9;
        assert!(read(LogRequest { since: second(since), ..request() }).await == all[since..]);
        assert!(read(LogRequest { until: second(300), ..request() }).await == all[..=300]);
        assert!(read(LogRequest { stdout: false, ..request() }).await.is_empty());
    }
}
