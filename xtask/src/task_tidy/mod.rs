//! `cargo xtask tidy`: what the house style promises and a machine can see.
//!
//! It reads, and never changes a file. Formatting and lints are rustfmt's and clippy's.

mod documents;
mod map;
mod size;
mod words;

use crate::generated;
use crate::say;
use crate::workspace::{Workspace, output};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is wrong, and where.
pub struct Complaint {
    /// File, and line where one is to blame.
    pub place: String,
    /// What is wrong and what to do.
    pub text: String,
}

impl Complaint {
    /// About a file as a whole.
    pub fn of_file(path: &Path, text: impl Into<String>) -> Complaint {
        Complaint { place: path.display().to_string(), text: text.into() }
    }

    /// About a line of a file, counted from 1.
    pub fn of_line(path: &Path, line: usize, text: impl Into<String>) -> Complaint {
        Complaint { place: format!("{}:{line}", path.display()), text: text.into() }
    }
}

/// Fails with a list of complaints; with `all`, also shows what is merely large.
pub fn run(workspace: &Workspace, all: bool) -> Result<()> {
    let files = tracked(workspace)?;
    let mut complaints = Vec::new();
    let (large, too_large) = size::check(workspace, &files)?;
    if all {
        large.iter().for_each(|complaint| say::note(&format!("{}: {}", complaint.place, complaint.text)));
    }
    complaints.extend(too_large);
    complaints.extend(map::check(workspace)?);
    complaints.extend(documents::check(workspace)?);
    complaints.extend(words::check(workspace, &files)?);
    complaints.extend(generated::drift(workspace)?);
    for complaint in &complaints {
        say::note(&format!("{}: {}", complaint.place, complaint.text));
    }
    match complaints.len() {
        0 => Ok(()),
        count => bail!("{count} untidy places"),
    }
}

/// Files that git knows or would add, relative to the root, in order.
fn tracked(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let mut list = Command::new("git");
    list.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(&workspace.root);
    let exists = |path: &PathBuf| workspace.root.join(path).is_file();
    let mut files: Vec<PathBuf> = output(&mut list)?.lines().map(PathBuf::from).filter(exists).collect();
    files.sort();
    files.dedup();
    Ok(files)
}
