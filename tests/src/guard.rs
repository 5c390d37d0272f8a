//! Tearing down what a test run started, also when it is killed.

use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Runs a shell command when this process ends, however it ends: a small shell of its own process group reads
/// from a pipe that only this process holds, and wakes up when the pipe closes.
pub struct Guard {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// `script` runs in the background now, `cleanup` at the end; both see `words` as `$1`, `$2` …
    pub fn new(script: &str, cleanup: &str, words: &[&str]) -> Guard {
        let whole = format!("{script}\ncat >/dev/null\n{cleanup}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &whole, "guard"]).args(words).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = shell.spawn().expect("sh is there");
        let pipe = child.stdin.take();
        Guard { child, pipe }
    }

    /// Runs the cleanup now and waits for it.
    pub fn end(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        drop(self.pipe.take());
        let _ = self.child.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.finish();
    }
}
