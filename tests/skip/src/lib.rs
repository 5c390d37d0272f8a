//! Skipping with a reason, which libtest has no word for. It is for tests of every room, and in none's product.

use std::fs::OpenOptions;
use std::io::Write;

/// Ends the test here, and says why on the terminal and in the count at the end of `cargo xtask test`.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::note!($($reason)*);
        return;
    }};
}

/// Says why a test ends without its work done, for those who return by themselves.
#[macro_export]
macro_rules! note {
    ($($reason:tt)*) => { $crate::write(module_path!(), line!(), &format!($($reason)*)) };
}

/// Writes one line for a skipped test to standard error and to the file of `PINNACE_SKIPS`.
pub fn write(module: &str, line: u32, reason: &str) {
    let text = format!("skipped {module}:{line}: {reason}\n");
    // Straight to the descriptor: libtest captures what the print macros say.
    let _ = std::io::stderr().write_all(text.as_bytes());
    if let Some(path) = std::env::var_os("PINNACE_SKIPS") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).expect("PINNACE_SKIPS can be written");
    }
}
