//! A root filesystem is a detached mount: made here, attached by the new process in its own mount namespace.
//! Nothing is ever mounted in the engine's namespace, so nothing is left when the engine dies.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};
use sys::mounts::{MountAttributes, Propagation, mount_setattr};

use crate::ids::IdMap;
use crate::launch::{BindMount, Device, PreparedMount, TmpfsMount};

/// Root file system: an overlay of read-only layers and one writable folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Layer folders, lowest first.
    pub layers: Vec<PathBuf>,
    /// Writable layer.
    pub upper: PathBuf,
    /// Overlay's work folder on the same file system.
    pub work: PathBuf,
}

/// A kernel call that prepares a launch failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct PrepareError {
    /// What was being made.
    pub what: String,
    /// The kernel's answer.
    #[source]
    pub source: Errno,
}

trait While<T> {
    fn when(self, what: impl FnOnce() -> String) -> Result<T, PrepareError>;
}

impl<T> While<T> for Result<T, Errno> {
    fn when(self, what: impl FnOnce() -> String) -> Result<T, PrepareError> {
        self.map_err(|source| PrepareError { what: what(), source })
    }
}

/// The default device nodes: (name, major, minor); see security defaults of the OCI runtime specification.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Links of /dev: (name, destination).
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// `source` is what /proc/mounts and df(1) show in the first column.
fn new_fs(name: &str, source: &str) -> Result<OwnedFd, Errno> {
    let fs = mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)?;
    mount::fsconfig_set_string(fs.as_fd(), "source", source)?;
    Ok(fs)
}

fn finish(fs: &OwnedFd, attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    mount::fsconfig_create(fs.as_fd())?;
    mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Features of an overlay that would make an upper folder depend on what lies below it. A layer is made by taking the upper folder
/// alone, so they are off, whatever the kernel was built or told to do by itself.
const OVERLAY_OPTIONS: [(&str, &str); 3] = [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")];

fn new_overlay(layers: &[PathBuf]) -> Result<OwnedFd, Errno> {
    let fs = new_fs("overlay", "overlay")?;
    for (option, value) in OVERLAY_OPTIONS {
        mount::fsconfig_set_string(fs.as_fd(), option, value)?;
    }
    for layer in layers.iter().rev() {
        mount::fsconfig_set_string(fs.as_fd(), "lowerdir+", layer.as_path())?;
    }
    Ok(fs)
}

/// An overlay of `root`.
///
/// # Errors
/// A folder is missing or the kernel refuses the overlay.
pub fn overlay(root: &Root) -> Result<OwnedFd, PrepareError> {
    let make = || {
        let fs = new_overlay(&root.layers)?;
        mount::fsconfig_set_string(fs.as_fd(), "upperdir", root.upper.as_path())?;
        mount::fsconfig_set_string(fs.as_fd(), "workdir", root.work.as_path())?;
        finish(&fs, MountAttrFlags::empty())
    };
    make().when(|| format!("mount overlay with upper folder {}", root.upper.display()))
}

/// Read-only layers, lowest first, as one tree.
///
/// # Errors
/// A folder is missing or the kernel refuses the overlay.
pub fn layers(layers: &[PathBuf]) -> Result<OwnedFd, PrepareError> {
    let make = || {
        if let [only] = layers {
            // The kernel wants two layers, or one and a writable one.
            let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            return rustix::fs::open(only.as_path(), folder, Mode::empty());
        }
        finish(&new_overlay(layers)?, MountAttrFlags::MOUNT_ATTR_RDONLY)
    };
    make().when(|| format!("mount overlay of {} layers", layers.len()))
}

/// Fills `folder` with what every container finds where its image has nothing: mount points, the engine's mark
/// and the link of /etc/mtab. It serves all containers as the lowest layer, so a start makes none of them.
///
/// # Errors
/// The disk is full or read-only.
pub fn base_layer(folder: &Path, ids: IdMap) -> std::io::Result<()> {
    use std::os::unix::fs::{PermissionsExt, lchown};
    if is_base_layer(folder, ids) {
        return Ok(());
    }
    let root = Some(ids.root());
    let give = |path: &str| match ids.is_mapped() {
        true => lchown(folder.join(path), root, root),
        false => Ok(()),
    };
    for path in BASE_FOLDERS {
        std::fs::create_dir_all(folder.join(path))?;
        give(path)?;
    }
    for path in BASE_FILES {
        let file = std::fs::File::create(folder.join(path))?;
        give(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o755))?;
        file.sync_all()?;
    }
    match std::os::unix::fs::symlink("/proc/mounts", folder.join(BASE_LINK)) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => give(BASE_LINK)?,
    }
    std::fs::File::open(folder)?.sync_all()
}

