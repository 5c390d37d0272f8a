//! A program that runs beside the test.

use crate::outcome::{Program, wait};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A program that runs beside the test, its output read line by line.
pub struct Running {
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
    said: String,
    patience: Duration,
}

/// One line of output, with its newline where there was one.
enum Line {
    Out(String),
    Err(String),
}

impl Running {
    /// Starts it.
    pub fn start(program: Program, patience: Duration) -> Running {
        let mut command = program.into_command();
        let what = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        for_each_line(stdout, sender.clone(), Line::Out);
        for_each_line(stderr, sender, Line::Err);
        let stdin = child.stdin.take();
        Running { what, child, stdin, lines, said: String::new(), patience }
    }

    /// The next line of standard output, without its newline; panics at the end or when none comes.
    #[track_caller]
    pub fn next_line(&mut self) -> String {
        let what = self.what.clone();
        self.try_next_line()
            .unwrap_or_else(|| panic!("{what} ended where a line was expected; it said {:?}", self.said))
    }

    /// The next line of standard output, or nothing where it ended.
    #[track_caller]
    pub fn try_next_line(&mut self) -> Option<String> {
        let start = Instant::now();
        loop {
            let left = self.patience.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(Line::Out(line)) => return Some(line.trim_end_matches('\n').to_owned()),
                Ok(Line::Err(line)) => self.said.push_str(&line),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} printed no line; it said {:?}", self.what, self.said)
                }
            }
        }
    }

    /// Reads lines until one contains `part`, and returns it.
    #[track_caller]
    pub fn reads_until(&mut self, part: &str) -> String {
        loop {
            let line = self.next_line();
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Reads until a line of its standard error contains `part`; panics when it ends or says nothing before.
    #[track_caller]
    pub fn complains_until(&mut self, part: &str) {
        let start = Instant::now();
        while !self.said.contains(part) {
            let left = self.patience.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(Line::Err(line)) => self.said.push_str(&line),
                Ok(Line::Out(_)) => {}
                Err(_) => panic!("{} did not say {part:?}; it said {:?}", self.what, self.said),
            }
        }
    }

    /// Writes to its standard input.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input is still open");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("the program reads its input");
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let kill = Program::new("kill", self.patience).args(["-s", name, &self.child.id().to_string()]);
        kill.run().succeeds();
    }

    /// Whether a line of standard output comes within so many seconds.
    pub fn heard_within(&self, seconds: u64) -> bool {
        matches!(self.lines.recv_timeout(Duration::from_secs(seconds)), Ok(Line::Out(_)))
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) {
        let _ = self.child.kill();
    }

    /// Reads the rest of standard output; returns it with the exit code.
    #[track_caller]
    pub fn finish(mut self) -> (i32, Vec<String>) {
        self.close_stdin();
        let mut rest = Vec::new();
        while let Some(line) = self.try_next_line() {
            rest.push(line);
        }
        (wait(&mut self.child, &self.what, self.patience), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn for_each_line(
    from: impl Read + Send + 'static,
    to: std::sync::mpsc::Sender<Line>,
    make: impl Fn(String) -> Line + Send + 'static,
) {
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            if to.send(make(String::from_utf8_lossy(&line).into_owned())).is_err() {
                return;
            }
            line.clear();
        }
    });
}
