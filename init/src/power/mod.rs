//! Going down in order: who may ask for it, waiting for the engine, and the end of everything.

pub mod button;
mod down;
mod state;

pub use down::{down, give_up, set_policy};
pub use state::{AGAIN, Action, GRACE, Power};
