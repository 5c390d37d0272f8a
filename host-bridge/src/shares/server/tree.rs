//! The files that the guest has names for.
//!
//! ```text
//!   node 1 (no file of the host)
//!     ├─ "0"  the first shared folder
//!     ├─ "1"  the second
//!     └─ …
//! ```
//!
//! A node is a file of the host held by an O_PATH descriptor, so that it stays the same file whatever happens to its name,
//! and its number cannot be given to another. Names are looked up one at a time below a folder that is held already and
//! never through a symbolic link, so nothing above a shared folder can be reached; links are the guest's to follow.

use super::changes::{self, Name};
use super::watch::Watch;
use super::wire;
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What makes a file the same file (stat(3type)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FileId {
    device: u64,
    inode: u64,
}

/// A file of the host that the guest may name by its number.
#[derive(Debug)]
pub struct Node {
    fd: OwnedFd,
    id: FileId,
    kind: FileType,
}

impl Node {
    /// Whether it is a folder, a regular file or something else.
    pub fn kind(&self) -> FileType {
        self.kind
    }

    /// The path by which the kernel opens exactly this file again (proc_pid_fd(5)).
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// Opens it for reading and writing. Only regular files and folders are: opening anything else may wait or do something.
    pub fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        match self.kind {
            FileType::RegularFile | FileType::Directory => {
                rustix::fs::open(self.path(), flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
            }
            FileType::Symlink => Err(Errno::LOOP),
            _ => Err(Errno::NXIO),
        }
    }

    /// What stat(2) says of it.
    pub fn stat(&self) -> Result<Stat, Errno> {
        fstat(&self.fd)
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A node with how often the guest was told of it, and under which names.
struct Known {
    node: Arc<Node>,
    lookups: u64,
    names: Vec<(u64, Box<[u8]>)>,
}

#[derive(Default)]
struct Nodes {
    by_number: HashMap<u64, Known>,
    by_file: HashMap<FileId, u64>,
    /// What a name in a folder was when the guest was told of it last.
    by_name: HashMap<(u64, Box<[u8]>), u64>,
    last: u64,
    /// File systems in the order in which they were met: inode numbers of later ones must not be those of the first.
    devices: Vec<u64>,
}

/// See the module.
pub struct Tree {
    shares: Vec<Arc<Node>>,
    nodes: Mutex<Nodes>,
    /// Where it is possible, folders that the guest knows are watched.
    watch: Option<Watch>,
}

/// What a node number stands for.
#[derive(Debug, Clone)]
pub enum Found {
    /// The folder of all shares.
    Shares,
    /// A file of the host.
    Node(Arc<Node>),
}

impl Tree {
    /// Holds the folders.
    pub fn new(folders: &[PathBuf]) -> Result<Tree, (PathBuf, Errno)> {
        let hold = |folder: &PathBuf| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(folder, flags, Mode::empty());
            fd.and_then(hold).map(|(node, _)| Arc::new(node)).map_err(|error| (folder.clone(), error))
        };
        let shares = folders.iter().map(hold).collect::<Result<Vec<_>, _>>()?;
        let nodes = Mutex::new(Nodes { last: changes::NODE, ..Nodes::default() });
        Ok(Tree { shares, nodes, watch: None })
    }

    /// From here on every folder that the guest hears of is watched.
    pub fn watch(&mut self) -> std::io::Result<()> {
        self.watch = Some(Watch::new()?);
        Ok(())
    }

    /// What watches, if anything does.
    pub fn watcher(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    /// How many folders are shared.
    pub fn shares(&self) -> usize {
        self.shares.len()
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the guest means by a number; one that it was not told is nothing.
    pub fn find(&self, number: u64) -> Result<Found, Errno> {
        if number == wire::ROOT {
            return Ok(Found::Shares);
        }
        self.nodes().by_number.get(&number).map(|known| Found::Node(known.node.clone())).ok_or(Errno::NOENT)
    }

    /// A file of the host; the folder of the shares is none and cannot be changed.
    pub fn node(&self, number: u64) -> Result<Arc<Node>, Errno> {
        match self.find(number)? {
            Found::Node(node) => Ok(node),
            Found::Shares => Err(Errno::ROFS),
        }
    }

    /// Looks a name up and tells the guest of it: the number counts one lookup more.
    pub fn look_up(&self, folder: u64, name: &[u8]) -> Result<(u64, Arc<Node>, Stat), Errno> {
        let (node, stat) = self.open(folder, name)?;
        let (number, node) = self.tell(node, folder, name);
        Ok((number, node, stat))
    }

    /// The same, telling the guest of it by another name.
    pub fn look_up_as(&self, folder: u64, name: &[u8], told: &Name) -> Result<(u64, Arc<Node>, Stat), Errno> {
        let (node, stat) = self.open(folder, name)?;
        let (number, node) = self.tell(node, told.folder, &told.name);
        Ok((number, node, stat))
    }

    fn open(&self, folder: u64, name: &[u8]) -> Result<(Node, Stat), Errno> {
        match self.find(folder)? {
            Found::Node(folder) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                hold(openat(&*folder, checked(name)?, flags, Mode::empty())?)
            }
            Found::Shares => {
                let share = std::str::from_utf8(name).ok().and_then(|name| name.parse::<usize>().ok());
                let share = share.and_then(|number| self.shares.get(number)).ok_or(Errno::NOENT)?;
                hold(rustix::io::dup(share)?)
            }
        }
    }

    /// The number of a file, new or known.
    fn tell(&self, node: Node, folder: u64, name: &[u8]) -> (u64, Arc<Node>) {
        let mut nodes = self.nodes();
        let nodes = &mut *nodes;
        let number = *nodes.by_file.entry(node.id).or_insert_with(|| {
            nodes.last += 1;
            nodes.last
        });
        let known = nodes.by_number.entry(number).or_insert_with(|| {
            if let Some(watch) = &self.watch
                && node.kind == FileType::Directory
            {
                watch.add(&node, number);
            }
            Known { node: Arc::new(node), lookups: 0, names: Vec::new() }
        });
        known.lookups += 1;
        if self.watch.is_some() {
            let name = (folder, Box::from(name));
            if nodes.by_name.insert(name.clone(), number) != Some(number) && !known.names.contains(&name) {
                known.names.push(name);
            }
        }
        (number, known.node.clone())
    }

    /// One lookup more of a number that the guest knows.
    pub fn tell_again(&self, number: u64) -> Result<Arc<Node>, Errno> {
        let mut nodes = self.nodes();
        let known = nodes.by_number.get_mut(&number).ok_or(Errno::NOENT)?;
        known.lookups += 1;
        Ok(known.node.clone())
    }

    /// What a name was when the guest was told of it last.
    pub fn told_at(&self, folder: u64, name: &[u8]) -> Option<u64> {
        self.nodes().by_name.get(&(folder, Box::from(name))).copied()
    }

    /// The guest knows that a name is gone, or is now another.
    pub fn renamed(&self, folder: u64, name: &[u8], to: Option<(u64, &[u8])>) {
        let mut nodes = self.nodes();
        let nodes = &mut *nodes;
        let Some(number) = nodes.by_name.remove(&(folder, Box::from(name))) else { return };
        let Some(known) = nodes.by_number.get_mut(&number) else { return };
        known.names.retain(|(of, known)| (*of, &**known) != (folder, name));
        if let Some((folder, name)) = to {
            let name = (folder, Box::from(name));
            nodes.by_name.insert(name.clone(), number);
            if !known.names.contains(&name) {
                known.names.push(name);
            }
        }
    }

    /// The path of a name below the mounted folder; none when its folder is not below a shared one any more.
    pub fn path(&self, folder: u64, name: &[u8]) -> Option<Vec<u8>> {
        use std::os::unix::ffi::OsStrExt;
        let whole = |node: &Node| std::fs::read_link(node.path()).ok();
        let folder = whole(&*self.node(folder).ok()?)?;
        let below =
            |(number, share): (usize, &Arc<Node>)| Some((number, folder.strip_prefix(whole(share)?).ok()?));
        let (number, below) = self.shares.iter().enumerate().find_map(below)?;
        let path = Path::new(&number.to_string()).join(below).join(std::ffi::OsStr::from_bytes(name));
        Some(path.as_os_str().as_bytes().to_vec())
    }

    /// The guest forgets so many lookups of a number; with the last one the file is let go.
    pub fn forget(&self, number: u64, lookups: u64) {
        let mut nodes = self.nodes();
        let nodes = &mut *nodes;
        let Some(known) = nodes.by_number.get_mut(&number) else { return };
        known.lookups = known.lookups.saturating_sub(lookups);
        if known.lookups == 0
            && let Some(known) = nodes.by_number.remove(&number)
        {
            nodes.by_file.remove(&known.node.id);
            for name in known.names {
                if nodes.by_name.get(&name) == Some(&number) {
                    nodes.by_name.remove(&name);
                }
            }
            self.unwatch(&known.node);
        }
    }

    fn unwatch(&self, node: &Node) {
        if let Some(watch) = &self.watch
            && node.kind == FileType::Directory
        {
            watch.remove(node);
        }
    }

    /// The guest forgets everything.
    pub fn forget_all(&self) {
        let mut nodes = self.nodes();
        for (_, known) in nodes.by_number.drain() {
            self.unwatch(&known.node);
        }
        nodes.by_file.clear();
        nodes.by_name.clear();
    }

    /// The inode number that the guest sees. All shares are one file system there, so those of a second one of the host get
    /// its place in the upper bits, where no file system has any.
    pub fn inode(&self, stat: &Stat) -> u64 {
        let mut nodes = self.nodes();
        let place = nodes.devices.iter().position(|device| *device == stat.st_dev).unwrap_or_else(|| {
            nodes.devices.push(stat.st_dev);
            nodes.devices.len() - 1
        });
        stat.st_ino ^ ((place as u64) << 48)
    }
}

fn hold(fd: OwnedFd) -> Result<(Node, Stat), Errno> {
    let stat = fstat(&fd)?;
    let id = FileId { device: stat.st_dev, inode: stat.st_ino };
    Ok((Node { fd, id, kind: FileType::from_raw_mode(stat.st_mode) }, stat))
}

/// One name in a folder, and no way out of it.
pub fn checked(name: &[u8]) -> Result<&Path, Errno> {
    use std::os::unix::ffi::OsStrExt;
    match name {
        b"" => Err(Errno::NOENT),
        b"." | b".." => Err(Errno::INVAL),
        name if name.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(Errno::INVAL),
        name => Ok(Path::new(std::ffi::OsStr::from_bytes(name))),
    }
}
