//! Debian's packages, the kernel's and a few programs': found and fetched by apt, so their signatures were checked, and
//! unpacked.

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
    #[error("apt does not know {package}: run apt-get update")]
    Unlisted {
        /// Its name.
        package: &'static str,
    },
    /// The kernel's, neither in apt's lists nor fetched before.
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
    make_folder(cache)?;
    match newest_kernel()? {
        Some(package) => newest(cache, &package)?.ok_or(DebianError::Unknown),
        // Lists may be gone (a slim container) while an earlier build's package is still here.
        None => newest_cached(cache, "linux-image-6.12.")?.ok_or(DebianError::Unknown),
    }
}

/// The newest file of a package that is known by its name, fetched into `cache` unless it is there already.
pub fn package(cache: &Path, name: &'static str) -> Result<PathBuf, DebianError> {
    make_folder(cache)?;
    newest(cache, name)?.ok_or(DebianError::Unlisted { package: name })
}

/// The file of the version that apt would install now, whatever an earlier build fetched: a security update may keep the
/// package's name. Without lists, the newest that was fetched.
fn newest(cache: &Path, package: &str) -> Result<Option<PathBuf>, DebianError> {
    let Some(version) = candidate(package)? else { return newest_cached(cache, &format!("{package}_")) };
    // An epoch's colon is spelled out in file names.
    let prefix = format!("{package}_{}_", version.replace(':', "%3a"));
    if let Some(path) = newest_cached(cache, &prefix)? {
        return Ok(Some(path));
    }
    fetch(cache, package, &version)?;
    for old in cached(cache, &format!("{package}_"))? {
        if !file_name(&old).starts_with(&prefix) {
            // Only room is lost where it stays.
            let _ = std::fs::remove_dir_all(files(&old));
            let _ = std::fs::remove_file(old);
        }
    }
    let missing = || DebianError::Fetch { package: package.to_owned(), text: "no file appeared".to_owned() };
    newest_cached(cache, &prefix)?.ok_or_else(missing).map(Some)
}

fn make_folder(cache: &Path) -> Result<(), DebianError> {
    std::fs::create_dir_all(cache).map_err(|source| DebianError::Folder { path: cache.to_owned(), source })
}

/// What the meta package depends on now, in apt's lists.
fn newest_kernel() -> Result<Option<String>, DebianError> {
    let mut command = Command::new("apt-cache");
    let output = run(command.args(["depends", META_PACKAGE]), "apt-cache", "apt")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let depends = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(depends.map(str::trim).find(|name| name.starts_with("linux-image-6.12.")).map(str::to_owned))
}

/// The version that apt would install, in its lists.
fn candidate(package: &str) -> Result<Option<String>, DebianError> {
    let mut command = Command::new("apt-cache");
    let output = run(command.args(["policy", package]), "apt-cache", "apt")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    // A package that is installed here, and known from nowhere else, cannot be fetched.
    let fetched_from = |text: &str| text.lines().any(|line| line.contains("://") || line.contains("file:"));
    Ok(version.filter(|version| *version != "(none)" && fetched_from(&text)).map(str::to_owned))
}

fn cached(cache: &Path, prefix: &str) -> Result<Vec<PathBuf>, DebianError> {
    let folder = |source| DebianError::Folder { path: cache.to_owned(), source };
    let entries = std::fs::read_dir(cache).map_err(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let wanted = |path: &PathBuf| {
        let name = file_name(path);
        name.starts_with(prefix) && name.ends_with(".deb")
    };
    Ok(entries.filter(wanted).collect())
}

fn newest_cached(cache: &Path, prefix: &str) -> Result<Option<PathBuf>, DebianError> {
    let mut newest: Option<PathBuf> = None;
    for path in cached(cache, prefix)? {
        match &newest {
            Some(best) if !is_newer(&version(&path), &version(best))? => {}
            _ => newest = Some(path),
        }
    }
    Ok(newest)
}

/// The second part of `NAME_VERSION_ARCHITECTURE.deb`.
fn version(path: &Path) -> String {
    file_name(path).split('_').nth(1).unwrap_or_default().replace("%3a", ":")
}

/// By dpkg's own rules: as text, 6.12.99 would be newer than 6.12.117.
fn is_newer(version: &str, than: &str) -> Result<bool, DebianError> {
    let mut command = Command::new("dpkg");
    Ok(run(command.args(["--compare-versions", version, "gt", than]), "dpkg", "dpkg")?.status.success())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn fetch(cache: &Path, package: &str, version: &str) -> Result<(), DebianError> {
    let mut command = Command::new("apt-get");
    // Root's sandbox user may not write into a build folder; apt would only warn and go on.
    command.args(["-qq", "-o", "APT::Sandbox::User=root", "download"]).arg(format!("{package}={version}"));
    command.current_dir(cache);
    let output = run(&mut command, "apt-get", "apt")?;
    match output.status.success() {
        true => Ok(()),
        false => Err(DebianError::Fetch { package: package.to_owned(), text: last_line(&output) }),
    }
}

/// The folder beside a package that has its files.
pub fn files(package: &Path) -> PathBuf {
    package.with_extension("files")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_found_as_dpkg_counts() {
        let cache = tempfile::tempdir().unwrap();
        for file in
            ["k-6.12.99_6.12.99-1_amd64.deb", "k-6.12.117_6.12.117-1_amd64.deb", "k-6.13", "j_9_all.deb"]
        {
            std::fs::write(cache.path().join(file), "").unwrap();
        }
        let found = newest_cached(cache.path(), "k-6.12.").unwrap().unwrap();
        assert_eq!(file_name(&found), "k-6.12.117_6.12.117-1_amd64.deb");
        // The same kernel, built again: its name stays.
        for version in ["6.12.117-1~deb12u1", "6.12.117-1+b1", "1%3a6.1-1"] {
            std::fs::write(cache.path().join(format!("k-6.12.117_{version}_amd64.deb")), "").unwrap();
        }
        let newest = |prefix: &str| file_name(&newest_cached(cache.path(), prefix).unwrap().unwrap());
        assert_eq!(newest("k-6.12.117_6.12"), "k-6.12.117_6.12.117-1+b1_amd64.deb");
        assert_eq!(newest("k-6.12.117_"), "k-6.12.117_1%3a6.1-1_amd64.deb");
        assert_eq!(newest_cached(cache.path(), "absent").unwrap(), None);
    }
}
