//! QEMU's monitor: why a machine ended, and the two requests we have of it (QEMU's docs/interop/qmp-spec).

use serde_json::{Value, json};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// An open monitor.
pub struct Qmp {
    write: OwnedWriteHalf,
    ending: Arc<Mutex<Option<String>>>,
}

impl Qmp {
    /// Greets QEMU and listens to its events from now on.
    pub async fn greet(stream: UnixStream) -> io::Result<Qmp> {
        let (read, write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        lines.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let ending = Arc::new(Mutex::new(None));
        let mut qmp = Qmp { write, ending: ending.clone() };
        qmp.execute("qmp_capabilities").await?;
        tokio::spawn(listen(lines, ending));
        Ok(qmp)
    }

    /// Presses the machine's power button.
    pub async fn power_button(&mut self) -> io::Result<()> {
        self.execute("system_powerdown").await
    }

    /// Ends QEMU.
    pub async fn quit(&mut self) -> io::Result<()> {
        self.execute("quit").await
    }

    /// Why the machine shut down, in QEMU's word (ShutdownCause), once it has.
    pub fn ending(&self) -> Option<String> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn execute(&mut self, command: &str) -> io::Result<()> {
        let line = format!("{}\n", json!({ "execute": command }));
        self.write.write_all(line.as_bytes()).await
    }
}

async fn listen(mut lines: Lines<BufReader<OwnedReadHalf>>, ending: Arc<Mutex<Option<String>>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        if let Some(event) = message["event"].as_str() {
            tracing::debug!("qemu: {event} {}", message["data"]);
        }
        if message["event"] == "SHUTDOWN" {
            let reason = message["data"]["reason"].as_str().map(str::to_owned);
            *ending.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        }
    }
}