const BASE_FOLDERS: [&str; 5] = ["", "dev", "proc", "sys", "etc"];
const BASE_FILES: [&str; 4] = [".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf"];
const BASE_LINK: &str = "etc/mtab";

/// Whether all of it is there, as at every start of an engine but the first: then nothing has to be written and synced.
fn is_base_layer(folder: &Path, ids: IdMap) -> bool {
    use std::os::unix::fs::MetadataExt;
    let owner = |found: &std::fs::Metadata| {
        !ids.is_mapped() || found.uid() == ids.root() && found.gid() == ids.root()
    };
    let is = |path: &str, kind: fn(&std::fs::Metadata) -> bool| {
        folder.join(path).symlink_metadata().is_ok_and(|found| kind(&found) && owner(&found))
    };
    BASE_FOLDERS.iter().all(|path| is(path, std::fs::Metadata::is_dir))
        && BASE_FILES.iter().all(|path| is(path, |found| found.is_file() && found.mode() & 0o777 == 0o755))
        && is(BASE_LINK, std::fs::Metadata::is_symlink)
}

/// A tmpfs with `mount`'s options, whose owner is told in the container's ids.
///
/// # Errors
/// The kernel refuses an option.
pub fn tmpfs(tmpfs: &TmpfsMount, ids: IdMap) -> Result<OwnedFd, PrepareError> {
    let make = || {
        let fs = new_fs("tmpfs", tmpfs.source)?;
        owned_by_root(&fs, ids)?;
        for (key, value) in &tmpfs.options {
            let moved = moved(key, value, ids)?;
            mount::fsconfig_set_string(fs.as_fd(), key.as_str(), moved.as_deref().unwrap_or(value))?;
        }
        let mount = finish(&fs, MountAttrFlags::empty())?;
        set_attributes(mount.as_fd(), tmpfs.attributes, tmpfs.propagation)?;
        Ok(mount)
    };
    make().when(|| format!("mount tmpfs with options {:?}", tmpfs.options))
}

/// The engine's own POSIX message queues, see mq_overview(7).
///
/// # Errors
/// The kernel has none.
pub fn mqueue() -> Result<OwnedFd, PrepareError> {
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    new_fs("mqueue", "mqueue").and_then(|fs| finish(&fs, flags)).when(|| "mount mqueue".to_owned())
}

/// The container's root owns a new tmpfs.
fn owned_by_root(fs: &OwnedFd, ids: IdMap) -> Result<(), Errno> {
    let root = ids.root().to_string();
    for key in ["uid", "gid"].into_iter().filter(|_| ids.is_mapped()) {
        mount::fsconfig_set_string(fs.as_fd(), key, root.as_str())?;
    }
    Ok(())
}

/// The value of an option that names an owner, in the machine's ids.
fn moved(key: &str, value: &str, ids: IdMap) -> Result<Option<String>, Errno> {
    if !ids.is_mapped() || !matches!(key, "uid" | "gid") {
        return Ok(None);
    }
    let id = value.parse().map_err(|_| Errno::INVAL)?;
    ids.to_host(id).map(|id| Some(id.to_string())).map_err(|_| Errno::INVAL)
}

/// Group `tty`.
const TTY: u32 = 5;

