//! Lines of the console that programs read.

/// What `init` prints before anything else; a boot's time to PID 1 ends with it.
pub const FIRST_INSTRUCTION: &str = "pinnace-init: first instruction";

/// Begins the line in which `init` says why it gives up. A host that could not be told on the control line finds it here.
pub const GAVE_UP: &str = "pinnace-init: gave up: ";
