//! `pinnace namespace-inside` (hidden): PID 1 of the new namespaces until it becomes the guest's `init`.

use super::outside::{Plan, named};
use contract::paths;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{chdir, dup2_stdout, pivot_root};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Runs the subcommand; returns only when it fails.
pub fn inside() -> ExitCode {
    let Ok(complaints) = io::stdout().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let error = become_init();
    // Without `outside` the parent-death signal is on its way.
    let _ = File::from(complaints).write_all(error.to_string().as_bytes());
    ExitCode::FAILURE
}

fn become_init() -> io::Error {
    match enter() {
        // The environment is the one a kernel gives its first process.
        Ok(words) => {
            let mut init = Command::new(paths::INIT);
            init.args(words).env_clear().env("HOME", "/").env("TERM", "linux");
            io::Error::other(format!("cannot start {}: {}", paths::INIT, init.exec()))
        }
        Err(error) => error,
    }
}

fn enter() -> io::Result<Vec<String>> {
    // Before the plan is read: were `outside` dead already, the plan would be cut short.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let plan: Plan = serde_json::from_reader(io::stdin())?;
    std::fs::write(plan.cgroup.join("cgroup.procs"), "0")?;
    unshare(CloneFlags::CLONE_NEWCGROUP).map_err(named("make a cgroup namespace"))?;
    // Copied before the machine's own mounts stand, which may be below one of them.
    let shares: Vec<_> = plan.shares.iter().map(|path| copy_of(path)).collect::<io::Result<_>>()?;
    fresh(&plan.root)?;
    let data = plan.root.join(paths::DATA.trim_start_matches('/'));
    bind(&plan.data, &data).map_err(named("mount the data folder"))?;
    for (number, share) in shares.iter().enumerate() {
        attach(share, &plan.root.join(paths::HOST_FOLDERS.trim_start_matches('/')).join(number.to_string()))?;
    }
    // The old root ends up below the new one at the same place, and is let go of there (pivot_root(2)).
    chdir(&plan.root).map_err(named("enter the root tree"))?;
    pivot_root(".", ".").map_err(named("change the root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(named("let go of the old root"))?;
    chdir("/").map_err(named("enter the new root"))?;
    // The console is one stream; the copy of the old stdout closes itself on execve.
    dup2_stdout(io::stderr().as_fd()).map_err(named("join the console"))?;
    Ok(plan.words)
}

/// Mounts the unpacked root tree over itself so that a boot's changes go with it, as they do in a machine: a mount point of a
/// folder that the next boot does not share must not be there then as an empty folder.
fn fresh(root: &Path) -> io::Result<()> {
    // From inside, for the options of overlay would need a path's commas and colons escaped.
    chdir(root).map_err(named("enter the root tree"))?;
    // Seen by the overlay alone, whose /tmp is that of the tree below.
    let options = Some("mode=755");
    mount(Some("tmpfs"), "tmp", Some("tmpfs"), MsFlags::empty(), options)
        .map_err(named("mount memory for the boot's changes"))?;
    std::fs::create_dir("tmp/upper")?;
    std::fs::create_dir("tmp/work")?;
    let layers = Some("lowerdir=.,upperdir=tmp/upper,workdir=tmp/work");
    mount(Some("overlay"), root, Some("overlay"), MsFlags::empty(), layers)
        .map_err(named("mount the root tree"))
}

fn bind(from: &Path, to: &Path) -> nix::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

/// A copy of a folder's mounts that stands nowhere yet.
fn copy_of(path: &Path) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags)
        .map_err(|errno| io::Error::other(format!("cannot share {}: {errno}", path.display())))
}

fn attach(mount: &OwnedFd, place: &Path) -> io::Result<()> {
    let failed = |error: io::Error| io::Error::other(format!("cannot mount on {}: {error}", place.display()));
    std::fs::create_dir_all(place).map_err(failed)?;
    move_mount(mount, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|errno| failed(errno.into()))
}
