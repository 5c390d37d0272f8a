//! A container's files from outside: `docker cp` both ways, `docker export`, `docker diff`.
//!
//! Everything goes through a [`View`]: the container's own mounts while it runs, mounts made for the purpose while
//! it does not. The container is hostile and goes on working meanwhile: what is read or made is reached through
//! descriptors, by the last component of a name, never by a path from the engine's root; what has changed between
//! two looks is skipped or refused.
//!
//! ```text
//!   GET  archive: asked (which path) ─► view ─► walk (one folder after the other) ─► pack (tar members)
//!   PUT  archive: members ─► extract (one member) ─► view
//! ```

mod asked;
mod changes;
mod open;
mod stat;
mod target;

use std::io::{BufRead, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use content::archive::extract::{self, Whose};
use content::archive::pack;
use runtime::ids::IdMap;
use runtime::view::View;
use rustix::io::Errno;
use tokio::sync::Semaphore;

use super::container::Container;
use super::error::ContainerError;
use super::registry::Containers;
use super::state::State;
use asked::Asked;

pub use changes::{Change, ChangeKind};
pub(super) use open::Idle;
pub use stat::PathStat;

/// Most requests that work on files at one time: each takes a thread. The others wait.
static WORKERS: Semaphore = Semaphore::const_new(64);

/// Runs work that blocks on files on one of a bounded number of threads.
///
/// # Errors
/// The work panicked.
pub async fn on_files<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ContainerError> {
    let permit = WORKERS.acquire().await.expect("the semaphore is never closed");
    let lost = |_| ContainerError::machine("work on files")(std::io::Error::other("the thread panicked"));
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    })
    .await
    .map_err(lost)
}

/// A path of a container, open, to be read as an archive.
pub struct Archived {
    view: Arc<View>,
    node: OwnedFd,
    stat: PathStat,
    prefix: Vec<u8>,
    ids: IdMap,
}

/// A container's root, open, to be read as an archive.
pub struct Exported {
    root: OwnedFd,
    ids: IdMap,
}

/// How an archive is extracted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extraction {
    /// A folder does not replace a file, nor a file a folder.
    pub keep_kinds: bool,
    /// Everything belongs to the container's user rather than to the owners named in the archive.
    pub container_user: bool,
}

/// All of these block; call them in [`on_files`]. `named` is how the client named the container.
impl Containers {
    /// What `path` is.
    ///
    /// # Errors
    /// It does not exist, or is no folder although its form says so.
    pub fn stat_path(
        &self,
        container: &Container,
        named: &str,
        path: &str,
    ) -> Result<PathStat, ContainerError> {
        self.archived(container, named, path).map(|archived| archived.stat)
    }

    /// Opens `path` for [`Archived::write`].
    ///
    /// # Errors
    /// As [`Containers::stat_path`].
    pub fn archived(
        &self,
        container: &Container,
        named: &str,
        path: &str,
    ) -> Result<Archived, ContainerError> {
        let view = self.view(container)?;
        let asked = Asked::new(path);
        let failed = |errno| failed("lstat", errno, named, path);
        let node = view.open(&asked.text(), asked.flags()).map_err(failed)?;
        let stat = PathStat::read(&view, &asked, &node).map_err(failed)?;
        Ok(Archived { view, node, stat, prefix: asked.prefix(), ids: self.ids(container) })
    }

    /// Extracts a tar stream (plain or compressed) into the folder `path`.
    ///
    /// # Errors
    /// There is no such folder, it is read-only, or the archive is broken.
    pub fn extract(
        &self,
        container: &Container,
        named: &str,
        path: &str,
        how: Extraction,
        archive: impl BufRead,
    ) -> Result<(), ContainerError> {
        let view = self.view(container)?;
        let target =
            target::open(&view, &Asked::new(path)).map_err(|errno| failed("lstat", errno, named, path))?;
        target::check(&target, &view)?;
        let user = container.record().config.user.clone();
        let owner = match how.container_user && !user.is_empty() {
            true => Some(runtime::user::resolve(view.root(), &user, &[])),
            false => None,
        };
        let owner = owner.transpose().map_err(|error| ContainerError::Invalid(error.to_string()))?;
        let whose = Whose { ids: self.ids(container), owner: owner.map(|owner| owner.ids) };
        extract::extract(&view, target, how.keep_kinds, whose, archive).map_err(target::refused)?;
        self.told(container, "extract-to-dir");
        Ok(())
    }

    /// Opens everything the container's root has, without what is mounted into it.
    ///
    /// # Errors
    /// Its image or its folder is gone.
    pub fn exported(&self, container: &Container) -> Result<Exported, ContainerError> {
        let root = self.view(container)?.bare();
        let root = root.map_err(ContainerError::machine("open the container's root"))?;
        self.told(container, "export");
        Ok(Exported { root, ids: self.ids(container) })
    }

    fn ids(&self, container: &Container) -> IdMap {
        self.shared.ids(&container.record().host)
    }

    /// What the container changed of its image, parents before what is in them.
    ///
    /// # Errors
    /// The disk failed.
    pub fn changes(&self, container: &Container) -> Result<Vec<Change>, ContainerError> {
        let machine = |error| ContainerError::machine("compare the container with its image")(error);
        let lower = self.lower(container)?;
        // With the working folder that a look at a new container makes.
        let _view = match container.snapshot().state {
            State::Created(_) if !container.record().config.working_dir.is_empty() => {
                Some(self.view(container)?)
            }
            _ => None,
        };
        changes::compare(&container.folder.join("upper"), lower).map_err(machine)
    }
}

impl Archived {
    /// What it is.
    pub fn stat(&self) -> &PathStat {
        &self.stat
    }

    /// Writes it as a tar stream.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn write(&self, out: impl Write) -> std::io::Result<()> {
        let mut packer = pack::Packer::new(out, open::engine_mounts(&self.view), self.ids);
        packer.top(&self.node, &self.prefix)?;
        packer.finish()
    }
}

impl Exported {
    /// Writes it as a tar stream.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn write(&self, out: impl Write) -> std::io::Result<()> {
        let mut packer = pack::Packer::new(out, Vec::new(), self.ids);
        packer.below(&self.root, None)?;
        packer.finish()
    }
}

/// A kernel's refusal about a path that the client named, in dockerd's words.
fn failed(call: &str, errno: Errno, named: &str, path: &str) -> ContainerError {
    match errno {
        Errno::NOENT => ContainerError::FileNotFound { path: path.to_owned(), container: named.to_owned() },
        Errno::NOTDIR => ContainerError::Invalid(format!("{call} {path}: not a directory")),
        Errno::LOOP => ContainerError::Invalid(format!("{call} {path}: too many levels of symbolic links")),
        Errno::NAMETOOLONG => ContainerError::Invalid(format!("{call} {path}: file name too long")),
        Errno::INVAL => ContainerError::Invalid(format!("{call} {path}: invalid argument")),
        other => ContainerError::machine(format!("{call} {path}"))(other.into()),
    }
}
