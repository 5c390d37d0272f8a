//! The guest's consoles: everything they say goes to a log of bounded size and to whoever follows.

use crate::log::BoundedLog;
use contract::console::{FIRST_INSTRUCTION, GAVE_UP};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{broadcast, watch};

/// Chunks a slow follower may be behind before it misses some.
const FOLLOW_BEHIND: usize = 256;
/// How much of the log's end explains a failure, in bytes.
const TAIL_BYTES: usize = 4096;
/// The last of a machine that ended is in its pipe, and its reader may be a moment behind.
const SETTLED_DEADLINE: Duration = Duration::from_millis(500);

/// Both consoles of one appliance.
#[derive(Clone)]
pub struct Consoles {
    /// The virtio console: kernel, `init` and engine.
    pub main: Console,
    /// The serial port: what came before, and the kernel's last words.
    pub serial: Console,
}

impl Consoles {
    /// Consoles that shall be logged in these files.
    pub fn new(main: &Path, serial: &Path) -> Consoles {
        Consoles { main: Console::new(main), serial: Console::new(serial) }
    }

    /// Begins new logs; those of the last time are moved aside. A boot that never began leaves them.
    pub fn begin_logs(&self) -> io::Result<()> {
        self.main.begin_log()?;
        self.serial.begin_log()
    }

    /// The last lines of what was said, for an error: the console's, or the serial port's when it is mute.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        let main = self.main.last_lines(count);
        if main.is_empty() { self.serial.last_lines(count) } else { main }
    }
}

/// One console; clones are the same.
#[derive(Clone)]
pub struct Console {
    inner: Arc<Mutex<Inner>>,
    followers: broadcast::Sender<Vec<u8>>,
    first_instruction: Arc<watch::Sender<Option<Instant>>>,
    pumps: Arc<watch::Sender<u32>>,
}

struct Inner {
    path: PathBuf,
    log: Option<BoundedLog>,
    tail: Vec<u8>,
}

impl Console {
    fn new(path: &Path) -> Console {
        let inner = Inner { path: path.to_owned(), log: None, tail: Vec::new() };
        Console {
            inner: Arc::new(Mutex::new(inner)),
            followers: broadcast::Sender::new(FOLLOW_BEHIND),
            first_instruction: Arc::new(watch::Sender::new(None)),
            pumps: Arc::default(),
        }
    }

    fn begin_log(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.log = Some(BoundedLog::begin(&inner.path)?);
        Ok(())
    }

    /// What is said from now on.
    pub fn follow(&self) -> broadcast::Receiver<Vec<u8>> {
        self.followers.subscribe()
    }

    /// When PID 1 said its first word in this boot.
    pub fn first_instruction(&self) -> Option<Instant> {
        *self.first_instruction.borrow()
    }

    /// A new boot begins.
    pub fn reboot(&self) {
        self.first_instruction.send_replace(None);
        self.lock().tail.clear();
    }

    /// Takes what a console says until it ends.
    pub async fn pump(self, mut from: impl AsyncRead + Unpin) {
        self.pumps.send_modify(|pumps| *pumps += 1);
        let mut chunk = vec![0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            self.say(&chunk[..read]);
        }
        self.pumps.send_modify(|pumps| *pumps -= 1);
    }

    /// Waits, not for long, until all that a machine said before its end has been read.
    pub async fn settled(&self) {
        let mut pumps = self.pumps.subscribe();
        let _ = tokio::time::timeout(SETTLED_DEADLINE, pumps.wait_for(|pumps| *pumps == 0)).await;
    }

    /// Why PID 1 gave up, if that is among the last things that were said.
    pub fn gave_up(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.lock().tail).into_owned();
        let last = text.lines().rev().find_map(|line| line.strip_prefix(GAVE_UP));
        last.map(|reason| reason.trim_end().to_owned())
    }

    fn say(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        if let Err(error) = inner.write(bytes) {
            tracing::warn!("cannot write {}: {error}", inner.path.display());
        }
        if self.first_instruction().is_none() && contains(&inner.tail, FIRST_INSTRUCTION.as_bytes()) {
            self.first_instruction.send_replace(Some(Instant::now()));
        }
        // Nobody follows most of the time.
        let _ = self.followers.send(bytes.to_vec());
    }

    fn last_lines(&self, count: usize) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.lock().tail).into_owned();
        let lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
        let said: Vec<String> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        said[said.len().saturating_sub(count)..].to_vec()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tail.extend(bytes);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        self.log.as_mut().map_or(Ok(()), |log| log.write_all(bytes))
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_is_logged_followed_and_understood() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        std::fs::write(&path, "before").unwrap();
        let console = Console::new(&path);
        console.begin_log().unwrap();
        let mut follower = console.follow();
        assert!(console.first_instruction().is_none());
        console.clone().pump(format!("x\n{FIRST_INSTRUCTION}\n\nlast\n").as_bytes()).await;
        assert!(console.first_instruction().is_some());
        assert!(follower.recv().await.unwrap().ends_with(b"last\n"));
        assert_eq!(console.last_lines(1), ["last"]);
        assert_eq!(console.gave_up(), None);
        console.clone().pump(format!("{GAVE_UP}no disk\r\nmore\n").as_bytes()).await;
        console.settled().await;
        assert_eq!(console.gave_up().as_deref(), Some("no disk"));
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("x\n"));
        assert_eq!(std::fs::read_to_string(folder.path().join("console.log.1")).unwrap(), "before");
    }
}
