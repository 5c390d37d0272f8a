//! Reading what a container has printed.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::container::Container;
use super::error::ContainerError;
use model::timestamp::Timestamp;
use process::Stream;
use process::log::{Reader, Record};

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

/// Records read ahead of a slow client.
const AHEAD: usize = 64;

impl Container {
    /// The records that `request` names, in order. The channel ends with the log, or with the run for `follow`.
    ///
    /// # Errors
    /// Neither stream is asked for, or the log driver cannot be read.
    pub fn logs(self: &Arc<Self>, request: LogRequest) -> Result<mpsc::Receiver<Record>, ContainerError> {
        if !request.stdout && !request.stderr {
            let text = "must specify at least one of 'stdout' or 'stderr'";
            return Err(ContainerError::Invalid(text.to_owned()));
        }
        let place = self.log_place().ok_or_else(|| {
            ContainerError::NotSupported("configured logging driver does not support reading".to_owned())
        })?;
        let reader =
            Reader::open(place, request.tail).map_err(ContainerError::machine("open the container's log"))?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let container = self.clone();
        tokio::spawn(async move { follow(container, reader, request, sender).await });
        Ok(receiver)
    }
}

async fn follow(
    container: Arc<Container>,
    mut reader: Reader,
    request: LogRequest,
    sender: mpsc::Sender<Record>,
) {
    let mut appended = container.appended.subscribe();
    let mut states = container.watch();
    loop {
        appended.mark_unchanged();
        // Read before the log's end is looked for: what was written before the run ended is then seen.
        let running = states.borrow_and_update().state.running().is_some();
        if !deliver(&mut reader, &request, &sender).await {
            return;
        }
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

/// Sends all there is; false when nobody wants more.
async fn deliver(reader: &mut Reader, request: &LogRequest, sender: &mpsc::Sender<Record>) -> bool {
    loop {
        let record = match reader.next_record() {
            Ok(Some(record)) => record,
            Ok(None) => return true,
            Err(error) => {
                tracing::warn!(%error, "cannot read a container's log");
                return false;
            }
        };
        if request.until.is_some_and(|until| record.time > until) {
            return false;
        }
        let wanted = match record.stream {
            Stream::Stdout => request.stdout,
            Stream::Stderr => request.stderr,
        };
        let early = request.since.is_some_and(|since| record.time < since);
        if wanted && !early && sender.send(record).await.is_err() {
            return false;
        }
    }
}
