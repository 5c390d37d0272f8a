//! The states of a container and the published snapshot of one.

use serde::{Deserialize, Serialize};

use model::timestamp::Timestamp;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ended {
    /// As a shell would tell it: the exit status, or 128 and the signal's number.
    pub exit_code: i32,
    /// Start of the run, or never.
    pub started_at: Timestamp,
    /// Its end, or never.
    pub finished_at: Timestamp,
    /// Why it could not be started, or empty.
    pub error: String,
    /// The kernel killed a process inside for want of memory.
    pub oom_killed: bool,
}

/// A run that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The first process, in PID 1's namespace.
    pub pid: u32,
    /// When it was started.
    pub started_at: Timestamp,
    /// Its processes are frozen.
    pub paused: bool,
}

/// Where a container is in its life; drawn in [`super`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Never started, or the start failed (then with its error).
    Created(Ended),
    /// Its first process runs.
    Running(Running),
    /// It ran.
    Exited(Ended),
    /// It ran, and waits to be started again.
    Restarting(Ended),
    /// What it shall be cannot be read, and its error says why. It can only be looked at and removed.
    Damaged(Ended),
    /// It is being removed.
    Removing(Ended),
    /// It is gone; only those who still hold the handle see this.
    Removed(Ended),
}

impl State {
    /// Docker's word.
    pub fn status(&self) -> &'static str {
        match self {
            State::Created(_) => "created",
            State::Running(Running { paused: true, .. }) => "paused",
            State::Running(_) => "running",
            State::Exited(_) => "exited",
            State::Restarting(_) => "restarting",
            State::Damaged(_) => "dead",
            State::Removing(_) | State::Removed(_) => "removing",
        }
    }

    /// The run that goes on.
    pub fn running(&self) -> Option<&Running> {
        match self {
            State::Running(running) => Some(running),
            _ => None,
        }
    }

    /// Docker's "running": a run goes on, or will begin by itself.
    pub fn is_active(&self) -> bool {
        matches!(self, State::Running(_) | State::Restarting(_))
    }

    /// The last run's end, where no run goes on.
    pub fn ended(&self) -> Option<&Ended> {
        match self {
            State::Created(e)
            | State::Exited(e)
            | State::Restarting(e)
            | State::Damaged(e)
            | State::Removing(e)
            | State::Removed(e) => Some(e),
            State::Running(_) => None,
        }
    }
}

/// A numbered state: who waits compares the numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The state.
    pub state: State,
    /// How many runs have ended since the engine knows the container.
    pub exits: u64,
    /// Exit code of the newest of them.
    pub last_exit: i32,
}
