//! Brings what the spool holds into the log, record by record.

use std::sync::Arc;

use tokio::sync::watch;

use super::log::{Cut, LogFile};
use super::spool::{Spool, Stream};

/// The only writer of a run's log.
pub(super) struct Scribe {
    /// Absent only while a worker writes.
    desk: Option<Box<Desk>>,
}

/// What writing takes.
struct Desk {
    id: String,
    spool: Spool,
    log: Option<LogFile>,
    /// Counts appends.
    appended: Arc<watch::Sender<u64>>,
    /// Of the spool, not logged yet.
    pending: Vec<u8>,
    /// For the log's next append.
    records: Vec<u8>,
}

impl Scribe {
    pub fn new(id: String, spool: Spool, log: Option<LogFile>, appended: Arc<watch::Sender<u64>>) -> Scribe {
        let desk = Desk { id, spool, log, appended, pending: Vec::new(), records: Vec::new() };
        Scribe { desk: Some(Box::new(desk)) }
    }

    fn desk(&mut self) -> &mut Desk {
        self.desk.as_mut().expect("it is given back before the worker's end is told")
    }

    pub fn spool(&mut self) -> &mut Spool {
        &mut self.desk().spool
    }

    /// Brings the complete lines of `stream` into the log; with `finish` what is left of a line, too. A worker does it. Not to
    /// be dropped before it is done: the spool would be lost.
    pub async fn write(&mut self, stream: Stream, finish: bool) {
        let Some(mut desk) = self.desk.take() else { return };
        if !desk.read(stream) {
            // Nothing is left of it.
        } else if desk.log.is_none() {
            desk.write(stream, finish);
        } else {
            let written = tokio::task::spawn_blocking(move || {
                desk.write(stream, finish);
                desk
            });
            match written.await {
                Ok(back) => desk = back,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        self.desk = Some(desk);
    }

    /// Removes the spool: all was logged. Those who follow the log are woken once more.
    pub fn close(mut self) {
        if let Some(desk) = self.desk.take() {
            desk.spool.remove();
            desk.appended.send_modify(|count| *count += 1);
        }
    }
}

impl Desk {
    /// Reads what is to be written; false where that is nothing.
    fn read(&mut self, stream: Stream) -> bool {
        self.spool.pending(stream, &mut self.pending).is_ok() && !self.pending.is_empty()
    }

    /// Writes what was read. A log that cannot be written (disk full) loses the lines, as the container must not stop for it;
    /// the loss is told. Blocks on the disk.
    fn write(&mut self, stream: Stream, finish: bool) {
        let Some(log) = &mut self.log else {
            let _ = self.spool.take(stream, self.pending.len() as u64, 0);
            let _ = self.spool.done(stream);
            return;
        };
        let mut rest = &self.pending[..];
        loop {
            if log.room(self.spool.log_length()) == 0 {
                begin_anew(&mut self.spool, log, &self.id);
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
                Ok(()) => self.appended.send_modify(|count| *count += 1),
                Err(error) => {
                    tracing::error!(process = %self.id, %error, "cannot write the log, output is lost");
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
        tracing::warn!(process = %id, %error, "cannot begin a new log file, the full one grows");
        let _ = spool.take(Stream::Stdout, 0, full);
    }
}
