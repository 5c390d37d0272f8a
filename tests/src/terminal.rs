//! A person at a terminal: a program on a pty.

use crate::outcome::wait;
use pty_process::Size;
use pty_process::blocking::{Command, Pty};
use std::io::{Read, Write};
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A program on a pty, what it showed so far, and a person who types.
pub struct Terminal {
    what: String,
    child: Child,
    keyboard: std::sync::Arc<Pty>,
    screen: Receiver<Vec<u8>>,
    shown: String,
    patience: Duration,
}

impl Terminal {
    /// Starts `program` on a new terminal of so many rows and columns.
    pub fn start(
        program: &str,
        args: &[String],
        env: &[(String, String)],
        size: (u16, u16),
        patience: Duration,
    ) -> Terminal {
        let (pty, pts) = pty_process::blocking::open().expect("a pty can be opened");
        pty.resize(Size::new(size.0, size.1)).expect("a pty can be resized");
        let what = format!("{program} {}", args.join(" "));
        let command = Command::new(program).args(args).envs(env.iter().cloned());
        let child = command.spawn(pts).unwrap_or_else(|error| panic!("{what}: {error}"));
        let keyboard = std::sync::Arc::new(pty);
        let screen = follow(keyboard.clone());
        Terminal { what, child, keyboard, screen, shown: String::new(), patience }
    }

    /// Types.
    pub fn types(&mut self, keys: &str) -> &mut Terminal {
        (&*self.keyboard).write_all(keys.as_bytes()).expect("the terminal takes keys");
        self
    }

    /// Makes the window so many rows and columns.
    pub fn resizes(&mut self, rows: u16, columns: u16) -> &mut Terminal {
        self.keyboard.resize(Size::new(rows, columns)).expect("a pty can be resized");
        self
    }

    /// Waits until `part` was shown after all that was waited for before.
    #[track_caller]
    pub fn shows(&mut self, part: &str) -> &mut Terminal {
        self.before(part);
        self
    }

    /// Waits for `part` and returns what was shown in front of it.
    #[track_caller]
    pub fn before(&mut self, part: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = self.shown.find(part) {
                let rest = self.shown.split_off(at + part.len());
                let mut before = std::mem::replace(&mut self.shown, rest);
                before.truncate(at);
                return before;
            }
            let left = self.patience.saturating_sub(start.elapsed());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{} ended without showing {part:?}; left: {:?}", self.what, self.shown)
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} does not show {part:?}; it shows {:?}", self.what, self.shown)
                }
            }
        }
    }

    /// Waits for the program's end, whatever its exit code.
    pub fn ends(mut self) {
        wait(&mut self.child, &self.what, self.patience);
    }

    /// Waits for the program's end; its exit code is this.
    #[track_caller]
    pub fn exits(mut self, code: i32) {
        let got = wait(&mut self.child, &self.what, self.patience);
        while let Ok(bytes) = self.screen.recv_timeout(Duration::from_millis(200)) {
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
        assert_eq!(got, code, "exit code of {}; it showed {:?}", self.what, self.shown);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(pty: std::sync::Arc<Pty>) -> Receiver<Vec<u8>> {
    let (sender, screen) = channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        // EIO is how a pty master tells that the other side is closed.
        while let Ok(n) = (&*pty).read(&mut bytes) {
            if n == 0 || sender.send(bytes[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    screen
}
