//! A tar stream from a client into a hostile container.
//!
//! A member's folder is opened below the destination, or, where a symbolic link is on the way, by the kernel inside
//! the container's root. In it, everything is made new by its last component and given its owner and mode
//! through the descriptor of what was made. Nothing that exists is ever opened for writing.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use runtime::ids::IdMap;
use runtime::launch::UserIds;
use runtime::view::View;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags, chmod, chownat, fchmod, fchown, fstat, futimens,
    linkat, makedev, mkdirat, mknodat, openat, setxattr, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::pack::proc_path;
use super::share::Share;
use super::walk::{below, names};
use crate::layer::{
    Archive, Kind, LayerError, Member, Refused, clean, create, decompressor, set_metadata, split, times,
    tolerate, xattrs,
};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Deepest tree of folders that a file may replace.
const DEPTH_MAX: usize = 200;
/// How much more is read from a client after its archive was refused, so that it hears why, in bytes.
const REST_MAX: u64 = 64 << 20;

/// Where an archive is extracted to.
pub struct Target {
    /// A folder, open.
    pub folder: OwnedFd,
    /// Its path in the container with every link followed, without a slash at its end.
    pub path: Vec<u8>,
}

/// Whom what is extracted belongs to.
pub struct Whose {
    /// How the container's ids stand to the machine's.
    pub ids: IdMap,
    /// All of it belongs to them, whatever the archive says.
    pub owner: Option<UserIds>,
}

/// Extracts everything.
pub fn extract(
    view: &View,
    target: Target,
    keep_kinds: bool,
    whose: Whose,
    mut archive: impl BufRead,
) -> Result<(), LayerError> {
    let done = decompressor(&mut archive).map_err(LayerError::Read).and_then(|reader| {
        let mut archive = Archive::new(reader);
        let extractor = Extractor {
            view,
            target,
            keep_kinds,
            whose,
            open: None,
            folder_times: vec![],
            buffer: vec![0; 128 << 10],
        };
        extractor.run(&mut archive)
    });
    // What follows the end mark, or what the client still sends of an archive that was refused.
    let rest = if done.is_ok() { u64::MAX } else { REST_MAX };
    let _ = io::copy(&mut archive.take(rest), &mut io::sink());
    done
}

struct Extractor<'a> {
    view: &'a View,
    target: Target,
    keep_kinds: bool,
    whose: Whose,
    /// The folder that was needed last.
    open: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Times of folders are set at the end, since making what is in them changes them.
    folder_times: Vec<(Vec<u8>, (i64, u32))>,
    buffer: Vec<u8>,
}

