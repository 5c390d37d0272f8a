//! What the bridge's tasks know of one another.

use super::forward::Gate;
use super::line::Line;
use crate::backend::Link;
use crate::console::Consoles;
use crate::place::Place;
use crate::state::State;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What `up` hears while it waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A step begins.
    Step(String),
    /// Something the person should know.
    Note(String),
    /// The API answers.
    Ready(Box<State>),
    /// It will not.
    Failed {
        /// One line.
        error: String,
        /// The last the guest said.
        console: Vec<String>,
    },
}

/// A wish to end the appliance. A second one brings the end nearer, never puts it off.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// How long the guest may take to power off.
    pub grace: Duration,
}

/// See the module.
pub struct Shared {
    /// The guest's consoles.
    pub consoles: Consoles,
    place: Place,
    state: Mutex<State>,
    gate: watch::Sender<Gate>,
    line: Mutex<Option<Arc<Line>>>,
    stops: mpsc::UnboundedSender<Stop>,
    over: watch::Sender<Option<Over>>,
}

/// How long the bridge stays for those who were told of the end and pass it on.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// Waits for the end.
pub struct Waiter(watch::Receiver<Option<Over>>);

impl Waiter {
    /// Waits until all is over.
    pub async fn over(&mut self) -> Over {
        let seen = self.0.wait_for(Option::is_some).await.ok().and_then(|over| over.clone());
        seen.unwrap_or(Over { complaint: None })
    }
}

/// All is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// What was not in order about it, for a person.
    pub complaint: Option<String>,
}

impl Shared {
    /// What a bridge begins with, and where wishes to end it arrive.
    pub fn new(place: Place, consoles: Consoles, state: State) -> (Shared, mpsc::UnboundedReceiver<Stop>) {
        let (stops, wishes) = mpsc::unbounded_channel();
        let shared = Shared {
            consoles,
            place,
            state: Mutex::new(state),
            gate: watch::Sender::new(Gate::Booting),
            line: Mutex::new(None),
            stops,
            over: watch::Sender::new(None),
        };
        (shared, wishes)
    }

    /// The state as it is.
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    /// Changes the state and publishes it.
    pub fn publish(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        if let Err(error) = state.save(&self.place) {
            tracing::warn!("cannot write {}: {error}", self.place.state_file().display());
        }
    }

    /// Whether connections may go to the guest, as it changes.
    pub fn gate(&self) -> watch::Receiver<Gate> {
        self.gate.subscribe()
    }

    /// Lets connections through, holds them, or ends them.
    pub fn set_gate(&self, gate: Gate) {
        self.gate.send_replace(gate);
    }

    /// The way to a guest that answers.
    pub fn link(&self) -> Option<Arc<dyn Link>> {
        match &*self.gate.borrow() {
            Gate::Open(link) => Some(link.clone()),
            Gate::Booting | Gate::Closed => None,
        }
    }

    /// The control line of the present boot.
    pub fn line(&self) -> Option<Arc<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A boot begins, or is over.
    pub fn set_line(&self, line: Option<Arc<Line>>) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }

    /// Wishes the end.
    pub fn stop(&self, stop: Stop) {
        // Nobody listens once the end has begun.
        let _ = self.stops.send(stop);
    }

    /// Tells those who wait that all is over.
    pub fn end(&self, over: Over) {
        self.over.send_replace(Some(over));
    }

    /// A place among those who wait for the end. Whoever has one is waited for until they drop it.
    pub fn waiter(&self) -> Waiter {
        Waiter(self.over.subscribe())
    }

    /// Waits until those who waited for the end have passed it on, or do not for a second.
    pub async fn all_told(&self) {
        let _ = tokio::time::timeout(TOLD_WITHIN, self.over.closed()).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
