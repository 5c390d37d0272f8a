//! Debian's kernel package: found and fetched by apt, so its signature was checked, and unpacked.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The package that always depends on the newest kernel of the line we ship.
const META_PACKAGE: &str = "linux-image-6.12-cloud-amd64";

/// Why there is no kernel package.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// A Debian tool is not installed.
    #[error("cannot run {tool}: install {package} (this needs Debian or a derivative)")]
    Tool {
        /// The program.
        tool: &'static str,
        /// What brings it.
        package: &'static str,
        /// From the attempt to start it.
        source: io::Error,
    },
    /// Neither in apt's lists nor fetched before.
    #[error(
        "apt does not know {META_PACKAGE}: add 'deb http://deb.debian.org/debian-security bookworm-security main' to /etc/apt/sources.list and run apt-get update"
    )]
    Unknown,
    /// apt-get could not fetch it.
    #[error("apt-get download {package} failed: {text} (run apt-get update and try again)")]
    Fetch {
        /// The package asked for.
        package: String,
        /// apt's last line.
        text: String,
    },
    /// dpkg-deb refused the file.
    #[error("cannot unpack {path}: {text} (delete it and try again)")]
    Unpack {
        /// The package file.
        path: PathBuf,
        /// dpkg-deb's last line.
        text: String,
    },
    /// A folder could not be read or made.
    #[error("cannot use {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// From the file system.
        source: io::Error,
    },
}

/// The newest kernel package's file, fetched into `cache` unless it is there already.
pub fn kernel_package(cache: &Path) -> Result<PathBuf, DebianError> {
    let folder = |source| DebianError::Folder { path: cache.to_owned(), source };
    std::fs::create_dir_all(cache).map_err(folder)?;
    let Some(package) = newest_kernel()? else {
        // Lists may be gone (a slim container) while an earlier build's package is still here.
        return cached(cache, "linux-image-6.12.").map_err(folder)?.ok_or(DebianError::Unknown);
    };
    if let Some(path) = cached(cache, &format!("{package}_")).map_err(folder)? {
        return Ok(path);
    }
    fetch(cache, &package)?;
    cached(cache, &format!("{package}_"))
        .map_err(folder)?
        .ok_or(DebianError::Fetch { package, text: "no file appeared".to_owned() })
}

/// What the meta package depends on now, in apt's lists.
fn newest_kernel() -> Result<Option<String>, DebianError> {
    let mut command = Command::new("apt-cache");
    let output = run(command.args(["depends", META_PACKAGE]), "apt-cache", "apt")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let depends = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(depends.map(str::trim).find(|name| name.starts_with("linux-image-6.12.")).map(str::to_owned))
}

fn cached(cache: &Path, prefix: &str) -> io::Result<Option<PathBuf>> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(cache)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .collect();
    found.sort();
    Ok(found.pop())
}

fn fetch(cache: &Path, package: &str) -> Result<(), DebianError> {
    let mut command = Command::new("apt-get");
    // Root's sandbox user may not write into a build folder; apt would only warn and go on.
    command.args(["-qq", "-o", "APT::Sandbox::User=root", "download", package]).current_dir(cache);
    let output = run(&mut command, "apt-get", "apt")?;
    match output.status.success() {
        true => Ok(()),
        false => Err(DebianError::Fetch { package: package.to_owned(), text: last_line(&output) }),
    }
}

/// Unpacks the package's files below `into`.
pub fn unpack(package: &Path, into: &Path) -> Result<(), DebianError> {
    let mut command = Command::new("dpkg-deb");
    let output = run(command.arg("-x").arg(package).arg(into), "dpkg-deb", "dpkg")?;
    match output.status.success() {
        true => Ok(()),
        false => Err(DebianError::Unpack { path: package.to_owned(), text: last_line(&output) }),
    }
}

fn run(command: &mut Command, tool: &'static str, package: &'static str) -> Result<Output, DebianError> {
    command.env("LC_ALL", "C").output().map_err(|source| DebianError::Tool { tool, package, source })
}

fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message").trim().to_owned()
}