/// A new devpts instance with `ptmxmode=0666,mode=0620,gid=5`.
///
/// # Errors
/// The kernel has no devpts.
pub fn devpts(ids: IdMap) -> Result<OwnedFd, PrepareError> {
    let make = || {
        let fs = new_fs("devpts", "devpts")?;
        let group = tty(ids).to_string();
        for (key, value) in [("ptmxmode", "0666"), ("mode", "0620"), ("gid", group.as_str())] {
            mount::fsconfig_set_string(fs.as_fd(), key, value)?;
        }
        let devpts = finish(&fs, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
        give(devpts.as_fd(), "", ids)?;
        give(devpts.as_fd(), "ptmx", ids)?;
        Ok(devpts)
    };
    make().when(|| "mount devpts".to_owned())
}

/// The machine's number of a container's group `tty`.
pub(crate) fn tty(ids: IdMap) -> u32 {
    ids.to_host(TTY).unwrap_or(TTY)
}

/// Where ids are mapped, what the engine made in `folder` becomes the container's root's.
fn give(folder: BorrowedFd<'_>, name: impl rustix::path::Arg, ids: IdMap) -> Result<(), Errno> {
    if !ids.is_mapped() {
        return Ok(());
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(ids.root()), rustix::fs::Gid::from_raw(ids.root()));
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    rustix::fs::chownat(folder, name, Some(uid), Some(gid), flags)
}

/// A tmpfs for /dev with the default nodes, links and folders, `devices`, and with `terminal` a place to bind the console to.
///
/// # Errors
/// A node cannot be made.
pub fn dev(devices: &[Device], terminal: bool, ids: IdMap) -> Result<OwnedFd, PrepareError> {
    let fs = new_fs("tmpfs", "tmpfs").when(|| "mount /dev".to_owned())?;
    let make = || {
        owned_by_root(&fs, ids)?;
        mount::fsconfig_set_string(fs.as_fd(), "mode", "755")?;
        mount::fsconfig_set_string(fs.as_fd(), "size", "65536k")?;
        let dev = finish(&fs, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME)?;
        for (name, major, minor) in NODES {
            node(dev.as_fd(), name, FileType::CharacterDevice, 0o666, (major, minor))?;
            give(dev.as_fd(), name, ids)?;
        }
        for (name, destination) in LINKS {
            rustix::fs::symlinkat(destination, dev.as_fd(), name)?;
            give(dev.as_fd(), name, ids)?;
        }
        for folder in ["pts", "shm", "mqueue"] {
            rustix::fs::mkdirat(dev.as_fd(), folder, Mode::from_raw_mode(0o755))?;
            give(dev.as_fd(), folder, ids)?;
        }
        if terminal {
            let console = OFlags::CREATE | OFlags::CLOEXEC | OFlags::WRONLY;
            rustix::fs::openat(dev.as_fd(), "console", console, Mode::from_raw_mode(0o600))?;
            give(dev.as_fd(), "console", ids)?;
        }
        Ok(dev)
    };
    let dev = make().when(|| "fill /dev".to_owned())?;
    for device in devices {
        extra_device(dev.as_fd(), device, ids).when(|| format!("make device {}", device.path))?;
    }
    Ok(dev)
}

fn node(dir: BorrowedFd<'_>, name: &str, kind: FileType, mode: u32, device: (u32, u32)) -> Result<(), Errno> {
    let number = rustix::fs::makedev(device.0, device.1);
    rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(mode), number)?;
    // mknod(2) applies the umask.
    rustix::fs::chmodat(dir, name, Mode::from_raw_mode(mode), AtFlags::empty())
}

/// A node of the machine's keeps its owner, as where a runtime binds it.
fn extra_device(dev: BorrowedFd<'_>, device: &Device, ids: IdMap) -> Result<(), Errno> {
    let path = device.path.strip_prefix("/dev/").ok_or(Errno::INVAL)?;
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = make_folders(dev, Path::new(parent), ids)?;
    let kind = if device.block { FileType::BlockDevice } else { FileType::CharacterDevice };
    match node(parent.as_fd(), name, kind, device.mode, (device.major, device.minor)) {
        Err(Errno::EXIST) => return Ok(()),
        other => other?,
    }
    let owner = (rustix::fs::Uid::from_raw(device.uid), rustix::fs::Gid::from_raw(device.gid));
    rustix::fs::chownat(parent.as_fd(), name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)
}

