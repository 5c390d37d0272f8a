//! What a container changed, told as dockerd tells it: its writable folder compared with its image.
//!
//! overlayfs notes a removal as a character device 0:0, and a folder that hides the image's by the attribute
//! `trusted.overlay.opaque` (Documentation/filesystems/overlayfs.rst).

// All of it runs on a file worker.
#![allow(clippy::disallowed_methods)]

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, getxattr, openat, statat};

use content::archive::pack::proc_path;
use content::archive::share::Share;
use content::archive::walk::{Met, NAME_COST, Onward, below, names, walk};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It, or something in it, is different.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute path.
    pub path: String,
    /// What happened.
    pub kind: ChangeKind,
}

/// Compares the writable folder with the tree below it.
pub(super) fn compare(upper: &Path, lower: OwnedFd) -> io::Result<Vec<Change>> {
    let upper = match rustix::fs::open(upper, FOLDER, Mode::empty()) {
        // Never started: the folder is made at the start.
        Err(rustix::io::Errno::NOENT) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Comparison { lower, opaque: None, changes: HashMap::new(), share: Share::default() };
    walk(upper.as_fd(), |met| found.look_at(&met))?;
    Ok(found.finish())
}

struct Comparison {
    lower: OwnedFd,
    /// The outermost folder on the way that hides the image's.
    opaque: Option<Vec<u8>>,
    changes: HashMap<Vec<u8>, ChangeKind>,
    /// The memory that they take.
    share: Share,
}

impl Comparison {
    fn look_at(&mut self, met: &Met<'_>) -> io::Result<Onward> {
        let Ok(new) = statat(met.folder, met.name, AtFlags::SYMLINK_NOFOLLOW) else {
            return Ok(Onward::Past);
        };
        let old = self.old(met.path);
        if FileType::from_raw_mode(new.st_mode) == FileType::CharacterDevice && new.st_rdev == 0 {
            if old.is_some() {
                self.note(met.path.to_vec(), ChangeKind::Deleted)?;
            }
            return Ok(Onward::Past);
        }
        let folder = is_folder(&new);
        match &old {
            None => self.note(met.path.to_vec(), ChangeKind::Added)?,
            Some(old) => {
                if differs(old, &new) || folder != is_folder(old) || self.capability_differs(met) {
                    self.note(met.path.to_vec(), ChangeKind::Modified)?;
                }
                self.removed_inside(met, is_folder(old), folder)?;
            }
        }
        Ok(if folder { Onward::Into } else { Onward::Past })
    }

    fn note(&mut self, path: Vec<u8>, kind: ChangeKind) -> io::Result<()> {
        if self.share.grow(path.len() + NAME_COST).is_err() {
            return Err(io::Error::other("the container has too many changes to tell"));
        }
        self.changes.insert(path, kind);
        Ok(())
    }

    fn old(&self, path: &[u8]) -> Option<Stat> {
        let node = below(self.lower.as_fd(), path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        rustix::fs::fstat(node).ok()
    }

    fn capability_differs(&self, met: &Met<'_>) -> bool {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let new = openat(met.folder, met.name, flags | OFlags::CLOEXEC, Mode::empty());
        let old = below(self.lower.as_fd(), met.path, flags);
        let capability = |node: BorrowedFd<'_>| {
            let mut value = [0; 64];
            let count = getxattr(proc_path(node).as_slice(), "security.capability", &mut value).unwrap_or(0);
            value[..count].to_vec()
        };
        matches!((new, old), (Ok(new), Ok(old)) if capability(new.as_fd()) != capability(old.as_fd()))
    }

    /// What the image's folder of this path has and the container's has not any more, without a note of each.
    fn removed_inside(&mut self, met: &Met<'_>, old_folder: bool, new_folder: bool) -> io::Result<()> {
        if !old_folder {
            return Ok(());
        }
        let (mut kept, mut share) = (HashSet::new(), Share::default());
        if new_folder {
            let Ok(folder) = openat(met.folder, met.name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) else {
                return Ok(());
            };
            if !self.hides(met.path, &folder) {
                return Ok(());
            }
            kept.extend(names(&folder, &mut share)?);
        }
        let Ok(old) = below(self.lower.as_fd(), met.path, FOLDER) else { return Ok(()) };
        for name in names(&old, &mut share)?.into_iter().filter(|name| !kept.contains(name)) {
            let path = [met.path, b"/", name.as_slice()].concat();
            self.note(path, ChangeKind::Deleted)?;
        }
        Ok(())
    }

    /// Whether a folder is opaque, or is in one that is.
    fn hides(&mut self, path: &[u8], folder: &OwnedFd) -> bool {
        let inside =
            |outer: &Vec<u8>| path.strip_prefix(outer.as_slice()).is_some_and(|p| p.starts_with(b"/"));
        if self.opaque.as_ref().is_some_and(inside) {
            return true;
        }
        let mut value = [0; 8];
        let opaque = fgetxattr(folder, "trusted.overlay.opaque", &mut value);
        let opaque = opaque.is_ok_and(|count| &value[..count] == b"y");
        self.opaque = opaque.then(|| path.to_vec());
        opaque
    }

    /// Sorted, with the folders around each change.
    fn finish(self) -> Vec<Change> {
        let mut all = self.changes;
        let paths: Vec<Vec<u8>> = all.keys().cloned().collect();
        for path in paths {
            let mut rest = path.as_slice();
            while let Some(slash) = rest.iter().rposition(|byte| *byte == b'/') {
                rest = &rest[..slash];
                all.entry(rest.to_vec()).or_insert(ChangeKind::Modified);
            }
        }
        let mut all: Vec<_> = all.into_iter().collect();
        // As a walk meets them: `/a/b` before `/a-b`.
        all.sort_by(|a, b| a.0.split(|c| *c == b'/').cmp(b.0.split(|c| *c == b'/')));
        let told = |(path, kind): (Vec<u8>, ChangeKind)| Change {
            path: format!("/{}", String::from_utf8_lossy(&path)),
            kind,
        };
        all.into_iter().map(told).collect()
    }
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// A folder's time and size change with what is in it and are told there.
fn differs(old: &Stat, new: &Stat) -> bool {
    let kept = (old.st_mode, old.st_uid, old.st_gid, old.st_rdev)
        == (new.st_mode, new.st_uid, new.st_gid, new.st_rdev);
    let content =
        (old.st_size, old.st_mtime, old.st_mtime_nsec) == (new.st_size, new.st_mtime, new.st_mtime_nsec);
    !kept || !is_folder(new) && !content
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, XattrFlags, mknodat, setxattr};
    use std::fs;

    fn told(lower: &Path, upper: &Path) -> Vec<String> {
        let lower = OwnedFd::from(fs::File::open(lower).unwrap());
        let letter = |kind| match kind {
            ChangeKind::Modified => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        let changes = compare(upper, lower).unwrap();
        changes.iter().map(|change| format!("{} {}", letter(change.kind), change.path)).collect()
    }

    fn whiteout(path: &Path) {
        mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }

    #[test]
    fn every_kind_of_change_is_told() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (lower, upper) = (dir.path().join("lower"), dir.path().join("upper"));
        for folder in ["etc", "gone", "swapped/in", "hidden/deep", "same", "typed"] {
            fs::create_dir_all(lower.join(folder)).unwrap();
        }
        for file in ["etc/a", "etc/b", "swapped/x", "hidden/y", "same/z", "hidden/deep/w", "typed/t"] {
            fs::write(lower.join(file), "old").unwrap();
        }
        for folder in ["etc", "hidden/deep", "same", "new/sub"] {
            fs::create_dir_all(upper.join(folder)).unwrap();
        }
        fs::write(upper.join("etc/a"), "newer").unwrap();
        whiteout(&upper.join("etc/b"));
        whiteout(&upper.join("gone"));
        whiteout(&upper.join("never-was"));
        fs::write(upper.join("new/sub/file"), "").unwrap();
        fs::write(upper.join("new-file"), "").unwrap();
        setxattr(upper.join("hidden"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
        fs::write(upper.join("typed"), "").unwrap();
        let expected = [
            "C /etc",
            "C /etc/a",
            "D /etc/b",
            "D /gone",
            "C /hidden",
            "C /hidden/deep",
            "D /hidden/deep/w",
            "D /hidden/y",
            "A /new",
            "A /new/sub",
            "A /new/sub/file",
            "A /new-file",
            "C /typed",
            "D /typed/t",
        ];
        assert_eq!(told(&lower, &upper), expected);
        assert!(told(&lower, &dir.path().join("no-such")).is_empty());
    }
}
