//! A machine that stands still is told of: whoever asks hears why, and when it goes on.

use super::shared::Shared;
use crate::state::{Phase, State};
use std::sync::Arc;
use tokio::sync::watch;

/// Publishes why the machine stands still, as that changes. Ends with the machine.
pub async fn publish(shared: Arc<Shared>, mut pauses: watch::Receiver<Option<String>>) {
    while pauses.changed().await.is_ok() {
        let reason = pauses.borrow_and_update().clone();
        shared.publish(|state| apply(state, reason));
    }
}

/// One that powers off keeps doing so, and only its reason tells why that takes so long.
fn apply(state: &mut State, reason: Option<String>) {
    state.state = match (state.state, &reason) {
        (Phase::Booting | Phase::Up, Some(_)) => Phase::Paused,
        (Phase::Paused, None) if state.first_answer_millis.is_some() => Phase::Up,
        (Phase::Paused, None) => Phase::Booting,
        (phase, _) => phase,
    };
    state.reason = reason;
}
