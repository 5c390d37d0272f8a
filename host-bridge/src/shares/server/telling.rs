//! Requests about changes on the host, and those of who tells them in the machine: see [`super::changes`].

use super::changes::{Change, HANDLE, NAME, NODE, Telling, What};
use super::wire::{self, Arguments, Malformed, opcode};
use super::{Asked, BELIEF, Reply, Server};
use rustix::fs::FileType;
use rustix::io::Errno;
use zerocopy::IntoBytes;

/// FOPEN_DIRECT_IO: nothing of it is kept in the guest's memory.
const DIRECT: u32 = 1;
/// The same with FOPEN_NONSEEKABLE.
const AS_A_STREAM: u32 = DIRECT | 1 << 2;
/// What changes nothing, whoever asks.
const HARMLESS: [u32; 6] =
    [opcode::LOOKUP, opcode::GETATTR, opcode::READLINK, opcode::STATFS, opcode::FLUSH, opcode::RELEASE];

impl Server {
    /// Answers what is not about files of the host; nothing where the request is a usual one.
    pub(super) fn tell(
        &self,
        kind: u32,
        asked: &Asked,
        arguments: Arguments<'_>,
        reply: &mut Reply,
    ) -> Option<Result<(), Errno>> {
        if asked.node == NODE {
            return Some(self.of_changes(kind, asked, arguments, reply));
        }
        if asked.node == wire::ROOT && kind == opcode::LOOKUP && name(kind, arguments) == Ok(NAME) {
            return Some(reply.put(entry().as_bytes()));
        }
        let change = self.changes.told_by(asked.thread)?;
        let told = change.and_then(|change| self.tell_change(kind, asked, &change, arguments, reply));
        told.or_else(|| (!HARMLESS.contains(&kind)).then_some(Err(Errno::ACCESS)))
    }

    /// Answers a request of the teller's about its change; nothing where it is about something else.
    fn tell_change(
        &self,
        kind: u32,
        asked: &Asked,
        change: &Change,
        arguments: Arguments<'_>,
        reply: &mut Reply,
    ) -> Option<Result<(), Errno>> {
        match (kind, change.what) {
            // A name that the guest has met before its change was told is told of as written.
            (opcode::OPEN, What::Written | What::Made(_)) => {
                Some(reply.put(wire::OpenOut { handle: HANDLE, flags: DIRECT, padding: 0 }.as_bytes()))
            }
            (opcode::WRITE, What::Written | What::Made(_)) => Some(written(arguments, reply)),
            (opcode::SETATTR, What::Attributes) => Some(self.attributes(asked, reply)),
            _ => {
                let name = name(kind, arguments).ok()?;
                self.tell_of_name(kind, asked, name, change, reply)
            }
        }
    }

    fn tell_of_name(
        &self,
        kind: u32,
        asked: &Asked,
        name: &[u8],
        change: &Change,
        reply: &mut Reply,
    ) -> Option<Result<(), Errno>> {
        let described = |told: Result<wire::Entry, Errno>, reply: &mut Reply| {
            told.and_then(|entry| reply.put(entry.as_bytes()))
        };
        Some(match change.of_name(kind, asked.node, name, &self.tree) {
            Telling::Usual => return None,
            Telling::Absent => Err(Errno::NOENT),
            Telling::Before(number) => described(self.known_entry(number), reply),
            Telling::ThatOfTarget => {
                let to = change.to.as_ref()?;
                let found = self.tree.look_up_as(to.folder, &to.name, &change.name);
                described(found.map(|(number, node, stat)| self.entry_of(number, &node, &stat)), reply)
            }
            Telling::Done => {
                let to = change.to.as_ref().map(|to| (to.folder, &*to.name));
                self.tree.renamed(change.name.folder, &change.name.name, to);
                Ok(())
            }
            Telling::Describe => described(self.entry(asked.node, name), reply),
        })
    }

    /// The file that changes are read from.
    fn of_changes(
        &self,
        kind: u32,
        asked: &Asked,
        mut arguments: Arguments<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        match kind {
            opcode::GETATTR => {
                let wire::Entry { attributes, attr_valid, .. } = entry();
                reply.put(
                    wire::AttributesOut { valid: attr_valid, attributes, ..Default::default() }.as_bytes(),
                )
            }
            opcode::OPEN => {
                reply.put(wire::OpenOut { handle: HANDLE, flags: AS_A_STREAM, padding: 0 }.as_bytes())
            }
            opcode::READ => {
                let wanted: wire::ReadIn = arguments.take()?;
                let record = self.changes.next(asked.thread, &self.tree);
                // Who has no room for a record loses it.
                if record.len() > wanted.size as usize { Err(Errno::INVAL) } else { reply.put(&record) }
            }
            opcode::FLUSH => Ok(()),
            opcode::RELEASE => {
                self.changes.leave();
                Ok(())
            }
            _ => Err(Errno::ACCESS),
        }
    }
}

fn entry() -> wire::Entry {
    let mode = FileType::RegularFile.as_raw_mode() | 0o400;
    let attributes =
        wire::Attributes { ino: NODE, mode, nlink: 1, blksize: 4096, ..wire::Attributes::default() };
    wire::Entry { node: NODE, entry_valid: BELIEF, attr_valid: BELIEF, attributes, ..wire::Entry::default() }
}

fn written(mut arguments: Arguments<'_>, reply: &mut Reply) -> Result<(), Errno> {
    let wanted: wire::WriteIn = arguments.take()?;
    match wanted.handle {
        HANDLE => reply.put(wire::WriteOut { size: wanted.size, padding: 0 }.as_bytes()),
        _ => Err(Errno::BADF),
    }
}

/// The name that a request is about, where it is about one; of a renaming the old one.
fn name(kind: u32, mut arguments: Arguments<'_>) -> Result<&[u8], Malformed> {
    match kind {
        opcode::LOOKUP | opcode::UNLINK | opcode::RMDIR | opcode::SYMLINK => {}
        opcode::MKNOD => drop(arguments.take::<wire::MakeNodeIn>()?),
        opcode::MKDIR => drop(arguments.take::<wire::MakeFolderIn>()?),
        opcode::RENAME => drop(arguments.take::<wire::RenameIn>()?),
        opcode::RENAME2 => drop(arguments.take::<wire::Rename2In>()?),
        _ => return Err(Malformed),
    }
    arguments.string()
}
