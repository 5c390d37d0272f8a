//! What the tasks tell the person in front of them.
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "this is the one place of xtask that talks")]

/// One step that begins.
pub fn step(text: &str) {
    eprintln!("==> {text}");
}

/// One finding among others.
pub fn note(text: &str) {
    eprintln!("{text}");
}

/// A line that a tool said.
pub fn output(text: &str) {
    println!("{text}");
}

/// Why the task ends without its work done.
pub fn error(text: &str) {
    eprintln!("error: {text}");
}