impl Extractor<'_> {
    fn run(mut self, archive: &mut Archive<impl Read>) -> Result<(), LayerError> {
        while let Some(mut member) = archive.next_member()? {
            let path = self.cleaned(&member.path)?;
            if let Some(owner) = &self.whose.owner {
                (member.uid, member.gid) = (owner.uid, owner.gid);
            }
            member.belong(self.whose.ids)?;
            self.member(&path, &member, archive).map_err(|refused| match refused {
                Refused::Io(source) => LayerError::write(&path, source),
                Refused::Layer(error) => error,
            })?;
        }
        self.set_folder_times();
        Ok(())
    }

    fn destination(&self) -> String {
        if self.target.path.is_empty() { "/".to_owned() } else { lossy(&self.target.path) }
    }

    /// A name of the archive below the destination, empty for itself.
    fn cleaned(&self, name: &[u8]) -> Result<Vec<u8>, LayerError> {
        clean(name).map_err(|error| match error {
            LayerError::Outside(name) => {
                LayerError::Refused(format!("{name:?} is outside of {:?}", self.destination()))
            }
            other => other,
        })
    }

    fn member(
        &mut self,
        path: &[u8],
        member: &Member,
        archive: &mut Archive<impl Read>,
    ) -> Result<(), Refused> {
        let (parent, last) = split(path);
        if last.is_empty() {
            return self.destination_itself(member);
        }
        let folder = self.folder(parent)?;
        let present = statat(&folder, last, AtFlags::SYMLINK_NOFOLLOW)
            .ok()
            .map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        match (present, member.kind == Kind::Folder) {
            (Some(true), true) => return self.known_folder(&folder, path, member),
            (Some(old), new) => {
                if self.keep_kinds && old != new {
                    return Err(self.kinds_differ(path, old).into());
                }
                self.open = None;
                remove_all(folder.as_fd(), last, 0)?;
            }
            (None, _) => {}
        }
        self.make(&folder, path, member, archive)
    }

    /// dockerd leaves the destination alone when the archive calls it `.`, and takes over what `/` says of it.
    fn destination_itself(&mut self, member: &Member) -> Result<(), Refused> {
        if member.kind != Kind::Folder {
            return Err(LayerError::Malformed("a member without a name is not a folder").into());
        }
        if member.path.starts_with(b"/") {
            set_metadata(&self.target.folder, member)?;
        }
        Ok(())
    }

    fn kinds_differ(&self, path: &[u8], present_folder: bool) -> LayerError {
        let whole = lossy(&[self.target.path.as_slice(), b"/", path].concat());
        let destination = self.destination();
        LayerError::Refused(match present_folder {
            true => format!("cannot overwrite directory {whole:?} with non-directory {destination:?}"),
            false => format!("cannot overwrite non-directory {whole:?} with directory {destination:?}"),
        })
    }

    /// The folder at a cleaned path; missing ones are made.
    fn folder(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        if let Some((known, folder)) = &self.open
            && known == path
        {
            return Ok(folder.clone());
        }
        let folder = Rc::new(match self.existing(path) {
            Err(Errno::NOENT) => self.make_folders(path)?,
            other => other?,
        });
        self.open = Some((path.to_vec(), folder.clone()));
        Ok(folder)
    }

    fn existing(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        if path.is_empty() {
            return openat(&self.target.folder, ".", FOLDER, Mode::empty());
        }
        match below(self.target.folder.as_fd(), path, FOLDER) {
            // A link on the way leads to wherever it does in the container.
            Err(Errno::LOOP) => self.view.open(&[self.target.path.as_slice(), b"/", path].concat(), FOLDER),
            other => other,
        }
    }

    fn make_folders(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut folder = self.existing(b"")?;
        for end in ends.chain([path.len()]) {
            folder = match self.existing(&path[..end]) {
                Err(Errno::NOENT) => {
                    let (_, last) = split(&path[..end]);
                    self.make_folder(&folder, last)?
                }
                other => other?,
            };
        }
        Ok(folder)
    }

    fn make_folder(&self, parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
        mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
        let folder = openat(parent, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        let Whose { ids, owner } = &self.whose;
        if ids.is_mapped() || owner.is_some() {
            let (uid, gid) = owner.as_ref().map_or((0, 0), |owner| (owner.uid, owner.gid));
            let moved = |id: u32| ids.to_host(id).map_err(|_| Errno::INVAL);
            fchown(&folder, Some(Uid::from_raw(moved(uid)?)), Some(Gid::from_raw(moved(gid)?)))?;
        }
        // mkdirat obeys the umask.
        fchmod(&folder, Mode::from_raw_mode(0o755))?;
        Ok(folder)
    }

    fn known_folder(&mut self, folder: &OwnedFd, path: &[u8], member: &Member) -> Result<(), Refused> {
        let (_, last) = split(path);
        let known = openat(folder, last, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        set_metadata(&known, member)?;
        self.folder_times.push((path.to_vec(), member.mtime));
        Ok(())
    }

    fn make(
        &mut self,
        folder: &OwnedFd,
        path: &[u8],
        member: &Member,
        archive: &mut Archive<impl Read>,
    ) -> Result<(), Refused> {
        let (_, last) = split(path);
        match &member.kind {
            Kind::Folder => {
                mkdirat(folder, last, Mode::from_raw_mode(0o700))?;
                self.known_folder(folder, path, member)
            }
            Kind::File { size } => {
                let file = File::from(create(folder.as_fd(), last)?);
                archive.write_to(&file, *size, &mut self.buffer)?;
                set_metadata(&file, member)?;
                Ok(futimens(&file, &times(member.mtime))?)
            }
            Kind::HardLink { target } => self.hard_link(folder, path, target),
            Kind::Symlink { target } => {
                symlinkat(target.as_slice(), folder, last)?;
                node_metadata(folder.as_fd(), last, member)
            }
            Kind::Character { major, minor } => {
                self.node(folder, last, member, FileType::CharacterDevice, (*major, *minor))
            }
            Kind::Block { major, minor } => {
                self.node(folder, last, member, FileType::BlockDevice, (*major, *minor))
            }
            Kind::Fifo => self.node(folder, last, member, FileType::Fifo, (0, 0)),
        }
    }

    /// The target is a name in the archive; its last component is not followed when it is a link.
    fn hard_link(&mut self, folder: &OwnedFd, path: &[u8], target: &[u8]) -> Result<(), Refused> {
        let Ok(cleaned) = clean(target) else {
            let text = format!("invalid hardlink {:?} -> {:?}", lossy(target), lossy(path));
            return Err(LayerError::Refused(text).into());
        };
        let (parent, from_last) = split(&cleaned);
        let (_, last) = split(path);
        let from = self.existing(parent)?;
        Ok(linkat(&from, from_last, folder, last, AtFlags::empty())?)
    }

    fn node(
        &self,
        folder: &OwnedFd,
        last: &[u8],
        member: &Member,
        kind: FileType,
        (major, minor): (u32, u32),
    ) -> Result<(), Refused> {
        mknodat(folder, last, kind, Mode::from_raw_mode(0o600), makedev(major, minor))?;
        node_metadata(folder.as_fd(), last, member)
    }

    /// The last member of a path wins. A folder that was replaced since has no time to set.
    fn set_folder_times(&mut self) {
        for (path, mtime) in std::mem::take(&mut self.folder_times) {
            if let Ok(folder) = below(self.target.folder.as_fd(), &path, FOLDER) {
                let result = futimens(&folder, &times(mtime));
                tracing::trace!("time of {}: {result:?}", lossy(&path));
            }
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Owner, mode and time of what cannot be opened. All but the first call act on the node that is open, for the
/// container may put a link in its place at any time.
fn node_metadata(folder: BorrowedFd<'_>, last: &[u8], member: &Member) -> Result<(), Refused> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = openat(folder, last, flags, Mode::empty())?;
    let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
    chownat(&node, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    let symlink = FileType::from_raw_mode(fstat(&node)?.st_mode) == FileType::Symlink;
    let path = proc_path(node.as_fd());
    if !symlink {
        chmod(path.as_slice(), Mode::from_raw_mode(member.mode))?;
        for (name, value) in xattrs(member) {
            tolerate(setxattr(path.as_slice(), name, value, XattrFlags::empty()), name)?;
        }
    }
    Ok(utimensat(&node, "", &times(member.mtime), AtFlags::EMPTY_PATH)?)
}

/// Removes a file, or a folder with what is in it.
fn remove_all(folder: BorrowedFd<'_>, name: &[u8], depth: usize) -> Result<(), Refused> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return Ok(other?),
    }
    if depth == DEPTH_MAX {
        return Err(Errno::NAMETOOLONG.into());
    }
    let inner = openat(folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
    for child in names(&inner, &mut Share::default())? {
        remove_all(inner.as_fd(), &child, depth + 1)?;
    }
    Ok(unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}
