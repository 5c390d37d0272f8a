//! What Linux and macOS have in common.

use super::NotPrivate;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, chdir, geteuid, setsid};
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tokio::signal::unix::{Signal as UnixSignal, SignalKind, signal};

/// Permission bits of a group and of everybody else.
const OTHERS: u32 = 0o077;
/// What macOS gives at most (its sys/syslimits.h).
const OPEN_MAX: u64 = 10_240;

/// The limit of open files that this process began with, once it was raised.
static OPEN_FILES: OnceLock<u64> = OnceLock::new();

/// Below which folder appliances live that were given none: /var/lib/pinnace for root, XDG_STATE_HOME (or ~/.local/state)
/// for others; nothing where a user has neither.
pub fn state_folder() -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some("/var/lib/pinnace".into());
    }
    let absolute = |key: &str| std::env::var_os(key).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(state?.join("pinnace"))
}

/// Options that open a file for its owner alone, and follow no link in its place.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600).custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
}

/// Makes a folder for its owner alone. One that is there already and empty is closed to others.
pub fn make_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let meta = std::fs::metadata(folder)?;
    if meta.uid() == geteuid().as_raw() && meta.mode() & OTHERS != 0 && is_empty(folder)? {
        std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Everything in an appliance's folder is trusted, and opened by whoever runs `pinnace`, who may be root. So, as with tmux
/// and ssh, nobody else may be able to put anything there. An empty folder holds nothing to trust, and is closed before
/// something is put into it.
pub fn not_private(folder: &Path) -> io::Result<Option<NotPrivate>> {
    let meta = std::fs::metadata(folder)?;
    Ok(match meta.mode() & 0o7777 {
        _ if meta.uid() != geteuid().as_raw() => Some(NotPrivate::Foreign { owner: meta.uid() }),
        mode if mode & OTHERS != 0 && !is_empty(folder)? => Some(NotPrivate::Open { mode }),
        _ => None,
    })
}

fn is_empty(folder: &Path) -> io::Result<bool> {
    Ok(std::fs::read_dir(folder)?.next().is_none())
}

/// Whether the path still leads to this open file.
pub fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    let identity = |meta: Metadata| (meta.dev(), meta.ino());
    match std::fs::symlink_metadata(path) {
        Ok(meta) => Ok(identity(meta) == identity(file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A process with this number exists.
pub fn process_lives(pid: u32) -> bool {
    one_process(pid).is_some_and(|pid| kill(pid, None) != Err(Errno::ESRCH))
}

/// Asks a process to end.
pub fn terminate(pid: u32) {
    send(pid, Signal::SIGTERM);
}

/// Ends a process.
pub fn kill_process(pid: u32) {
    send(pid, Signal::SIGKILL);
}

/// A number that kill(2) takes for one process; 0 and negative ones mean groups.
fn one_process(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().filter(|pid| *pid > 0).map(Pid::from_raw)
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = one_process(pid) {
        // It may have ended in this moment.
        let _ = kill(pid, signal);
    }
}

/// How many files the programs that this process starts may open: what it may itself, until [`raise_open_files`].
pub fn open_files_of_children() -> u64 {
    OPEN_FILES.get().copied().or_else(|| Some(getrlimit(Resource::RLIMIT_NOFILE).ok()?.0)).unwrap_or(1024)
}

/// As many files as this process may open at most (getrlimit(2), RLIMIT_NOFILE). The usual limit of 1024 is meant for
/// programs that use select(2).
pub fn raise_open_files() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if OPEN_FILES.set(soft).is_ok() && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() {
        // macOS tells "unlimited" and takes no more than its OPEN_MAX. Where that fails too, the limit stays.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, OPEN_MAX.max(soft).min(hard), hard);
    }
}

/// Puts the limit back for a program that this process becomes.
pub fn lower_open_files(soft: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard)?)
}

/// Wishes to end that come as signals: from a terminal, or from whoever shuts this host down.
pub struct EndWishes {
    terminate: UnixSignal,
    interrupt: UnixSignal,
}

impl EndWishes {
    /// Begins to listen.
    pub fn listen() -> io::Result<EndWishes> {
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(EndWishes { terminate: signal(terminate)?, interrupt: signal(interrupt)? })
    }

    /// The next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A process leaves its terminal by itself here: see [`become_daemon`].
pub fn detach(_command: &mut tokio::process::Command) {}

/// A session of its own, so that the terminal's signals pass this process by, and no folder kept busy.
pub fn become_daemon() -> io::Result<()> {
    setsid()?;
    chdir("/")?;
    Ok(())
}

/// What this process makes is for its owner alone, also where it says nothing.
pub fn keep_to_owner() {
    umask(Mode::from_bits_truncate(OTHERS));
}

/// Nobody reads stdout from now on.
pub fn close_stdout() {
    if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
        // Without it, later lines go into a pipe without a reader, which is no harm either.
        let _ = nix::unistd::dup2_stdout(null);
    }
}

/// Whom this host asks for names at this moment.
pub fn resolvers() -> Vec<IpAddr> {
    super::servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_of_mode(mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        folder
    }

    #[test]
    fn a_folder_that_others_may_enter_is_not_private() {
        let check = |mode, want| {
            let folder = folder_of_mode(mode);
            assert_eq!(not_private(folder.path()).unwrap(), None, "an empty one holds nothing to trust");
            std::fs::write(folder.path().join("state.json"), "").unwrap();
            assert_eq!(not_private(folder.path()).unwrap(), want);
        };
        check(0o700, None);
        check(0o755, Some(NotPrivate::Open { mode: 0o755 }));
        check(0o770, Some(NotPrivate::Open { mode: 0o770 }));
        check(0o1777, Some(NotPrivate::Open { mode: 0o1777 }));
    }

    #[test]
    fn an_empty_folder_is_closed_and_one_in_use_is_left() {
        let empty = folder_of_mode(0o755);
        make_private_folder(empty.path()).unwrap();
        assert_eq!(not_private(empty.path()).unwrap(), None);
        let used = folder_of_mode(0o755);
        std::fs::write(used.path().join("file"), "").unwrap();
        make_private_folder(used.path()).unwrap();
        assert!(not_private(used.path()).unwrap().is_some());
    }

    #[test]
    fn no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, link) = (folder.path().join("victim"), folder.path().join("link"));
        std::fs::write(&victim, "text").unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        assert!(super::super::write_private(&link, b"other").is_err());
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "text");
    }

    #[test]
    fn a_path_that_was_replaced_leads_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create(&path).unwrap();
        assert!(leads_to(&path, &file).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!leads_to(&path, &file).unwrap());
        File::create(&path).unwrap();
        assert!(!leads_to(&path, &file).unwrap());
    }

    #[test]
    fn this_process_lives() {
        assert!(process_lives(std::process::id()));
        assert!(!process_lives(u32::MAX) && !process_lives(i32::MAX as u32) && !process_lives(0));
    }
}
