//! QEMU's monitor (QEMU's docs/interop/qmp-spec): requests, whose answers are told apart by their numbers, and events, which
//! come in between.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};

/// QEMU answers in its main loop, which nothing of ours holds up for long.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// What QEMU said of itself so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Why the machine shut down, in QEMU's word (ShutdownCause), once it has.
    pub ending: Option<String>,
    /// The machine's processors stand still.
    pub stopped: bool,
}

/// An open monitor; clones are the same.
#[derive(Clone)]
pub struct Qmp {
    write: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    asked: Asked,
    next_id: Arc<AtomicU64>,
    heard: watch::Receiver<Heard>,
}

/// Requests without an answer yet; nothing once the monitor is closed.
type Asked = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Value>>>>>;

impl Qmp {
    /// Greets QEMU and listens to it from now on.
    pub async fn greet(stream: UnixStream) -> io::Result<Qmp> {
        let (read, write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        lines.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let (says, heard) = watch::channel(Heard::default());
        let asked = Arc::new(Mutex::new(Some(HashMap::new())));
        tokio::spawn(listen(lines, asked.clone(), says));
        let write = Arc::new(tokio::sync::Mutex::new(write));
        let qmp = Qmp { write, asked, next_id: Arc::default(), heard };
        qmp.ask("qmp_capabilities").await?;
        Ok(qmp)
    }

    /// Presses the machine's power button.
    pub async fn power_button(&self) -> io::Result<()> {
        self.ask("system_powerdown").await.map(drop)
    }

    /// Lets a machine that stands still go on.
    pub async fn go_on(&self) -> io::Result<()> {
        self.ask("cont").await.map(drop)
    }

    /// Why the machine stands still or that it runs, in QEMU's word (RunState).
    pub async fn run_state(&self) -> io::Result<String> {
        let answer = self.ask("query-status").await?;
        Ok(answer["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Ends QEMU.
    pub async fn quit(&self) -> io::Result<()> {
        self.ask("quit").await.map(drop)
    }

    /// What QEMU says of itself, as it changes.
    pub fn heard(&self) -> watch::Receiver<Heard> {
        self.heard.clone()
    }

    async fn ask(&self, command: &str) -> io::Result<Value> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        lock(&self.asked).as_mut().ok_or(io::ErrorKind::NotConnected)?.insert(id, answer);
        let line = format!("{}\n", json!({ "execute": command, "id": id }));
        let exchange = async {
            self.write.lock().await.write_all(line.as_bytes()).await?;
            answered.await.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))
        };
        let mut message = tokio::time::timeout(ANSWER_DEADLINE, exchange).await??;
        match message["error"]["desc"].as_str() {
            Some(refusal) => Err(io::Error::other(refusal.to_owned())),
            None => Ok(message["return"].take()),
        }
    }
}

async fn listen(mut lines: Lines<BufReader<OwnedReadHalf>>, asked: Asked, says: watch::Sender<Heard>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        if let Some(event) = message["event"].as_str() {
            hear(event, &message["data"], &says);
        } else if let Some(id) = message["id"].as_u64()
            && let Some(answer) = lock(&asked).as_mut().and_then(|asked| asked.remove(&id))
        {
            // Who asked may have waited long enough.
            let _ = answer.send(message);
        }
    }
    *lock(&asked) = None;
}

fn hear(event: &str, data: &Value, says: &watch::Sender<Heard>) {
    match event {
        "STOP" => says.send_modify(|heard| heard.stopped = true),
        "RESUME" => says.send_modify(|heard| heard.stopped = false),
        "SHUTDOWN" => says.send_modify(|heard| heard.ending = data["reason"].as_str().map(str::to_owned)),
        "BLOCK_IO_ERROR" => tracing::warn!("the data disk: {} failed: {}", data["operation"], data["reason"]),
        _ => tracing::debug!("qemu: {event} {data}"),
    }
}

fn lock(asked: &Asked) -> std::sync::MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Value>>>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A monitor whose QEMU is the test, after its greeting.
    async fn greeted() -> (Qmp, OwnedWriteHalf, Lines<BufReader<OwnedReadHalf>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (read, mut write) = theirs.into_split();
        let mut asked = BufReader::new(read).lines();
        let greet = tokio::spawn(Qmp::greet(ours));
        write.write_all(b"{\"QMP\": {}}\n").await.unwrap();
        assert!(asked.next_line().await.unwrap().unwrap().contains("qmp_capabilities"));
        write.write_all(b"{\"return\": {}, \"id\": 0}\n").await.unwrap();
        (greet.await.unwrap().unwrap(), write, asked)
    }

    #[tokio::test]
    async fn answers_find_their_questions_between_events() {
        let (qmp, mut write, mut asked) = greeted().await;
        let (first, second) = (qmp.clone(), qmp.clone());
        let first = tokio::spawn(async move { first.run_state().await });
        asked.next_line().await.unwrap();
        let second = tokio::spawn(async move { second.go_on().await });
        asked.next_line().await.unwrap();
        let says = "{\"event\": \"STOP\"}\n\
             {\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 2}\n\
             {\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-reset\"}}\n\
             {\"return\": {\"status\": \"io-error\"}, \"id\": 1}\n";
        write.write_all(says.as_bytes()).await.unwrap();
        assert_eq!(first.await.unwrap().unwrap(), "io-error");
        assert_eq!(second.await.unwrap().unwrap_err().to_string(), "no");
        let want = Heard { ending: Some("guest-reset".to_owned()), stopped: true };
        assert_eq!(*qmp.heard().borrow(), want);
    }

    #[tokio::test]
    async fn a_closed_monitor_is_no_wait() {
        let (qmp, write, asked) = greeted().await;
        let waiting = qmp.clone();
        let waiting = tokio::spawn(async move { waiting.quit().await });
        drop((write, asked));
        assert!(waiting.await.unwrap().is_err());
        assert!(qmp.go_on().await.is_err());
    }
}
