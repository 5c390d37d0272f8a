//! What happens on the host in folders that the guest knows (fanotify(7)), by anybody but this process.
//!
//! A folder is watched from when the guest first hears of it until it forgets it, so that nothing is watched that nobody in the
//! machine could wait for. Everybody may watch so since Linux 5.13, and is told whether a change is its own; renames come in
//! one piece since 5.17.

use super::changes::{Change, Changes, Name, What};
use super::tree::{Node, Tree};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use rustix::fs::{AtFlags, FileType};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// FAN_REPORT_DFID_NAME: events have the folder's handle and a name in it.
const REPORT_NAMES: u32 = 0xc00;
/// What is asked for.
const EVENTS: MaskFlags = MaskFlags::FAN_CREATE
    .union(MaskFlags::FAN_DELETE)
    .union(MaskFlags::FAN_RENAME)
    .union(MaskFlags::FAN_MODIFY)
    .union(MaskFlags::FAN_CLOSE_WRITE)
    .union(MaskFlags::FAN_ATTRIB)
    .union(MaskFlags::FAN_ONDIR)
    .union(MaskFlags::FAN_EVENT_ON_CHILD);
/// Read at once, in bytes.
const BUFFER: usize = 32 << 10;
/// How long nothing is read after events that were all this process's own: as much later a change is told at most.
const OWN_PAUSE: Duration = Duration::from_millis(10);
/// FAN_EVENT_INFO_TYPE_DFID_NAME: where it happened.
const PLACE: u8 = 2;
/// FAN_EVENT_INFO_TYPE_OLD_DFID_NAME.
const OLD_PLACE: u8 = 10;
/// FAN_EVENT_INFO_TYPE_NEW_DFID_NAME.
const NEW_PLACE: u8 = 12;

/// struct fanotify_event_metadata.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Event {
    length: u32,
    version: u8,
    reserved: u8,
    metadata_length: u16,
    mask: u64,
    fd: i32,
    pid: i32,
}

/// struct fanotify_event_info_header.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Info {
    kind: u8,
    padding: u8,
    length: u16,
}

/// See the module.
pub struct Watch {
    group: Fanotify,
    /// Folders by their handles, as [`sys::handle::of`] has them.
    folders: Mutex<HashMap<Vec<u8>, u64>>,
}

