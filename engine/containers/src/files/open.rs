//! The view of a container in whatever state it is.
//!
//! An overlay's writable folder must not be in two overlays at one time. So who looks at a container that does not
//! run shares one overlay with all others, and a start takes that same overlay over:
//!
//! ```text
//!   nobody ──look──► looked at ──last look ends──► nobody
//!      │                 │ start: the same overlay
//!      └─────start──► started ──end of the run──► nobody
//! ```

// All of it runs on a file worker.
#![allow(clippy::disallowed_methods)]

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use runtime::launch::VolumeKind;
use runtime::rootfs;
use runtime::view::View;
use rustix::fs::{OFlags, fstat};
use rustix::io::Errno;

use super::super::container::Container;
use super::super::error::ContainerError;
use super::super::launch;
use super::super::registry::Containers;
use super::super::state::State;

/// Who has a container's overlay mounted.
#[derive(Debug, Default)]
pub(crate) struct Idle(Mutex<Holder>);

#[derive(Debug, Default)]
struct Holder {
    started: bool,
    view: Weak<View>,
}

impl Idle {
    fn holder(&self) -> MutexGuard<'_, Holder> {
        self.0.lock().expect("no holder of an overlay panics")
    }

    /// The overlay of a start: that of who looks at the files, or else one that `make` makes.
    pub(crate) fn start<E>(&self, make: impl FnOnce() -> Result<OwnedFd, E>) -> Result<OwnedFd, E> {
        let mut holder = self.holder();
        let shared = holder.view.upgrade().and_then(|view| view.bare().ok());
        let root = shared.map_or_else(make, Ok)?;
        holder.started = true;
        Ok(root)
    }

    /// The run is over, or did not begin.
    pub(crate) fn ended(&self) {
        self.holder().started = false;
    }
}

/// How often and how long the state is looked at again while it changes: 10 s.
const TRIES: u32 = 5000;
const PAUSE: Duration = Duration::from_millis(2);

impl Containers {
    /// The files of a container. Blocks.
    pub(super) fn view(&self, container: &Container) -> Result<Arc<View>, ContainerError> {
        for _ in 0..TRIES {
            let found = match container.snapshot().state.running() {
                Some(running) => self.running_view(container, running.pid)?,
                None => self.idle_view(container)?,
            };
            match found {
                Some(view) => return Ok(view),
                None => std::thread::sleep(PAUSE),
            }
        }
        let timed_out = std::io::Error::from(std::io::ErrorKind::TimedOut);
        Err(ContainerError::machine("open the container's files")(timed_out))
    }

    /// `None` where it has just ended.
    fn running_view(&self, container: &Container, pid: u32) -> Result<Option<Arc<View>>, ContainerError> {
        match View::of_process(pid, container.id()) {
            Ok(view) => Ok(Some(Arc::new(view))),
            Err(error) if gone(&error) => Ok(None),
            Err(error) => Err(ContainerError::machine("open the container's files")(error)),
        }
    }

    /// `None` where it is just being started.
    fn idle_view(&self, container: &Container) -> Result<Option<Arc<View>>, ContainerError> {
        let mut holder = container.idle.holder();
        if holder.started {
            return Ok(None);
        }
        if let Some(view) = holder.view.upgrade() {
            return Ok(Some(view));
        }
        let record = container.record();
        let overlay = launch::overlay(&self.shared, container, &record)?;
        let mut mounts = launch::mounts(&self.shared, container, &record, None)?;
        // Files that the first start writes.
        mounts.retain(|mount| match &mount.kind {
            VolumeKind::Bind(bind) => bind.source.exists() || !bind.source.starts_with(&container.folder),
            VolumeKind::Tmpfs(_) => false,
            VolumeKind::Prepared(_) => true,
        });
        let ids = self.shared.ids(&record.host);
        if !record.config.working_dir.is_empty() && matches!(container.snapshot().state, State::Created(_)) {
            // dockerd makes it at the create, the first start here; who looks in between must find it. Where it cannot be
            // made, the start says so.
            let path = Path::new(&record.config.working_dir);
            if let Err(error) = rootfs::make_mount_point(overlay.as_fd(), path, None, ids) {
                tracing::debug!(container = container.id(), %error, "no working folder");
            }
        }
        let view = View::assemble(overlay, &mounts, record.host.readonly_rootfs, ids)
            .map_err(ContainerError::machine("mount the container's files"))?;
        let view = Arc::new(view);
        holder.view = Arc::downgrade(&view);
        Ok(Some(view))
    }

    /// The container's image as one tree.
    pub(super) fn lower(&self, container: &Container) -> Result<OwnedFd, ContainerError> {
        let layers = launch::layers(&self.shared, &container.record())?;
        rootfs::layers(&layers).map_err(|error| {
            ContainerError::machine("mount the container's image")(std::io::Error::other(error))
        })
    }
}

fn gone(error: &std::io::Error) -> bool {
    let errnos = [Errno::SRCH, Errno::NOENT].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|errno| errnos.contains(&errno))
}

/// Devices of the file systems that every run gets from the engine and the kernel: they are no part of the
/// container's files, so that copying `/` copies neither `/proc` nor the nodes in `/dev`.
pub(super) fn engine_mounts(view: &View) -> Vec<u64> {
    let own = fstat(view.root()).map(|stat| stat.st_dev);
    let device = |path: &[u8]| {
        let folder = view.open(path, OFlags::PATH).ok()?;
        fstat(folder).ok().map(|stat| stat.st_dev)
    };
    let devices = [&b"/dev"[..], b"/proc", b"/sys"].into_iter().filter_map(device);
    devices.filter(|device| Ok(*device) != own).collect()
}

/// Whether nothing can be written where the folder is.
pub(super) fn read_only(folder: &OwnedFd) -> Result<bool, Errno> {
    let flags = rustix::fs::fstatvfs(folder)?.f_flag;
    Ok(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}
