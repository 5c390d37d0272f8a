//! What happened, told to whoever listens: the last 256 events are kept, as Docker keeps them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use tokio::sync::broadcast;

use crate::timestamp::Timestamp;

/// How many past events a listener can ask for.
const KEPT: usize = 256;
/// How far a listener may fall behind before it loses events.
const QUEUE: usize = 1024;

/// The kind of thing an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// The engine.
    Daemon,
}

impl Subject {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Subject::Container => "container",
            Subject::Image => "image",
            Subject::Network => "network",
            Subject::Volume => "volume",
            Subject::Daemon => "daemon",
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub subject: Subject,
    /// What happened; some actions carry a suffix (`exec_start: sh`).
    pub action: String,
    /// Id of what it is about.
    pub id: String,
    /// Name, image, labels, exit code and the like.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub time: Timestamp,
}

/// The bus.
#[derive(Debug)]
pub struct Events {
    past: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Events {
        Events { past: Mutex::new(VecDeque::with_capacity(KEPT)), sender: broadcast::channel(QUEUE).0 }
    }
}

impl Events {
    /// Tells everybody.
    pub fn publish(
        &self,
        subject: Subject,
        action: impl Into<String>,
        id: impl Into<String>,
        attributes: BTreeMap<String, String>,
    ) {
        let event =
            Event { subject, action: action.into(), id: id.into(), attributes, time: Timestamp::now() };
        let mut past = self.past.lock().expect("no holder of the past events panics");
        if past.len() == KEPT {
            past.pop_front();
        }
        past.push_back(event.clone());
        // Sent under the lock, so that a new listener sees each event once; no listener is fine.
        let _ = self.sender.send(event);
    }

    /// The past events and all that come.
    pub fn subscribe(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let past = self.past.lock().expect("no holder of the past events panics");
        (past.iter().cloned().collect(), self.sender.subscribe())
    }

    /// How many listen now.
    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_256_are_kept() {
        let events = Events::default();
        for number in 0..300 {
            events.publish(Subject::Container, format!("{number}"), "id", BTreeMap::new());
        }
        let (past, _) = events.subscribe();
        let actions: Vec<&str> = past.iter().map(|event| &*event.action).collect();
        assert_eq!((actions.len(), actions[0], actions[255]), (256, "44", "299"));
    }
}
