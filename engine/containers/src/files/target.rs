//! The folder that an archive is extracted to.

use std::io;

use content::archive::extract::Target;
use content::layer::LayerError;
use runtime::view::View;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::super::error::ContainerError;
use super::asked::Asked;
use super::open::read_only;
use super::stat::evaluate;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens it.
pub(super) fn open(view: &View, asked: &Asked) -> Result<Target, Errno> {
    // The last component is followed: a link to a folder is as good as the folder.
    let path = evaluate(view, asked.path())?;
    let node = view.open(&asked.text(), OFlags::PATH)?;
    let folder = match openat(&node, ".", FOLDER, Mode::empty()) {
        Err(Errno::NOTDIR) => node,
        other => other?,
    };
    let path = if path == b"/" { Vec::new() } else { path };
    Ok(Target { folder, path })
}

/// That it is a folder which can be written to.
pub(super) fn check(target: &Target, view: &View) -> Result<(), ContainerError> {
    let invalid = |text: &str| Err(ContainerError::Invalid(text.to_owned()));
    let machine = |errno: Errno| ContainerError::machine("look at the destination")(errno.into());
    let stat = fstat(&target.folder).map_err(machine)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return invalid("extraction point is not a directory");
    }
    if !read_only(&target.folder).map_err(machine)? {
        return Ok(());
    }
    match fstat(view.root()).map_err(machine)?.st_dev == stat.st_dev {
        true => invalid("container rootfs is marked read-only"),
        false => invalid("mounted volume is marked read-only"),
    }
}

/// Why an archive was not extracted.
pub(super) fn refused(error: LayerError) -> ContainerError {
    match error {
        LayerError::Write { path, source } if lasting(&source) => {
            ContainerError::machine(format!("cannot write {path}"))(source)
        }
        other => ContainerError::Invalid(other.to_string()),
    }
}

/// Whether it is the machine's fault rather than the archive's.
fn lasting(error: &io::Error) -> bool {
    let errnos = [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::NOMEM, Errno::NFILE, Errno::MFILE];
    error.raw_os_error().is_some_and(|errno| errnos.iter().any(|known| known.raw_os_error() == errno))
}
