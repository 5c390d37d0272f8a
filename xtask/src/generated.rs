//! The documents that are made from the sources, and whether they still are what would be made.

use crate::task_tidy::Complaint;
use crate::workspace::Workspace;
use crate::{task_coverage, task_coverage_behaviours, task_coverage_fields};
use anyhow::Result;
use std::path::Path;

/// One of them.
pub struct Document {
    /// Below the workspace's root.
    pub path: &'static str,
    /// Makes its text.
    pub text: fn(&Workspace) -> Result<String>,
}

const ALL: [Document; 3] =
    [task_coverage::DOCUMENT, task_coverage_fields::DOCUMENT, task_coverage_behaviours::DOCUMENT];

/// Writes all of them.
pub fn write(workspace: &Workspace) -> Result<()> {
    for document in ALL {
        std::fs::write(workspace.root.join(document.path), (document.text)(workspace)?)?;
    }
    Ok(())
}

/// A complaint for each that is not what [`write`] would write.
pub fn drift(workspace: &Workspace) -> Result<Vec<Complaint>> {
    let mut complaints = Vec::new();
    for document in ALL {
        let kept = std::fs::read_to_string(workspace.root.join(document.path)).unwrap_or_default();
        if kept != (document.text)(workspace)? {
            let say = "is not up to date: run cargo xtask coverage";
            complaints.push(Complaint::of_file(Path::new(document.path), say));
        }
    }
    Ok(complaints)
}
