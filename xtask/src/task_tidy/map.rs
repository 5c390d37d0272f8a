//! ARCHITECTURE.md's map: a heading with each crate's folder, and below it the name of each of its modules.

use super::Complaint;
use crate::workspace::{Crate, Workspace};
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::Path;

const MAP: &str = "ARCHITECTURE.md";

/// Crates and modules that the map does not name.
pub fn check(workspace: &Workspace) -> Result<Vec<Complaint>> {
    let path = Path::new(MAP);
    let Ok(map) = std::fs::read_to_string(workspace.root.join(path)) else {
        return Ok(vec![Complaint::of_file(path, "is missing")]);
    };
    let mut complaints = Vec::new();
    for package in workspace.crates()? {
        let folder = package.folder.to_string_lossy().into_owned();
        let Some(section) = section(&map, &folder) else {
            complaints.push(Complaint::of_file(path, format!("has no heading with `{folder}`")));
            continue;
        };
        let missing = modules(workspace, &package)?.into_iter().filter(|name| !names(section, name));
        complaints.extend(missing.map(|name| {
            Complaint::of_file(path, format!("does not name `{name}` below the heading of `{folder}`"))
        }));
    }
    Ok(complaints)
}

/// The text from the heading that has `folder` in backticks to the next heading.
fn section<'a>(map: &'a str, folder: &str) -> Option<&'a str> {
    let mark = format!("`{folder}`");
    let slashed = format!("`{folder}/`");
    let is_heading = |line: &str| line.starts_with('#');
    let mut start = None;
    let mut at = 0;
    for line in map.split_inclusive('\n') {
        match start {
            None if is_heading(line) && (line.contains(&mark) || line.contains(&slashed)) => start = Some(at),
            Some(start) if is_heading(line) => return Some(&map[start..at]),
            _ => {}
        }
        at += line.len();
    }
    start.map(|start| &map[start..])
}

/// `name`, `name/`, `name.rs` in backticks, alone or as a part of a path.
fn names(section: &str, name: &str) -> bool {
    section.split('`').skip(1).step_by(2).any(|quoted| {
        let mut words = quoted.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'));
        words.any(|word| word == name)
    })
}

/// Top-level modules: files and folders of `src`, without its roots.
fn modules(workspace: &Workspace, package: &Crate) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(workspace.root.join(&package.folder).join("src"))? {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_module = path.is_dir() || path.extension().is_some_and(|ext| ext == "rs");
        if is_module && !["main", "lib", "tests"].contains(&&*stem) {
            names.insert(stem);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_at_the_next_heading() {
        let map = "# Map\n## `sys`: the kernel\n`bpf`, `clone.rs`\n## `engine/store`\n`commit/`\n";
        assert_eq!(section(map, "sys"), Some("## `sys`: the kernel\n`bpf`, `clone.rs`\n"));
        assert!(
            names(section(map, "sys").unwrap(), "clone") && !names(section(map, "sys").unwrap(), "commit")
        );
        assert!(names(section(map, "engine/store").unwrap(), "store"));
        assert_eq!(section(map, "init"), None);
    }
}
