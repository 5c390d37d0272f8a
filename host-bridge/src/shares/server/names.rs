//! Requests about names: looking up, making, moving and removing them; and about what a file is.

use super::owner::{Owner, PERMISSIONS, drop_set_ids};
use super::tree::{Found, Node, checked};
use super::wire::{self, Arguments, Sets, opcode};
use super::{Asked, BELIEF, Handle, OPEN_FLAGS, Reply, Server};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps};
use rustix::fs::{UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::sync::Arc;
use zerocopy::IntoBytes;

impl Server {
    pub(super) fn look_up(
        &self,
        asked: &Asked,
        mut arguments: Arguments<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let entry = self.entry(asked.node, arguments.string()?)?;
        reply.put(entry.as_bytes())
    }

    /// Looks a name up and describes it; the guest counts it as one lookup.
    pub(super) fn entry(&self, folder: u64, name: &[u8]) -> Result<wire::Entry, Errno> {
        let (number, node, stat) = self.tree.look_up(folder, name)?;
        Ok(self.entry_of(number, &node, &stat))
    }

    /// Describes a file that the guest knows; it counts as one lookup, too.
    pub(super) fn known_entry(&self, number: u64) -> Result<wire::Entry, Errno> {
        let node = self.tree.tell_again(number)?;
        Ok(self.entry_of(number, &node, &node.stat()?))
    }

    pub(super) fn entry_of(&self, node: u64, file: &Node, stat: &Stat) -> wire::Entry {
        wire::Entry {
            node,
            entry_valid: BELIEF,
            attr_valid: BELIEF,
            attributes: self.describe(file, stat),
            ..wire::Entry::default()
        }
    }

    fn describe(&self, node: &Node, stat: &Stat) -> wire::Attributes {
        let Owner { uid, gid } = self.owners.of(node, stat);
        wire::Attributes {
            ino: self.tree.inode(stat),
            size: stat.st_size as u64,
            blocks: stat.st_blocks as u64,
            atime: stat.st_atime as u64,
            mtime: stat.st_mtime as u64,
            ctime: stat.st_ctime as u64,
            atime_nsec: stat.st_atime_nsec as u32,
            mtime_nsec: stat.st_mtime_nsec as u32,
            ctime_nsec: stat.st_ctime_nsec as u32,
            mode: stat.st_mode,
            nlink: stat.st_nlink as u32,
            uid,
            gid,
            rdev: device_number(stat.st_rdev),
            blksize: stat.st_blksize as u32,
            flags: 0,
        }
    }

    pub(super) fn attributes(&self, asked: &Asked, reply: &mut Reply) -> Result<(), Errno> {
        let attributes = match self.tree.find(asked.node)? {
            Found::Node(node) => self.describe(&node, &node.stat()?),
            Found::Shares => wire::Attributes {
                ino: wire::ROOT,
                mode: FileType::Directory.as_raw_mode() | 0o555,
                nlink: 2,
                ..wire::Attributes::default()
            },
        };
        reply.put(wire::AttributesOut { valid: BELIEF, attributes, ..Default::default() }.as_bytes())
    }

    pub(super) fn set_attributes(
        &self,
        asked: &Asked,
        mut arguments: Arguments<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let node = self.tree.node(asked.node)?;
        let wanted: wire::SetAttributesIn = arguments.take()?;
        let sets = Sets::from_bits_truncate(wanted.valid);
        if sets.intersects(Sets::UID | Sets::GID) {
            let old = self.owners.of(&node, &node.stat()?);
            let uid = if sets.contains(Sets::UID) { wanted.uid } else { old.uid };
            let gid = if sets.contains(Sets::GID) { wanted.gid } else { old.gid };
            self.owners.give(&node, Owner { uid, gid })?;
        }
        // After the owner, for a change of owner takes set-user-ID away.
        if sets.contains(Sets::MODE) {
            set_mode(&node, wanted.mode)?;
        }
        if sets.contains(Sets::SIZE) {
            let open = match sets.contains(Sets::HANDLE) {
                true => self.handle(wanted.handle)?,
                false => Arc::new(Handle::new(node.open(OFlags::WRONLY | OFlags::NONBLOCK)?)),
            };
            rustix::fs::ftruncate(&open.fd, wanted.size)?;
            if sets.contains(Sets::KILL_SUIDGID) {
                drop_set_ids(open.fd.as_fd())?;
            }
        }
        set_times(&node, sets, &wanted)?;
        self.attributes(asked, reply)
    }

    pub(super) fn read_link(&self, asked: &Asked, reply: &mut Reply) -> Result<(), Errno> {
        let node = self.tree.node(asked.node)?;
        let target = rustix::fs::readlinkat(&*node, "", Vec::new())?;
        reply.put(target.as_bytes())
    }

    pub(super) fn symlink(
        &self,
        asked: &Asked,
        mut arguments: Arguments<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let folder = self.tree.node(asked.node)?;
        let (name, target) = (arguments.string()?, arguments.string()?);
        rustix::fs::symlinkat(target, &*folder, checked(name)?)?;
        self.made(asked, &folder, name, None, reply)
    }

    pub(super) fn make_node(
        &self,
        asked: &Asked,
        mut arguments: Arguments<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let folder = self.tree.node(asked.node)?;
        let wanted: wire::MakeNodeIn = arguments.take()?;
        let name = arguments.string()?;
        let kind = FileType::from_raw_mode(wanted.mode);
        // A device of the machine's would be one of the host's here.
        if !matches!(kind, FileType::RegularFile | FileType::Fifo | FileType::Socket) {
            return Err(Errno::PERM);
        }
        let mode = wanted.mode & !wanted.umask & PERMISSIONS;
        rustix::fs::mknodat(&*folder, checked(name)?, kind, Mode::from_raw_mode(mode), 0)?;
        self.made(asked, &folder, name, Some(mode), reply)
    }

    pub(super) fn make_folder(
        &self,
        asked: &Asked,
        mut arguments: Arguments<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let folder = self.tree.node(asked.node)?;
        let wanted: wire::MakeFolderIn = arguments.take()?;
        let name = arguments.string()?;
        let mode = wanted.mode & !wanted.umask & PERMISSIONS;
        rustix::fs::mkdirat(&*folder, checked(name)?, Mode::from_raw_mode(mode))?;
        self.made(asked, &folder, name, Some(mode), reply)
    }

    /// Gives what was just made to its maker and describes it.
    fn made(
        &self,
        asked: &Asked,
        folder: &Node,
        name: &[u8],
        mode: Option<u32>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let (number, node, _) = self.tree.look_up(asked.node, name)?;
        self.give_to_maker(asked, folder, &node, mode)?;
        reply.put(self.entry_of(number, &node, &node.stat()?).as_bytes())
    }

    /// The maker's group, or the folder's where that says so by set-group-ID (inode(7)).
    fn give_to_maker(
        &self,
        asked: &Asked,
        folder: &Node,
        node: &Node,
        mode: Option<u32>,
    ) -> Result<(), Errno> {
        let stat = folder.stat()?;
        let inherits = stat.st_mode & 0o2000 != 0;
        let gid = if inherits { self.owners.of(folder, &stat).gid } else { asked.caller.gid };
        match self.owners.give(node, Owner { uid: asked.caller.uid, gid }) {
            // A socket or pipe has no place for a record.
            Ok(()) | Err(Errno::PERM | Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
        match mode {
            // The change of owner has taken them away.
            Some(mode) if mode & 0o6000 != 0 => set_mode(node, mode),
            _ => Ok(()),
        }
    }

    pub(super) fn unlink(
        &self,
        asked: &Asked,
        mut arguments: Arguments<'_>,
        flags: AtFlags,
    ) -> Result<(), Errno> {
        let folder = self.tree.node(asked.node)?;
        let name = arguments.string()?;
        rustix::fs::unlinkat(&*folder, checked(name)?, flags)?;
        self.tree.renamed(asked.node, name, None);
        Ok(())
    }

    pub(super) fn rename(&self, kind: u32, asked: &Asked, mut arguments: Arguments<'_>) -> Result<(), Errno> {
        let (to, flags) = match kind {
            opcode::RENAME2 => {
                let wanted: wire::Rename2In = arguments.take()?;
                (wanted.to, wanted.flags)
            }
            _ => (arguments.take::<wire::RenameIn>()?.to, 0),
        };
        let (from, into) = (self.tree.node(asked.node)?, self.tree.node(to)?);
        let (old, new) = (arguments.string()?, arguments.string()?);
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        match flags.is_empty() {
            true => rustix::fs::renameat(&*from, checked(old)?, &*into, checked(new)?)?,
            false => rustix::fs::renameat_with(&*from, checked(old)?, &*into, checked(new)?, flags)?,
        }
        if !flags.contains(RenameFlags::EXCHANGE) {
            self.tree.renamed(asked.node, old, Some((to, new)));
        }
        Ok(())
    }

    pub(super) fn link(
        &self,
        asked: &Asked,
        mut arguments: Arguments<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let folder = self.tree.node(asked.node)?;
        let node = self.tree.node(arguments.take::<wire::LinkIn>()?.node)?;
        let name = arguments.string()?;
        rustix::fs::linkat(rustix::fs::CWD, node.path(), &*folder, checked(name)?, AtFlags::SYMLINK_FOLLOW)?;
        let entry = self.entry(asked.node, name)?;
        reply.put(entry.as_bytes())
    }

    pub(super) fn create(
        &self,
        asked: &Asked,
        mut arguments: Arguments<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let folder = self.tree.node(asked.node)?;
        let wanted: wire::CreateIn = arguments.take()?;
        let name = arguments.string()?;
        let flags = OFlags::from_bits_truncate(wanted.flags) & (OPEN_FLAGS | OFlags::ACCMODE);
        let mode = wanted.mode & !wanted.umask & PERMISSIONS;
        let safely = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let create = |exclusive: OFlags| {
            let flags = flags | safely | OFlags::CREATE | exclusive;
            rustix::fs::openat(&*folder, checked(name)?, flags, Mode::from_raw_mode(mode))
        };
        // Whether it is new decides whose it is; a guest that did not know a file of the host opens that.
        let (fd, new) = match create(OFlags::EXCL) {
            Err(Errno::EXIST) if !flags.contains(OFlags::EXCL) => (create(OFlags::empty())?, false),
            fd => (fd?, true),
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(Errno::NXIO);
        }
        match new {
            true => self.made(asked, &folder, name, Some(mode), reply)?,
            false => reply.put(self.entry(asked.node, name)?.as_bytes())?,
        }
        reply.put(wire::OpenOut { handle: self.keep(fd)?, ..Default::default() }.as_bytes())
    }
}

/// In the encoding of the protocol, which is the kernel's own for 32 bits (new_encode_dev in include/linux/kdev_t.h).
fn device_number(device: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn set_mode(node: &Node, mode: u32) -> Result<(), Errno> {
    match node.kind() {
        FileType::Symlink => Err(Errno::OPNOTSUPP),
        _ => rustix::fs::chmod(node.path(), Mode::from_raw_mode(mode & PERMISSIONS)),
    }
}

fn set_times(node: &Node, sets: Sets, wanted: &wire::SetAttributesIn) -> Result<(), Errno> {
    if !sets.intersects(Sets::ATIME | Sets::MTIME) {
        return Ok(());
    }
    let time = |set: Sets, now: Sets, seconds: u64, nanoseconds: u32| {
        let tv_nsec = match (sets.contains(set), sets.contains(now)) {
            (false, _) => UTIME_OMIT,
            (true, true) => UTIME_NOW,
            (true, false) => nanoseconds.min(999_999_999).into(),
        };
        Timespec { tv_sec: seconds as i64, tv_nsec }
    };
    let times = Timestamps {
        last_access: time(Sets::ATIME, Sets::ATIME_NOW, wanted.atime, wanted.atime_nsec),
        last_modification: time(Sets::MTIME, Sets::MTIME_NOW, wanted.mtime, wanted.mtime_nsec),
    };
    rustix::fs::utimensat(node.as_fd(), "", &times, AtFlags::EMPTY_PATH)
}
