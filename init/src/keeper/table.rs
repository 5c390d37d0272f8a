//! What the keeper holds, and what the present engine still has to be told of it. Pure: no sockets, no clock;
//! `F` stands for a file descriptor.
//!
//! ```text
//!               hello                     all Held sent
//!   Away ──────────────► Replaying ──────────────────────► Serving
//!    ▲                       │  ReplayEnd is sent on the way   │
//!    └───────────────────────┴──── engine_gone ────────────────┘
//! ```
//!
//! Named descriptors are held beside the processes, and sent in each replay after them.
//!
//! Nothing is queued for an engine beyond one mark for each entry: what was not sent yet is worked out from the
//! table, so a slow engine costs no memory. In one life of the engine the end of a process is told exactly once,
//! with `Held` if it came before that was sent, else with `Exited`; it is told again in every later life until
//! the engine acknowledges it.

use std::collections::{BTreeMap, VecDeque};

use contract::keeper::{Exit, FromKeeper, Key, NAMES_MAX, Name};

#[derive(Debug)]
struct Entry<F> {
    pid: u32,
    note: Vec<u8>,
    fds: Vec<F>,
    exit: Option<Exit>,
    told: Told,
}

/// What the engine of this life knows of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    /// It has `Held` from us or started the process itself.
    Running,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Away,
    Replaying,
    Serving,
}

