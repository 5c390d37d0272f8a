//! Words that have no place in the tree.

use super::Complaint;
use crate::workspace::Workspace;
use anyhow::Result;
use std::path::PathBuf;

/// Folders of machines this is built on, split so that this file is none of those that have them.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of a build machine"),
    (concat!("/fa", "rm/"), "a path of a build machine"),
    (concat!("/root/.", "cargo"), "a path of a build machine"),
    (concat!("FIX", "ME"), "unfinished: finish it, or open an issue and name it"),
    (concat!("XX", "X:"), "unfinished: finish it, or open an issue and name it"),
];

/// Lines with a forbidden word.
pub fn check(workspace: &Workspace, files: &[PathBuf]) -> Result<Vec<Complaint>> {
    let mut complaints = Vec::new();
    for path in files {
        // What is not text has no words.
        let Ok(text) = std::fs::read_to_string(workspace.root.join(path)) else { continue };
        for (at, line) in text.lines().enumerate() {
            let found = FORBIDDEN.iter().filter(|(word, _)| begins_with_word(line, word));
            complaints
                .extend(found.map(|(word, why)| Complaint::of_line(path, at + 1, format!("{word}: {why}"))));
        }
    }
    Ok(complaints)
}

/// The word is there, and not as the tail of a longer path.
fn begins_with_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "_-.}".contains(c))
    })
}
