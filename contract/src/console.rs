//! The one line of the console that programs read.

/// What `init` prints before anything else; a boot's time to PID 1 ends with it.
pub const FIRST_INSTRUCTION: &str = "pinnace-init: first instruction";
