//! Goes through a folder tree that somebody changes meanwhile, in order, without recursion and with few
//! descriptors however deep it is.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::share::Share;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);
/// Folders on the way that stay open; deeper ones are opened again from the top.
const OPEN_MAX: usize = 32;
/// What a name takes beyond its own bytes.
pub const NAME_COST: usize = 64;
/// Longest path, in bytes: PATH_MAX of limits.h. Nothing deeper can be named, and what waits on the way to it would take memory by
/// the square of the depth.
pub const PATH_MAX: usize = 4096;
/// How often a path is tried that somebody moves about.
const TRIES: usize = 128;

/// Something met on the way.
pub struct Met<'a> {
    /// The folder it is in.
    pub folder: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a [u8],
    /// Its path from the top, without a slash at the start.
    pub path: &'a [u8],
}

/// Where to go from something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onward {
    /// Into the folder it is.
    Into,
    /// To the next.
    Past,
}

struct Frame {
    path: Vec<u8>,
    names: std::vec::IntoIter<Vec<u8>>,
    folder: Option<OwnedFd>,
}

/// Shows `visit` everything below `top`, folders before what is in them, names in byte order. A folder that
/// cannot be opened (any more) is passed.
///
/// # Errors
/// Those of `visit`, and a tree of more names than memory should hold.
pub fn walk(top: BorrowedFd<'_>, mut visit: impl FnMut(Met<'_>) -> io::Result<Onward>) -> io::Result<()> {
    let folder = openat(top, ".", FOLDER, Mode::empty())?;
    let mut waiting = Share::default();
    let mut stack = vec![frame(Vec::new(), folder, &mut waiting)?];
    while let Some(depth) = stack.len().checked_sub(1) {
        let frame_now = &mut stack[depth];
        let Some(name) = frame_now.names.next() else {
            stack.pop();
            continue;
        };
        waiting.shrink(name.len() + NAME_COST);
        if frame_now.folder.is_none() {
            frame_now.folder = again(top, &frame_now.path).ok();
        }
        let Some(folder) = &frame_now.folder else { continue };
        let path = if frame_now.path.is_empty() {
            name.clone()
        } else {
            [frame_now.path.as_slice(), b"/", &name].concat()
        };
        let met = Met { folder: folder.as_fd(), name: &name, path: &path };
        if visit(met)? == Onward::Past || path.len() > PATH_MAX {
            continue;
        }
        let Ok(inner) = openat(folder, name.as_slice(), FOLDER | OFlags::NOFOLLOW, Mode::empty()) else {
            continue;
        };
        if depth >= OPEN_MAX {
            frame_now.folder = None;
        }
        stack.push(frame(path, inner, &mut waiting)?);
    }
    Ok(())
}

fn frame(path: Vec<u8>, folder: OwnedFd, waiting: &mut Share) -> io::Result<Frame> {
    let names = names(&folder, waiting)?;
    Ok(Frame { path, names: names.into_iter(), folder: Some(folder) })
}

/// The sorted names in a folder, which take their memory from `share`.
pub fn names(folder: &OwnedFd, share: &mut Share) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        share.grow(name.len() + NAME_COST)?;
        names.push(name.to_vec());
    }
    names.sort_unstable();
    Ok(names)
}

fn again(top: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    below(top, path, FOLDER)
}

/// Opens a path below a folder; none of its components may be a link or lead out.
pub fn below(top: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let text = Path::new(OsStr::from_bytes(path));
    for _ in 0..TRIES {
        match openat2(top, text, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename elsewhere made it uncertain, see openat2(2).
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(top: &Path) -> Vec<String> {
        let top = std::fs::File::open(top).unwrap();
        let mut paths = Vec::new();
        walk(top.as_fd(), |met| {
            paths.push(String::from_utf8_lossy(met.path).into_owned());
            Ok(if met.name == b"past" { Onward::Past } else { Onward::Into })
        })
        .unwrap();
        paths
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["b/c", "past/hidden", "a"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        std::fs::write(dir.path().join("b/z"), "").unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("link")).unwrap();
        assert_eq!(seen(dir.path()), ["a", "b", "b/c", "b/z", "link", "past"]);
    }

    #[test]
    fn a_deep_tree_needs_few_descriptors_and_no_stack() {
        let dir = tempfile::tempdir().unwrap();
        let deep = vec!["d"; 1500].join("/");
        std::fs::create_dir_all(dir.path().join(&deep)).unwrap();
        std::fs::write(dir.path().join("d/x"), "").unwrap();
        let paths = seen(dir.path());
        assert_eq!((paths.len(), paths.last().map(String::as_str)), (1501, Some("d/x")));
    }
}
