//! What the tasks tell the person in front of them.
#![allow(clippy::print_stderr, reason = "this is the one place of xtask that talks")]

/// One step that begins.
pub fn step(text: &str) {
    eprintln!("==> {text}");
}

/// Why the task ends without its work done.
pub fn error(text: &str) {
    eprintln!("error: {text}");
}
