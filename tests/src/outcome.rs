//! Running a program to its end, and saying what is expected of it.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A program with its arguments, its input and the time after which it counts as hung.
pub struct Program {
    command: Command,
    input: Option<Vec<u8>>,
    patience: Duration,
}

/// How a program ended.
pub struct Outcome {
    what: String,
    /// Exit code, or 128 + signal as shells tell it.
    pub code: i32,
    /// All of standard output.
    pub stdout: Vec<u8>,
    /// All of standard error.
    pub stderr: Vec<u8>,
    /// From start to end.
    pub took: Duration,
}

impl Program {
    /// `program` with nothing on its standard input.
    pub fn new(program: impl AsRef<OsStr>, patience: Duration) -> Program {
        Program { command: Command::new(program), input: None, patience }
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Program {
        self.command.args(args);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Program {
        self.command.env(key, value);
        self
    }

    /// Gives it `input` to read.
    pub fn fed(mut self, input: impl Into<Vec<u8>>) -> Program {
        self.input = Some(input.into());
        self
    }

    /// Raises or lowers the time after which it counts as hung.
    pub fn within(mut self, seconds: u64) -> Program {
        self.patience = Duration::from_secs(seconds);
        self
    }

    /// Hands out the command, for those who start it themselves.
    pub(crate) fn into_command(self) -> Command {
        self.command
    }

    /// Runs it to its end; panics when it hangs.
    pub fn run(mut self) -> Outcome {
        let what = format!("{:?}", self.command);
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        let feeder = self.input.zip(child.stdin.take()).map(|(input, mut pipe)| {
            // A program may end without reading all of its input: that is its right.
            std::thread::spawn(move || drop(pipe.write_all(&input)))
        });
        let stdout = collect(child.stdout.take().expect("stdout is piped"));
        let stderr = collect(child.stderr.take().expect("stderr is piped"));
        let code = wait(&mut child, &what, self.patience);
        let took = start.elapsed();
        if let Some(feeder) = feeder {
            feeder.join().expect("feeding does not panic");
        }
        let [stdout, stderr] = [stdout, stderr].map(|thread| thread.join().expect("reading does not panic"));
        Outcome { what, code, stdout, stderr, took }
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}

/// Waits for the end and tells the exit code as a shell would.
pub(crate) fn wait(child: &mut Child, what: &str, patience: Duration) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        }
        if start.elapsed() > patience {
            let _ = child.kill();
            panic!("{what} hangs: killed after {patience:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Outcome {
    /// Standard output is exactly this.
    #[track_caller]
    pub fn prints(self, expected: &str) -> Outcome {
        assert_eq!(String::from_utf8_lossy(&self.stdout), expected, "standard output of {self}");
        self
    }

    /// Standard output contains this.
    #[track_caller]
    pub fn mentions(self, part: &str) -> Outcome {
        assert!(self.text().contains(part), "{part:?} is not in the standard output of {self}");
        self
    }

    /// Standard output does not contain this.
    #[track_caller]
    pub fn never_mentions(self, part: &str) -> Outcome {
        assert!(!self.text().contains(part), "{part:?} is in the standard output of {self}");
        self
    }

    /// Standard error contains this.
    #[track_caller]
    pub fn says_on_stderr(self, part: &str) -> Outcome {
        let stderr = String::from_utf8_lossy(&self.stderr);
        assert!(stderr.contains(part), "{part:?} is not in the standard error of {self}");
        self
    }

    /// Standard error is empty.
    #[track_caller]
    pub fn quietly(self) -> Outcome {
        assert!(self.stderr.is_empty(), "no standard error expected of {self}");
        self
    }

    /// The exit code is this.
    #[track_caller]
    pub fn exits(self, code: i32) -> Outcome {
        assert_eq!(self.code, code, "exit code of {self}");
        self
    }

    /// The exit code is 0.
    #[track_caller]
    pub fn succeeds(self) -> Outcome {
        self.exits(0)
    }

    /// The exit code is not 0.
    #[track_caller]
    pub fn fails(self) -> Outcome {
        assert_ne!(self.code, 0, "failure expected of {self}");
        self
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as text without white space around it.
    pub fn word(&self) -> String {
        self.text().trim().to_owned()
    }

    /// Standard error as text without white space around it.
    pub fn error(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }

    /// Lines of standard output.
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.what)?;
        writeln!(f, "exit code {} after {:?}", self.code, self.took)?;
        writeln!(f, "--- stdout\n{}", shortened(&self.stdout))?;
        write!(f, "--- stderr\n{}", shortened(&self.stderr))
    }
}

/// Enough of an output to understand a failure, not eight megabytes of it.
fn shortened(bytes: &[u8]) -> String {
    const MOST: usize = 4000;
    let head = &bytes[..bytes.len().min(MOST)];
    let rest = bytes.len() - head.len();
    let text = String::from_utf8_lossy(head).into_owned();
    if rest == 0 { text } else { format!("{text}… and {rest} bytes more") }
}
