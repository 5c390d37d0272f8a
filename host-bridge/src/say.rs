//! What `pinnace` tells the person in front of it. Results go to stdout, the rest to stderr.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

/// A line of the result. A reader that went away is no error.
pub fn result(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Bytes of the result as they are; false when the reader went away.
pub fn bytes(bytes: &[u8]) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).is_ok()
}

/// A line about what goes on.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Why the command ends without its work done.
pub fn error(text: &str) {
    note(&format!("pinnace: {text}"));
}

/// Steps that take a while: one line that counts on a terminal, one plain line elsewhere.
#[derive(Default)]
pub struct Progress {
    step: Option<Step>,
}

struct Step {
    text: String,
    since: Instant,
}

impl Progress {
    /// Begins with a step.
    pub fn begin(text: &str) -> Progress {
        let mut progress = Progress::default();
        progress.step(text);
        progress
    }

    /// Goes on to another step.
    pub fn step(&mut self, text: &str) {
        self.end();
        if !live() {
            note(text);
        }
        self.step = Some(Step { text: text.to_owned(), since: Instant::now() });
    }

    /// Counts on; called a few times a second.
    pub fn tick(&self) {
        if let (Some(step), true) = (&self.step, live()) {
            let _ =
                write!(io::stderr().lock(), "\r{} {:.1} s ", step.text, step.since.elapsed().as_secs_f32());
        }
    }

    /// Ends the line.
    pub fn end(&mut self) {
        self.tick();
        if self.step.take().is_some() && live() {
            let _ = writeln!(io::stderr().lock());
        }
    }
}

fn live() -> bool {
    io::stderr().is_terminal()
}
