//! The layer's directory, reached only through descriptors.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use runtime::ids::IdMap;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, mkdirat, openat, openat2, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::name;

/// Most folders kept open between members.
const CACHE: usize = 64;
/// Deeper folders are moved up before they are removed, so that depth costs neither descriptors nor stack.
const DEEP: usize = 24;
/// Most names of one folder in memory while it is removed.
const BATCH: usize = 1024;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) struct Tree {
    root: Rc<OwnedFd>,
    /// Where removed folders are moved to; on the same file system, outside of every layer.
    scratch: OwnedFd,
    /// Whose root owns folders that no member tells of.
    ids: IdMap,
    /// Cleaned path → its folder. Emptied whenever something is replaced, since a replaced symlink or folder
    /// changes what paths mean.
    open: HashMap<Vec<u8>, Rc<OwnedFd>>,
}

impl Tree {
    pub(super) fn new(root: OwnedFd, scratch: OwnedFd, ids: IdMap) -> Tree {
        Tree { root: Rc::new(root), scratch, ids, open: HashMap::new() }
    }

    /// The folder at a cleaned path; missing ones are made with mode 0755, as Docker makes them.
    pub(super) fn folder(&mut self, path: &[u8]) -> io::Result<Rc<OwnedFd>> {
        if path.is_empty() {
            return Ok(self.root.clone());
        }
        if let Some(folder) = self.open.get(path) {
            return Ok(folder.clone());
        }
        let folder = match self.resolve(path) {
            Err(Errno::NOENT) => self.make(path)?,
            other => other?,
        };
        if self.open.len() >= CACHE {
            self.open.clear();
        }
        let folder = Rc::new(folder);
        self.open.insert(path.to_vec(), folder.clone());
        Ok(folder)
    }

    /// The folder at a cleaned path when it exists.
    pub(super) fn existing_folder(&self, path: &[u8]) -> io::Result<Rc<OwnedFd>> {
        if path.is_empty() {
            return Ok(self.root.clone());
        }
        match self.open.get(path) {
            Some(folder) => Ok(folder.clone()),
            None => Ok(Rc::new(self.resolve(path)?)),
        }
    }

    /// Removes what has this name in a folder.
    pub(super) fn remove(&mut self, folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        self.open.clear();
        remove_tree(folder, name, self.scratch.as_fd())
    }

    /// Symlinks on the way are followed inside the layer's root, as in Docker's chroot.
    fn resolve(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(&self.root, path, FOLDER, Mode::empty(), flags) {
                // A rename elsewhere made `..` in a symlink uncertain, see openat2(2).
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }

    fn make(&mut self, path: &[u8]) -> io::Result<OwnedFd> {
        let mut folder = self.root.clone();
        for end in component_ends(path) {
            let next = match self.resolve(&path[..end]) {
                Err(Errno::NOENT) => {
                    let (_, last) = name::split(&path[..end]);
                    make_folder(folder.as_fd(), last, self.ids)?
                }
                other => other?,
            };
            folder = Rc::new(next);
        }
        Ok(Rc::into_inner(folder).expect("a cleaned path has a component, so this is not the root's"))
    }
}

fn component_ends(path: &[u8]) -> Vec<usize> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.chain([path.len()]).collect()
}

fn make_folder(parent: BorrowedFd<'_>, name: &[u8], ids: IdMap) -> io::Result<OwnedFd> {
    mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    let folder = open_folder(parent, name)?;
    if ids.is_mapped() {
        let (uid, gid) = (Uid::from_raw(ids.root()), Gid::from_raw(ids.root()));
        rustix::fs::fchown(&folder, Some(uid), Some(gid))?;
    }
    // mkdirat obeys the umask.
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(0o755))?;
    Ok(folder)
}

/// Opens a folder by its last component, not through a symlink.
pub(super) fn open_folder(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(parent, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
}

/// Removes a file or a whole folder. Deep folders are first moved into `scratch`, which is on the same file
/// system; a crash in between leaves them there.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &[u8], scratch: BorrowedFd<'_>) -> io::Result<()> {
    let mut deep = Vec::new();
    remove_to(parent, name, scratch, DEEP, &mut deep)?;
    while let Some(moved) = deep.pop() {
        remove_to(scratch, &moved, scratch, DEEP, &mut deep)?;
    }
    Ok(())
}

fn remove_to(
    parent: BorrowedFd<'_>,
    name: &[u8],
    scratch: BorrowedFd<'_>,
    depth: usize,
    deep: &mut Vec<Vec<u8>>,
) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return Ok(other?),
    }
    if depth == 0 {
        let moved = scratch_name().into_bytes();
        renameat(parent, name, scratch, moved.as_slice())?;
        deep.push(moved);
        return Ok(());
    }
    let folder = open_folder(parent, name)?;
    let mut listing = Dir::read_from(&folder)?;
    loop {
        let batch = children(&mut listing)?;
        if batch.is_empty() {
            return Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?);
        }
        for child in batch {
            remove_to(folder.as_fd(), &child, scratch, depth - 1, deep)?;
        }
        listing.rewind();
    }
}

/// Some of the names in a folder; none only when it is empty.
fn children(listing: &mut Dir) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    while names.len() < BATCH {
        let Some(entry) = listing.read() else { break };
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// A name that no process, dead or alive, has used in the folder of temporary things.
pub fn scratch_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static START: OnceLock<u128> = OnceLock::new();
    // Process ids repeat: the engine has the same one in every boot.
    let start = START.get_or_init(|| UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos());
    format!("{start:x}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What has this name in a folder, without following it.
pub(super) fn kind_of(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Present>> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Present::Folder,
            FileType::CharacterDevice if stat.st_rdev == 0 => Present::Whiteout,
            _ => Present::Other,
        })),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is in the place of a new member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Present {
    Folder,
    Whiteout,
    Other,
}

/// A path for the calls that have no descriptor form, such as lsetxattr(2).
pub(super) fn proc_path(folder: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}
