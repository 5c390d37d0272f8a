//! A file system as users have it below an engine's data: ext4 with a journal.

use crate::guard::Guard;
use crate::outcome::Program;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A mounted ext4 in a sparse file; both go with this value, or with this process.
pub struct Ext4 {
    folder: PathBuf,
    _guard: Guard,
    _place: tempfile::TempDir,
}

impl Ext4 {
    /// Makes one of so many MiB. It needs root.
    pub fn new(mebibytes: u32) -> Ext4 {
        let place = tempfile::Builder::new().prefix("pinnace-ext4-").tempdir().expect("a temporary folder");
        let (file, folder) = (place.path().join("disk"), place.path().join("mounted"));
        std::fs::create_dir(&folder).expect("the folder was just made");
        let (file, text) = (file.to_string_lossy(), folder.to_string_lossy());
        run("truncate", &["--size", &format!("{mebibytes}M"), &file]);
        run("mkfs.ext4", &["-q", "-F", &file]);
        let guard = Guard::new("", "umount --lazy \"$1\"", &[&text]);
        run("mount", &["-o", "loop", &file, &text]);
        Ext4 { folder, _guard: guard, _place: place }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

fn run(program: &str, args: &[&str]) {
    Program::new(program, PATIENCE).args(args).run().succeeds();
}
