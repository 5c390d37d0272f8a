//! Waiting for a container.

use std::sync::Arc;

use super::container::Container;
use super::state::State;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// No run goes on, and none waits to begin by itself; true at once for one that was never started.
    #[default]
    NotRunning,
    /// The end of a run, even where none goes on now.
    NextExit,
    /// It is gone.
    Removed,
}

/// Binds the wait at once; the future it returns tells the exit code. So an exit after the call is never missed,
/// however late the future is polled.
pub(super) fn bind(
    container: &Arc<Container>,
    condition: WaitCondition,
) -> impl Future<Output = i32> + Send + 'static {
    let mut states = container.watch();
    let exits = states.borrow().exits;
    async move {
        let met = states
            .wait_for(|snapshot| match condition {
                WaitCondition::NotRunning => !snapshot.state.is_active() || snapshot.exits > exits,
                WaitCondition::NextExit => {
                    snapshot.exits > exits || matches!(snapshot.state, State::Removed(_))
                }
                WaitCondition::Removed => matches!(snapshot.state, State::Removed(_)),
            })
            .await;
        // The sender lives as long as the handle; without it the container is gone.
        let met = met.map(|snapshot| snapshot.clone()).unwrap_or_else(|_| states.borrow().clone());
        match met {
            snapshot if snapshot.exits > exits => snapshot.last_exit,
            snapshot => snapshot.state.ended().map_or(0, |ended| ended.exit_code),
        }
    }
}

impl Container {
    /// Waits from now on: see [`WaitCondition`]. The future gives the exit code.
    pub fn wait(self: &Arc<Self>, condition: WaitCondition) -> impl Future<Output = i32> + Send + 'static {
        bind(self, condition)
    }
}
