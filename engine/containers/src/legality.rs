//! Which request is legal in which state: pure, so that it is tested by exhaustion.

use super::error::ContainerError;
use super::state::{Running, State};

/// A request to a container's driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Begin a run.
    Start,
    /// Send a signal.
    Signal,
    /// Freeze.
    Pause,
    /// Thaw.
    Unpause,
    /// Take away.
    Remove,
    /// Run a further process.
    Exec,
    /// Change the terminal's size.
    Resize,
}

/// What a driver does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Do it.
    Accept,
    /// Nothing to do.
    AlreadySo,
    /// Refused with Docker's words.
    Deny(String),
}

/// Decides. `id` is for the words only.
pub fn judge(state: &State, verb: Verb, id: &str) -> Verdict {
    let paused = matches!(state, State::Running(Running { paused: true, .. }));
    let deny = |text: String| Verdict::Deny(text);
    match (state, verb) {
        (State::Removing(_) | State::Removed(_), Verb::Remove) => {
            deny(format!("removal of container {id} is already in progress"))
        }
        (State::Removing(_) | State::Removed(_), Verb::Start) => {
            deny("container is marked for removal and cannot be started".to_owned())
        }
        (State::Damaged(ended), verb) if verb != Verb::Remove => {
            deny(format!("container {id} is damaged and can only be removed: {}", ended.error))
        }
        (State::Running(_), Verb::Start) if paused => {
            deny("cannot start a paused container, try unpause instead".to_owned())
        }
        (State::Running(_) | State::Restarting(_), Verb::Start) => Verdict::AlreadySo,
        (State::Running(_) | State::Restarting(_), Verb::Remove) => deny(format!(
            "cannot remove container \"{id}\": container is {}: stop the container before removing or force remove",
            state.status()
        )),
        (State::Running(_), Verb::Pause) if paused => deny(format!("container {id} is already paused")),
        (State::Running(_), Verb::Unpause) if !paused => deny(format!("Container {id} is not paused")),
        (State::Running(_), Verb::Exec) if paused => {
            deny(format!("container {id} is paused, unpause the container before exec"))
        }
        (State::Running(_), _) | (State::Restarting(_), Verb::Signal) => Verdict::Accept,
        (State::Restarting(_), Verb::Pause | Verb::Exec) => {
            deny(format!("container {id} is restarting, wait until the container is running"))
        }
        (_, Verb::Start | Verb::Remove) => Verdict::Accept,
        (_, Verb::Unpause) => deny(format!("Container {id} is not paused")),
        (_, Verb::Signal | Verb::Pause | Verb::Exec | Verb::Resize) => {
            deny(format!("container {id} is not running"))
        }
    }
}

/// [`judge`] as a result.
pub(super) fn permit(state: &State, verb: Verb, id: &str) -> Result<(), ContainerError> {
    match judge(state, verb, id) {
        Verdict::Accept => Ok(()),
        Verdict::AlreadySo => Err(ContainerError::AlreadySo),
        // An unpause that makes no sense is dockerd's own failure to it.
        Verdict::Deny(text) if verb == Verb::Unpause => Err(ContainerError::Unpause(text)),
        Verdict::Deny(text) => Err(ContainerError::Conflict(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Ended;
    use super::*;
    use model::timestamp::Timestamp;

    fn states() -> Vec<State> {
        let running = |paused| State::Running(Running { pid: 1, started_at: Timestamp(1), paused });
        let ended = Ended::default();
        vec![
            State::Created(ended.clone()),
            running(false),
            running(true),
            State::Exited(ended.clone()),
            State::Restarting(ended.clone()),
            State::Damaged(ended.clone()),
            State::Removing(ended.clone()),
            State::Removed(ended),
        ]
    }

    #[test]
    fn every_pair_is_decided() {
        // created, running, paused, exited, restarting, damaged, removing, removed; a accept, s already so, d deny.
        let check = |verb: Verb, expected: &str| {
            let got: String = states()
                .iter()
                .map(|state| match judge(state, verb, "x") {
                    Verdict::Accept => 'a',
                    Verdict::AlreadySo => 's',
                    Verdict::Deny(_) => 'd',
                })
                .collect();
            assert_eq!(got, expected, "{verb:?}");
        };
        check(Verb::Start, "asdasddd");
        check(Verb::Signal, "daadaddd");
        check(Verb::Pause, "dadddddd");
        check(Verb::Unpause, "ddaddddd");
        check(Verb::Remove, "addadadd");
        check(Verb::Exec, "dadddddd");
        check(Verb::Resize, "daaddddd");
    }
}