/// Why a message of the engine was not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The name is taken by a process whose end is not acknowledged.
    #[error("{key:?} is registered already as process {pid}")]
    Taken {
        /// The name.
        key: Key,
        /// Who has it.
        pid: u32,
    },
    /// An acknowledgement for a process that still runs.
    #[error("{key:?} was acknowledged but process {pid} still runs")]
    Running {
        /// The name.
        key: Key,
        /// Who has it.
        pid: u32,
    },
    /// A name that is not held.
    #[error("{key:?} is not held")]
    Unknown {
        /// The name.
        key: Key,
    },
    /// A name under which nothing is kept.
    #[error("nothing is kept as {name}")]
    NotKept {
        /// The name.
        name: Name,
    },
    /// As many names as this process keeps.
    #[error("{name} is not kept: there are {NAMES_MAX} names already")]
    Full {
        /// The name.
        name: Name,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Table<F> {
    entries: BTreeMap<Key, Entry<F>>,
    running: BTreeMap<u32, Key>,
    kept: BTreeMap<Name, Vec<F>>,
    life: Life,
    /// Keys whose `Held` is not sent yet in this life.
    replay: VecDeque<Key>,
    /// Names whose `Kept` is not sent yet in this life.
    replay_kept: VecDeque<Name>,
    /// Keys whose `Exited` is not sent yet in this life.
    ends: VecDeque<Key>,
}

impl<F> Default for Table<F> {
    fn default() -> Self {
        Table {
            entries: BTreeMap::new(),
            running: BTreeMap::new(),
            kept: BTreeMap::new(),
            life: Life::Away,
            replay: VecDeque::new(),
            replay_kept: VecDeque::new(),
            ends: VecDeque::new(),
        }
    }
}

impl<F> Table<F> {
    /// A process registered itself.
    pub fn launched(&mut self, key: Key, pid: u32, note: Vec<u8>, fds: Vec<F>) -> Result<(), Refused> {
        if let Some(old) = self.entries.get(&key) {
            return Err(Refused::Taken { key, pid: old.pid });
        }
        let told = if self.life == Life::Away { Told::Nothing } else { Told::Running };
        self.entries.insert(key, Entry { pid, note, fds, exit: None, told });
        self.running.insert(pid, key);
        Ok(())
    }

    /// A child was reaped. Returns whether it was a registered one.
    pub fn ended(&mut self, pid: u32, exit: Exit) -> bool {
        let Some(key) = self.running.remove(&pid) else { return false };
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        entry.exit = Some(exit);
        if entry.told == Told::Running {
            self.ends.push_back(key);
        }
        true
    }

    /// The engine of a new life wants everything.
    pub fn hello(&mut self) {
        self.ends.clear();
        self.entries.values_mut().for_each(|entry| entry.told = Told::Nothing);
        self.replay = self.entries.keys().copied().collect();
        self.replay_kept = self.kept.keys().cloned().collect();
        self.life = Life::Replaying;
    }

    /// The engine died: what it was told does not count for the next one.
    pub fn engine_gone(&mut self) {
        self.replay.clear();
        self.replay_kept.clear();
        self.ends.clear();
        self.life = Life::Away;
    }

    /// The engine recorded the end of `key`. Returns the descriptors, to be closed.
    pub fn acknowledged(&mut self, key: Key) -> Result<Vec<F>, Refused> {
        match self.entries.get(&key) {
            None => Err(Refused::Unknown { key }),
            Some(Entry { exit: None, pid, .. }) => Err(Refused::Running { key, pid: *pid }),
            Some(entry) => {
                if entry.told != Told::End {
                    self.ends.retain(|end| *end != key);
                    self.replay.retain(|held| *held != key);
                }
                Ok(self.entries.remove(&key).map(|entry| entry.fds).unwrap_or_default())
            }
        }
    }

    /// Only the first `keep` descriptors of `key` are needed any more. Returns the others, to be closed.
    pub fn shed(&mut self, key: Key, keep: usize) -> Result<Vec<F>, Refused> {
        let entry = self.entries.get_mut(&key).ok_or(Refused::Unknown { key })?;
        Ok(entry.fds.split_off(keep.min(entry.fds.len())))
    }

    /// Holds `fds` under `name`. Returns those that had it, to be closed.
    pub fn keep(&mut self, name: Name, fds: Vec<F>) -> Result<Vec<F>, Refused> {
        if self.kept.len() >= NAMES_MAX && !self.kept.contains_key(&name) {
            return Err(Refused::Full { name });
        }
        Ok(self.kept.insert(name, fds).unwrap_or_default())
    }

    /// What is kept under `name` is not needed any more. Returns it, to be closed.
    pub fn drop_kept(&mut self, name: &Name) -> Result<Vec<F>, Refused> {
        self.replay_kept.retain(|waiting| waiting != name);
        self.kept.remove(name).ok_or_else(|| Refused::NotKept { name: name.clone() })
    }

    /// The next message for the engine with the descriptors it carries; the same until [`Table::sent`].
    pub fn next(&self) -> Option<(FromKeeper, &[F])> {
        match (self.life, self.replay.front(), self.ends.front()) {
            (Life::Away, ..) => None,
            (Life::Replaying, None, _) => Some(self.next_kept().unwrap_or((FromKeeper::ReplayEnd, &[]))),
            (Life::Replaying, Some(key), _) => self.entries.get(key).map(|entry| {
                let note = entry.note.clone();
                (FromKeeper::Held { key: *key, pid: entry.pid, exit: entry.exit, note }, &entry.fds[..])
            }),
            (Life::Serving, _, None) => None,
            (Life::Serving, _, Some(key)) => {
                let entry = self.entries.get(key)?;
                let exit = entry.exit?;
                Some((FromKeeper::Exited { key: *key, pid: entry.pid, exit }, &[]))
            }
        }
    }

    fn next_kept(&self) -> Option<(FromKeeper, &[F])> {
        let name = self.replay_kept.front()?;
        let fds = self.kept.get(name)?;
        Some((FromKeeper::Kept { name: name.clone() }, fds))
    }

    /// The message of [`Table::next`] is on its way.
    pub fn sent(&mut self) {
        match self.life {
            Life::Away => {}
            Life::Replaying => match self.replay.pop_front() {
                None if self.replay_kept.pop_front().is_some() => {}
                None => self.life = Life::Serving,
                Some(key) => {
                    if let Some(entry) = self.entries.get_mut(&key) {
                        entry.told = if entry.exit.is_some() { Told::End } else { Told::Running };
                    }
                }
            },
            Life::Serving => {
                let key = self.ends.pop_front();
                if let Some(entry) = key.and_then(|key| self.entries.get_mut(&key)) {
                    entry.told = Told::End;
                }
            }
        }
    }

    /// Whether the present engine has asked for what is held.
    pub fn replayed(&self) -> bool {
        self.life != Life::Away
    }

    /// How many registered processes run.
    #[cfg(test)]
    pub fn running(&self) -> usize {
        self.running.len()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