/// Where something happened: a folder's handle, and a name in it.
type Place<'a> = (&'a [u8], &'a [u8]);

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> io::Result<Watch> {
        let flags =
            InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::from_bits_retain(REPORT_NAMES);
        let group = Fanotify::init(flags, EventFFlags::O_RDONLY)?;
        Ok(Watch { group, folders: Mutex::default() })
    }

    fn folders(&self) -> MutexGuard<'_, HashMap<Vec<u8>, u64>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a folder. One that cannot be watched is not: its file system has no handles, or the user watches as much as it may.
    pub fn add(&self, folder: &Node, number: u64) {
        let Ok(handle) = sys::handle::of(folder.as_fd()) else { return };
        if self.mark(MarkFlags::FAN_MARK_ADD, folder).is_ok() {
            self.folders().insert(handle, number);
        }
    }

    /// Watches a folder no longer.
    pub fn remove(&self, folder: &Node) {
        let Ok(handle) = sys::handle::of(folder.as_fd()) else { return };
        if self.folders().remove(&handle).is_some() {
            // One that was deleted has lost its mark with it.
            let _ = self.mark(MarkFlags::FAN_MARK_REMOVE, folder);
        }
    }

    fn mark(&self, flags: MarkFlags, folder: &Node) -> nix::Result<()> {
        self.group.mark(flags | MarkFlags::FAN_MARK_ONLYDIR, EVENTS, rustix::fs::CWD, Some(&folder.path()))
    }

    /// Reads what happened and adds it to the changes, for ever; `ring` when there is something to read again.
    pub fn run(&self, tree: &Tree, changes: &Changes, ring: impl Fn()) -> io::Error {
        let own = std::process::id();
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = match rustix::io::read(&self.group, &mut buffer) {
                Ok(length) => length,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return error.into(),
            };
            let (mut all_own, mut rings) = (true, false);
            for (event, infos) in
                events(&buffer[..length]).filter(|(event, _)| event.pid.unsigned_abs() != own)
            {
                all_own = false;
                for change in self.changes(tree, event.mask, infos) {
                    rings |= changes.add(change);
                }
            }
            if rings {
                ring();
            }
            // While the guest is busy, its own changes come in heaps, of which the kernel makes fewer.
            if all_own {
                std::thread::sleep(OWN_PAUSE);
            }
        }
    }

    fn changes(&self, tree: &Tree, mask: u64, infos: &[u8]) -> Vec<Change> {
        let mask = MaskFlags::from_bits_truncate(mask);
        let place =
            |kind| places(infos).find(|(found, _)| *found == kind).and_then(|(_, place)| self.name(place));
        let is_folder = mask.contains(MaskFlags::FAN_ONDIR);
        let removed = if is_folder { What::FolderRemoved } else { What::Removed };
        let one = |what, name| Change { what, name, to: None };
        if mask.contains(MaskFlags::FAN_RENAME) {
            return match (place(OLD_PLACE), place(NEW_PLACE)) {
                (Some(name), to @ Some(_)) => vec![Change { what: What::Moved, name, to }],
                (Some(name), None) => vec![one(removed, name)],
                (None, Some(name)) => made(tree, name).into_iter().collect(),
                (None, None) => Vec::new(),
            };
        }
        let Some(name) = place(PLACE) else { return Vec::new() };
        let made = if mask.contains(MaskFlags::FAN_CREATE) { made(tree, name.clone()) } else { None };
        let mut all = Vec::new();
        // Where both happened to a name and there is a file, that is a new one.
        if mask.contains(MaskFlags::FAN_DELETE) && made.is_some() {
            all.push(one(removed, name.clone()));
        }
        let is_gone = mask.contains(MaskFlags::FAN_DELETE) && made.is_none();
        all.extend(made);
        if mask.contains(MaskFlags::FAN_ATTRIB) && !is_gone {
            all.push(one(What::Attributes, name.clone()));
        }
        if mask.intersects(MaskFlags::FAN_MODIFY | MaskFlags::FAN_CLOSE_WRITE) && !is_gone {
            all.push(one(What::Written, name.clone()));
        }
        if is_gone {
            all.push(one(removed, name));
        }
        all
    }

    /// A place in a folder that is watched. A folder itself is named `.` in it, and that its own attributes are others is told by
    /// the one above.
    fn name(&self, (handle, name): Place<'_>) -> Option<Name> {
        let folder = self.folders().get(handle).copied()?;
        (name != b".").then(|| Name { folder, name: name.to_vec() })
    }
}

/// A name that is new, if there still is what it names.
fn made(tree: &Tree, name: Name) -> Option<Change> {
    let folder = tree.node(name.folder).ok()?;
    let file = super::tree::checked(&name.name).ok()?;
    let stat = rustix::fs::statat(&*folder, file, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(Change { what: What::Made(FileType::from_raw_mode(stat.st_mode)), name, to: None })
}

/// The events that were read, each with its records.
fn events(mut bytes: &[u8]) -> impl Iterator<Item = (Event, &[u8])> {
    std::iter::from_fn(move || {
        let (event, _) = Event::read_from_prefix(bytes).ok()?;
        let (whole, rest) = bytes.split_at_checked(event.length as usize)?;
        let infos = whole.get(usize::from(event.metadata_length)..)?;
        bytes = rest;
        Some((event, infos))
    })
}

/// The records that name places, with their kinds.
fn places(mut infos: &[u8]) -> impl Iterator<Item = (u8, Place<'_>)> {
    std::iter::from_fn(move || {
        let (info, _) = Info::read_from_prefix(infos).ok()?;
        let (whole, rest) = infos.split_at_checked(usize::from(info.length).max(size_of::<Info>()))?;
        infos = rest;
        // The file system's number, then the handle with its length before it, then the name.
        let body = &whole[size_of::<Info>()..];
        let length =
            body.get(8..12).map(|bytes| u32::from_ne_bytes(bytes.try_into().expect("four bytes")))?;
        let (handle, name) = body.split_at_checked(16 + length as usize)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Some((info.kind, (handle, name)))
    })
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}