/// A detached copy of a file or folder.
///
/// # Errors
/// The source is missing.
pub fn bind(bind: &BindMount) -> Result<OwnedFd, PrepareError> {
    let make = || {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if bind.recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let mount = mount::open_tree(CWD, bind.source.as_path(), flags)?;
        let set = if bind.readonly { MountAttributes::RDONLY } else { MountAttributes::default() };
        mount_setattr(mount.as_fd(), c"", set, Some(Propagation::Private), bind.recursive)
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        Ok(mount)
    };
    make().when(|| format!("bind {}", bind.source.display()))
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: MountAttributes,
    propagation: Option<Propagation>,
) -> Result<(), Errno> {
    mount_setattr(mount, c"", attributes, propagation, false)
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

/// Opens `path` inside `root` as a process rooted there would see it; symbolic links cannot lead out.
///
/// # Errors
/// Those of openat2(2).
pub fn open_in(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Opens `path` inside `root` like [`open_in`], but only where `is_wanted` says so of what is there: to open a device or a FIFO is
/// to act on it.
///
/// # Errors
/// Those of openat2(2); EACCES where it is not wanted.
pub(crate) fn open_if(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    is_wanted: impl FnOnce(&rustix::fs::Stat, &rustix::fs::StatFs) -> bool,
) -> Result<OwnedFd, Errno> {
    let node = open_in(root, path, OFlags::PATH)?;
    if !is_wanted(&rustix::fs::fstat(&node)?, &rustix::fs::fstatfs(&node)?) {
        return Err(Errno::ACCESS);
    }
    let itself = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&node));
    rustix::fs::open(itself, flags | OFlags::CLOEXEC, Mode::empty())
}

/// Makes every missing folder of `path` inside `root` (mode 0755, owned by the container's root) and opens the last.
///
/// # Errors
/// A component is a file, or a link that leads to nothing.
pub fn make_folders(root: BorrowedFd<'_>, path: &Path, ids: IdMap) -> Result<OwnedFd, Errno> {
    let folder = OFlags::PATH | OFlags::DIRECTORY;
    if let Ok(found) = open_in(root, if path.as_os_str().is_empty() { Path::new(".") } else { path }, folder)
    {
        return Ok(found);
    }
    let mut so_far = std::path::PathBuf::from("/");
    let mut current = open_in(root, Path::new("/"), folder)?;
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        so_far.push(name);
        current = match open_in(root, &so_far, folder) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(current.as_fd(), name, Mode::from_raw_mode(0o755)) {
                    Ok(()) => give(current.as_fd(), name, ids)?,
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                open_in(root, &so_far, folder)?
            }
            other => other?,
        };
    }
    Ok(current)
}

fn is_folder(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Makes `path` exist in `root` so that something like `like` (a folder where `None`) can be attached there.
///
/// # Errors
/// As [`make_folders`]; ENOTDIR where one is a folder and the other is not.
pub fn make_mount_point(
    root: BorrowedFd<'_>,
    path: &Path,
    like: Option<&Path>,
    ids: IdMap,
) -> Result<(), PrepareError> {
    let like = match like {
        None => None,
        Some(like) => {
            let found = rustix::fs::stat(like).when(|| format!("stat {}", like.display()))?;
            Some((like.display().to_string(), is_folder(&found)))
        }
    };
    mount_point(root, path, like.as_ref().map(|(name, folder)| (name.as_str(), *folder)), ids)
}

/// [`make_mount_point`] for a mount that is ready.
///
/// # Errors
/// As [`make_mount_point`].
pub fn make_place_of(
    root: BorrowedFd<'_>,
    path: &Path,
    prepared: &PreparedMount,
    ids: IdMap,
) -> Result<(), PrepareError> {
    let found = rustix::fs::fstat(&prepared.mount).when(|| format!("stat {}", prepared.source))?;
    mount_point(root, path, Some((&prepared.source, is_folder(&found))), ids)
}

/// Makes `path` exist in `root` as a folder, or as a file where `like`, what will be attached there, is none.
fn mount_point(
    root: BorrowedFd<'_>,
    path: &Path,
    like: Option<(&str, bool)>,
    ids: IdMap,
) -> Result<(), PrepareError> {
    let folder = like.is_none_or(|(_, folder)| folder);
    if let Ok(there) = open_in(root, path, OFlags::PATH) {
        let found = rustix::fs::fstat(there).when(|| format!("stat {}", path.display()))?;
        return match like {
            Some((like, _)) if is_folder(&found) != folder => Err(PrepareError {
                what: format!("error mounting {like:?} to rootfs at {path:?}"),
                source: Errno::NOTDIR,
            }),
            _ => Ok(()),
        };
    }
    let make = || {
        if folder {
            return make_folders(root, path, ids).map(drop);
        }
        let parent = make_folders(root, path.parent().unwrap_or(Path::new("/")), ids)?;
        let name = path.file_name().unwrap_or(OsStr::from_bytes(b"."));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(parent.as_fd(), name, flags, Mode::from_raw_mode(0o755)) {
            Ok(_) => give(parent.as_fd(), name, ids),
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error),
        }
    };
    make().when(|| format!("make mount point {}", path.display()))
}
