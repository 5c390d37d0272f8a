//! What changes on the host, told again in the machine.
//!
//! A program in a container that waits for changes by inotify(7) hears of what the machine's own kernel is asked to do, and
//! nothing asks it when a person saves a file on the host. So the engine does in the machine what was done on the host, one
//! change at a time, and the server, which knows that it is done already, says yes and does nothing:
//!
//! ```text
//!   host's kernel ── fanotify ──► [watch] ──► queue
//!   the bridge rings the engine's door;  engine: read /mnt/host/changes ──► "removed", "0/src/page"
//!   engine: unlink("/mnt/host/0/src/page") ──► guest's kernel: UNLINK ──► server: yes
//!                                                   └──► IN_DELETE in every container that waits for it
//! ```
//!
//! The thread that reads changes is known by its number in the machine ([`super::wire::RequestHeader::pid`]). What it asks about the
//! change that it read last is only told; nothing else that it asks is done, so that a folder which was moved meanwhile never
//! makes a true change of a told one. What this process itself changes, for the guest, the guest knows: fanotify says whose
//! a change is.

use super::tree::Tree;
use super::wire::opcode;
use rustix::fs::FileType;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// The file in the mounted folder from which changes are read.
pub const NAME: &[u8] = b"changes";
/// Its number. Files of the host have those after it.
pub const NODE: u64 = 2;
/// The number of what is opened only to be told of; files of the host get small ones.
pub const HANDLE: u64 = u64::MAX;
/// Changes that wait; when there are more, who waits for changes has missed some, as inotify(7) allows.
const WAITING_MAX: usize = 16 << 10;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A name is new, of a file of this kind.
    Made(FileType),
    /// A name is gone, which was a folder's.
    FolderRemoved,
    /// A name is gone.
    Removed,
    /// A file was written to.
    Written,
    /// Its permissions, owner or times are others.
    Attributes,
    /// A name is another.
    Moved,
}

impl What {
    /// The word for the engine.
    fn word(self) -> &'static str {
        match self {
            What::Made(FileType::Directory) => "made-folder",
            What::Made(FileType::Symlink) => "made-link",
            What::Made(_) => "made",
            What::FolderRemoved => "removed-folder",
            What::Removed => "removed",
            What::Written => "written",
            What::Attributes => "attributes",
            What::Moved => "moved",
        }
    }
}

/// A name in a folder that the guest knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The folder's number.
    pub folder: u64,
    /// In it.
    pub name: Vec<u8>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub what: What,
    /// To which name.
    pub name: Name,
    /// What it is called now, for [`What::Moved`].
    pub to: Option<Name>,
}

/// See the module.
#[derive(Default)]
pub struct Changes {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Change>,
    /// The thread in the machine that reads changes, and what it read last.
    teller: Option<(u32, Option<Change>)>,
}

/// What the server does with a request of the thread that tells a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Telling {
    /// As with everybody's.
    Usual,
    /// Says that there is no such name.
    Absent,
    /// Says that the name is the one it was before.
    Before(u64),
    /// Says that the name is that of the file which is at the target now.
    ThatOfTarget,
    /// Says that it is done.
    Done,
    /// Describes what is at the name, as if it had been made now.
    Describe,
}

impl Changes {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a change. True when nobody was told yet that there is something to read.
    pub fn add(&self, change: Change) -> bool {
        let mut state = self.state();
        let is_first = state.waiting.is_empty();
        // A file that is written in many pieces is told of once.
        if state.waiting.back() != Some(&change) && state.waiting.len() < WAITING_MAX {
            state.waiting.push_back(change);
        }
        is_first
    }

    /// The next change, for a thread of the machine: the word and the paths below the mounted folder, each ended by a NUL. Empty
    /// when there is none.
    pub fn next(&self, thread: u32, tree: &Tree) -> Vec<u8> {
        let mut state = self.state();
        state.teller = Some((thread, None));
        while let Some(change) = state.waiting.pop_front() {
            let names = std::iter::once(&change.name).chain(&change.to);
            let paths: Option<Vec<_>> = names.map(|name| tree.path(name.folder, &name.name)).collect();
            // A folder that is no longer below a shared one has no path there.
            let Some(paths) = paths else { continue };
            let mut record = change.what.word().as_bytes().to_vec();
            record.push(0);
            for path in paths {
                record.extend(path);
                record.push(0);
            }
            state.teller = Some((thread, Some(change)));
            return record;
        }
        Vec::new()
    }

    /// The guest forgets everything.
    pub fn clear(&self) {
        *self.state() = State::default();
    }

    /// Nobody reads changes any more.
    pub fn leave(&self) {
        self.state().teller = None;
    }

    /// Whether this thread reads changes, and what it read last.
    pub fn told_by(&self, thread: u32) -> Option<Option<Change>> {
        let state = self.state();
        state.teller.as_ref().filter(|(teller, _)| *teller == thread).map(|(_, change)| change.clone())
    }
}

impl Change {
    /// What is done with a request about a name.
    pub fn of_name(&self, kind: u32, folder: u64, name: &[u8], tree: &Tree) -> Telling {
        let is = |wanted: &Name| wanted.folder == folder && wanted.name == name;
        let (is_name, is_to) = (is(&self.name), self.to.as_ref().is_some_and(is));
        match (kind, self.what) {
            (opcode::LOOKUP, What::Made(_)) if is_name => Telling::Absent,
            (opcode::LOOKUP, What::Removed | What::FolderRemoved) if is_name => {
                before(tree.told_at(folder, name))
            }
            (opcode::LOOKUP, What::Moved) if is_name => {
                self.moved(tree).map_or(Telling::ThatOfTarget, Telling::Before)
            }
            // Two names of one file are not renamed to each other (rename(2)).
            (opcode::LOOKUP, What::Moved) if is_to => match tree.told_at(folder, name) {
                Some(number) if Some(number) != self.moved(tree) => Telling::Before(number),
                _ => Telling::Absent,
            },
            (opcode::MKNOD | opcode::MKDIR | opcode::SYMLINK, What::Made(_)) if is_name => Telling::Describe,
            (opcode::UNLINK, What::Removed) | (opcode::RMDIR, What::FolderRemoved) if is_name => {
                Telling::Done
            }
            (opcode::RENAME | opcode::RENAME2, What::Moved) if is_name => Telling::Done,
            _ => Telling::Usual,
        }
    }

    /// The number of the file that was moved, as the guest knew it.
    fn moved(&self, tree: &Tree) -> Option<u64> {
        tree.told_at(self.name.folder, &self.name.name)
    }
}

fn before(number: Option<u64>) -> Telling {
    number.map_or(Telling::Absent, Telling::Before)
}
