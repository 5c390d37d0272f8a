//! Lines on the console. Each is one write(2), so that lines of several processes do not mix; a console that
//! cannot be written to is nobody's fault and is not told.

use std::error::Error;
use std::fmt::{Arguments, Write};

/// Writes a line after the program's name.
macro_rules! say {
    ($($word:tt)*) => { $crate::messages::line(format_args!($($word)*)) };
}
pub(crate) use say;

/// See [`say`].
pub fn line(words: Arguments<'_>) {
    let mut text = String::with_capacity(120);
    let _ = writeln!(text, "pinnace-init: {words}");
    raw(text.as_bytes());
}

/// Writes bytes as they are.
pub fn raw(bytes: &[u8]) {
    let _ = rustix::io::write(rustix::stdio::stderr(), bytes);
}

/// The error and what caused it, on one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot mount {0}")]
    struct Outer(&'static str, #[source] std::io::Error);

    #[test]
    fn causes_are_told_on_the_same_line() {
        let error = Outer("/proc", std::io::Error::from_raw_os_error(1));
        assert_eq!(chain(&error), "cannot mount /proc: Operation not permitted (os error 1)");
    }
}
