//! Documents that must stay true: links lead somewhere, promised numbers stand beside the command that measures
//! them, the change log is kept.

use super::Complaint;
use crate::workspace::Workspace;
use anyhow::Result;
use std::path::Path;

const SPECIFICATION: &str = "SPECIFICATION.md";
const CHANGELOG: &str = "CHANGELOG.md";
const REQUIRED: &[&str] =
    &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", SPECIFICATION, CHANGELOG, "LICENSE", ".ci/run"];

/// What is missing, leads nowhere, or has no measure.
pub fn check(workspace: &Workspace) -> Result<Vec<Complaint>> {
    let missing = REQUIRED.iter().filter(|name| !workspace.root.join(name).is_file());
    let mut complaints: Vec<_> =
        missing.map(|name| Complaint::of_file(Path::new(name), "is missing")).collect();
    for entry in std::fs::read_dir(&workspace.root)?.chain(std::fs::read_dir(workspace.root.join("docs"))?) {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "md") {
            let text = std::fs::read_to_string(&path)?;
            let shown = path.strip_prefix(&workspace.root).unwrap_or(&path);
            complaints.extend(broken_links(&path, shown, &text));
            match shown.to_str() {
                Some(SPECIFICATION) => complaints.extend(unmeasured(shown, &text)),
                Some(CHANGELOG) => complaints.extend(unkept(shown, &text)),
                _ => {}
            }
        }
    }
    Ok(complaints)
}

/// Relative links whose file is not there.
fn broken_links(path: &Path, shown: &Path, text: &str) -> Vec<Complaint> {
    let folder = path.parent().unwrap_or(path);
    let is_broken = |target: &str| {
        let file = target.split('#').next().unwrap_or_default();
        !target.contains("://")
            && !target.starts_with("mailto:")
            && !file.is_empty()
            && !folder.join(file).exists()
    };
    let lines = text.lines().enumerate();
    let found = lines.flat_map(|(at, line)| links(line).map(move |target| (at + 1, target)));
    found
        .filter(|(_, target)| is_broken(target))
        .map(|(line, target)| Complaint::of_line(shown, line, format!("the link {target} leads nowhere")))
        .collect()
}

/// The targets of `[text](target)` in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Rows of tables with a figure, but neither a command nor the word `pending`.
fn unmeasured(shown: &Path, text: &str) -> Vec<Complaint> {
    let is_row = |line: &str| line.starts_with('|') && !line.starts_with("|-") && !line.starts_with("| -");
    let has_figure = |line: &str| line.chars().any(|c| c.is_ascii_digit());
    let is_measured = |line: &str| line.contains("`cargo ") || line.contains("pending");
    let lines = text.lines().enumerate();
    let unmeasured = lines.filter(|(_, line)| is_row(line) && has_figure(line) && !is_measured(line));
    let say = "a number needs its command (`cargo xtask …`) or the word pending in its row";
    unmeasured.map(|(at, _)| Complaint::of_line(shown, at + 1, say)).collect()
}

fn unkept(shown: &Path, text: &str) -> Option<Complaint> {
    let kept = text.lines().any(|line| line.starts_with("## [Unreleased]"));
    (!kept).then(|| Complaint::of_file(shown, "needs a section [Unreleased]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_need_a_measure() {
        let check = |row: &str| unmeasured(Path::new("S"), row).len();
        assert_eq!(check("| boot | 1.5 | `cargo xtask bench` |"), 0);
        assert_eq!(check("| boot | 1.5 | pending |"), 0);
        assert_eq!(check("| boot | 1.5 | fast |"), 1);
        assert_eq!(check("| boot | measured by |\n|---|---|"), 0);
    }

    #[test]
    fn links_are_found() {
        assert_eq!(links("see [a](b.md) and [c](d#e).").collect::<Vec<_>>(), ["b.md", "d#e"]);
    }
}
