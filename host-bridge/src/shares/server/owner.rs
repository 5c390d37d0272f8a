//! Whose the guest's files are.
//!
//! The server runs as the user who started the machine, and only root may give files away. What containers create is
//! therefore the user's on the host, as the user expects, and in the machine it is whose the container made it: the numbers
//! are kept beside the file in an extended attribute that the guest does not see. Where the server is root, or where the
//! attribute is missing, the host's own numbers count on both sides.

use super::tree::Node;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Uid, XattrFlags};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// The attribute: two decimal numbers with a colon.
pub const RECORD: &str = "user.pinnace.owner";
/// Longest record: two numbers of ten digits.
const RECORD_MAX: usize = 21;
/// S_ISUID, S_ISGID and the permissions.
pub const PERMISSIONS: u32 = 0o7777;

/// The number that stands for no change in chown(2), and is nobody's.
const NOBODY: u32 = u32::MAX;

/// A user and a group by their numbers in the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Owner {
    fn parse(record: &[u8]) -> Option<Owner> {
        let (uid, gid) = std::str::from_utf8(record).ok()?.split_once(':')?;
        Some(Owner { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    }
}

/// How owners are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// As the host's own: the server is root.
    Real,
    /// In [`RECORD`].
    Recorded,
}

impl Owners {
    /// What this process may do.
    pub fn of_this_process() -> Owners {
        if rustix::process::geteuid().is_root() { Owners::Real } else { Owners::Recorded }
    }

    /// Whose a file is in the machine.
    pub fn of(self, node: &Node, stat: &Stat) -> Owner {
        let real = Owner { uid: stat.st_uid, gid: stat.st_gid };
        if self == Owners::Real || !has_records(node) {
            return real;
        }
        let mut record = [0; RECORD_MAX];
        let length = rustix::fs::getxattr(node.path(), RECORD, &mut record).unwrap_or(0);
        record.get(..length).and_then(Owner::parse).unwrap_or(real)
    }

    /// Gives a file to somebody.
    pub fn give(self, node: &Node, owner: Owner) -> Result<(), Errno> {
        if [owner.uid, owner.gid].contains(&NOBODY) {
            return Err(Errno::INVAL);
        }
        if self == Owners::Real {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            return rustix::fs::chownat(node, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
        }
        let stat = node.stat()?;
        if self.of(node, &stat) == owner {
            return Ok(());
        }
        match node.kind() {
            FileType::RegularFile | FileType::Directory => {}
            // Nothing depends on whose a link is, and who unpacks an archive gives its links away as well.
            FileType::Symlink => return Ok(()),
            _ => return Err(Errno::PERM),
        }
        let record = format!("{}:{}", owner.uid, owner.gid);
        let write = || rustix::fs::setxattr(node.path(), RECORD, record.as_bytes(), XattrFlags::empty());
        match write() {
            // The attribute needs the right to write, which its owner can have for a moment (xattr(7)).
            Err(Errno::ACCESS) if stat.st_uid == rustix::process::geteuid().as_raw() => {
                let mode = stat.st_mode & PERMISSIONS;
                rustix::fs::chmod(node.path(), Mode::from_raw_mode(mode | 0o200))?;
                let written = write();
                rustix::fs::chmod(node.path(), Mode::from_raw_mode(mode))?;
                written
            }
            written => written,
        }
        .map_err(|error| if error == Errno::ACCESS { Errno::PERM } else { error })
    }
}

/// Takes set-user-ID and set-group-ID away from a file that is written to, as the kernel does for everybody but root: where
/// this process is root the guest says when.
pub fn drop_set_ids(file: BorrowedFd<'_>) -> Result<(), Errno> {
    let mode = rustix::fs::fstat(file)?.st_mode & PERMISSIONS;
    // Without the right to execute, set-group-ID once meant a mandatory lock (inode(7)).
    let gone = if mode & 0o010 != 0 { 0o6000 } else { 0o4000 };
    match mode & gone {
        0 => Ok(()),
        _ => rustix::fs::fchmod(file, Mode::from_raw_mode(mode & !gone)),
    }
}

/// Only these may have attributes of users (xattr(7)).
fn has_records(node: &Node) -> bool {
    matches!(node.kind(), FileType::RegularFile | FileType::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_two_numbers() {
        assert_eq!(Owner::parse(b"999:0"), Some(Owner { uid: 999, gid: 0 }));
        for broken in ["", "1", "1:", ":1", "1:2:3", "-1:2", "4294967296:0", "a:b"] {
            assert_eq!(Owner::parse(broken.as_bytes()), None, "{broken}");
        }
    }
}
