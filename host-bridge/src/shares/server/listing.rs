//! Requests for what is in a folder.

use super::tree::Found;
use super::wire::{self, Arguments};
use super::{Asked, Reply, Server};
use rustix::fs::{RawDir, SeekFrom};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use zerocopy::IntoBytes;

/// How much is read of a folder at once, in bytes; what does not fit into the answer is read again with the next.
const BUFFER: usize = 16 << 10;

impl Server {
    /// Entries from an offset on, as many as there is room for; with `plus` each as if it was looked up.
    pub(super) fn list(
        &self,
        asked: &Asked,
        mut arguments: Arguments<'_>,
        reply: &mut Reply,
        plus: bool,
    ) -> Result<(), Errno> {
        let wanted: wire::ReadIn = arguments.take()?;
        let folder = self.tree.find(asked.node)?;
        let room = wanted.size as usize;
        if let Found::Shares = folder {
            return self.list_shares(wanted.offset, room, reply, plus);
        }
        let handle = self.handle(wanted.handle)?;
        let _listing = handle.list();
        rustix::fs::seek(&handle.fd, SeekFrom::Start(wanted.offset))?;
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut entries = RawDir::new(&handle.fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let found = wire::FolderEntry {
                ino: entry.ino(),
                offset: entry.next_entry_cookie(),
                name_len: entry.file_name().to_bytes().len() as u32,
                kind: entry.file_type().as_raw_mode() >> 12,
            };
            match self.list_one(asked.node, &found, entry.file_name().to_bytes(), room, reply, plus) {
                Ok(true) => {}
                Ok(false) => break,
                // What was told already is not lost; the rest says again what is wrong.
                Err(_) if reply.length() > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn list_shares(&self, offset: u64, room: usize, reply: &mut Reply, plus: bool) -> Result<(), Errno> {
        for number in offset..self.tree.shares() as u64 {
            let name = number.to_string();
            let entry = wire::FolderEntry {
                ino: wire::ROOT,
                offset: number + 1,
                name_len: name.len() as u32,
                kind: 4,
            };
            if !self.list_one(wire::ROOT, &entry, name.as_bytes(), room, reply, plus)? {
                break;
            }
        }
        Ok(())
    }

    /// Adds an entry; false when there is no room for it.
    fn list_one(
        &self,
        folder: u64,
        entry: &wire::FolderEntry,
        name: &[u8],
        room: usize,
        reply: &mut Reply,
        plus: bool,
    ) -> Result<bool, Errno> {
        let length = (size_of::<wire::FolderEntry>() + name.len()).next_multiple_of(8);
        let about = if plus { size_of::<wire::Entry>() } else { 0 };
        if reply.length() + about + length > room {
            return Ok(false);
        }
        if plus {
            // Without a number it is a name alone: the guest keeps nothing of it. So are those that went meanwhile.
            let looked_up = match name {
                b"." | b".." => wire::Entry::default(),
                name => self.entry(folder, name).unwrap_or_default(),
            };
            reply.put(looked_up.as_bytes())?;
        }
        reply.put(entry.as_bytes())?;
        reply.put(name)?;
        reply.put(&[0; 8][..length - size_of::<wire::FolderEntry>() - name.len()])?;
        Ok(true)
    }
}
