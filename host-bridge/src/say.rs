//! What `pinnace` tells the person in front of it. Results go to stdout, the rest to stderr.

use std::io::{self, IsTerminal, Write};

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

/// A step that takes a while: one line that counts on a terminal, one plain line elsewhere.
pub struct Progress {
    text: String,
    since: std::time::Instant,
    live: bool,
}

impl Progress {
    /// Begins a step.
    pub fn begin(text: &str) -> Progress {
        let live = io::stderr().is_terminal();
        if !live {
            note(text);
        }
        Progress { text: text.to_owned(), since: std::time::Instant::now(), live }
    }

    /// Counts on; called a few times a second.
    pub fn tick(&self) {
        if self.live {
            let _ =
                write!(io::stderr().lock(), "\r{} {:.1} s ", self.text, self.since.elapsed().as_secs_f32());
        }
    }

    /// Goes on to another step.
    pub fn step(&mut self, text: &str) {
        if self.text != text {
            self.end();
            *self = Progress::begin(text);
        }
    }

    /// Ends the line.
    pub fn end(&self) {
        if self.live {
            let _ =
                writeln!(io::stderr().lock(), "\r{} {:.1} s", self.text, self.since.elapsed().as_secs_f32());
        }
    }
}
