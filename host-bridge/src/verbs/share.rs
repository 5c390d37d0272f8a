//! `pinnace up --share`: which folders of this host containers may mount.
//!
//! A folder has the same path in the machine. It must not be one of the machine's own or stand above one, for it would hide
//! the system there.

use super::VerbError;
use std::path::{Component, Path, PathBuf};

/// Takes away the home folder, too.
const NONE: &str = "none";
/// Folders of the machine that keep what they are.
const OWN: [&str; 15] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/init",
    "/lib",
    "/lib64",
    "/mnt/host",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/pinnace",
    "/var/run",
];

/// The home folder and those that were named, without the ones that are inside another.
pub fn folders(named: &[PathBuf]) -> Result<Vec<PathBuf>, VerbError> {
    let mut folders: Vec<PathBuf> = Vec::new();
    if !named.iter().any(|path| path.as_os_str() == NONE) {
        // Nobody asked for this one: where it cannot be had it is left out.
        folders.extend(std::env::home_dir().and_then(|home| folder(&home).ok()));
    }
    for path in named.iter().filter(|path| path.as_os_str() != NONE) {
        folders.push(folder(path)?);
    }
    folders.sort();
    folders.dedup_by(|inner, outer| inner.starts_with(outer));
    Ok(folders)
}

fn folder(path: &Path) -> Result<PathBuf, VerbError> {
    let refused = |reason| VerbError::NotShared { path: path.to_owned(), reason };
    let absolute =
        std::path::absolute(path).map_err(|source| VerbError::File { path: path.to_owned(), source })?;
    if absolute.components().any(|part| part == Component::ParentDir) {
        return Err(refused("name it without .."));
    }
    if absolute.to_str().is_none() {
        return Err(refused("its name is not UTF-8"));
    }
    if OWN.iter().any(|own| absolute.starts_with(own) || Path::new(own).starts_with(&absolute)) {
        return Err(refused("the machine has its own there"));
    }
    let found =
        std::fs::metadata(&absolute).map_err(|source| VerbError::File { path: path.to_owned(), source })?;
    if found.is_dir() { Ok(absolute) } else { Err(refused("it is not a folder")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(named: &[&str], want: &[&str]) {
        let named: Vec<PathBuf> = [NONE].iter().chain(named).map(PathBuf::from).collect();
        let want: Vec<PathBuf> = want.iter().map(PathBuf::from).collect();
        assert_eq!(folders(&named).unwrap(), want);
    }

    fn refused(named: &str, want: &str) {
        let error = folders(&[named.into()]).unwrap_err();
        assert_eq!(error.to_string(), want);
    }

    #[test]
    fn a_folder_inside_another_comes_with_it() {
        let outer = tempfile::tempdir().unwrap();
        let (outer, inner) = (outer.path(), outer.path().join("inner"));
        let beside = PathBuf::from(format!("{}-beside", outer.display()));
        std::fs::create_dir(&inner).unwrap();
        std::fs::create_dir(&beside).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (outer, inner) = (text(outer), text(&inner));
        check(&[], &[]);
        check(&[&inner, &text(&beside), &outer, &outer], &[&outer, &text(&beside)]);
        std::fs::remove_dir(&beside).unwrap();
    }

    #[test]
    fn what_the_machine_needs_is_not_hidden() {
        for own in ["/", "/etc", "/usr/local", "/var", "/var/lib", "/mnt", "/mnt/host/0", "/proc/1"] {
            refused(own, &format!("cannot share {own}: the machine has its own there"));
        }
        refused("/tmp/../etc", "cannot share /tmp/../etc: name it without ..");
        refused("/nonexistent", "cannot use /nonexistent");
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display();
        refused(&path.to_string(), &format!("cannot share {path}: it is not a folder"));
    }
}
