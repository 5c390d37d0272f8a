//! `cargo xtask arrows`: which room may name which, and two things that live in one room only.
//!
//! ARCHITECTURE.md draws the arrows; this table is what is enforced. They all go down:
//!
//! ```text
//!   host-bridge ──► contract ◄── init ──► sys ◄── host-bridge
//!                      ▲                   ▲
//!                      ├──── runtime ──────┤
//!   server ─► containers ─► images ─► content ─► store ─► model
//!      │          ├───────► networks ──────────► store, runtime
//!      │          ├───────► volumes ───────────► content, store, runtime
//!      │          └───────► process ───────────► runtime, model
//!   tests ──► contract      xtask ──► image
//! ```

use crate::say;
use crate::workspace::{Crate, Workspace};
use anyhow::{Result, bail};
use std::path::Path;
use syn::visit::{self, Visit};

/// Package, and the packages of ours that it may name.
const ARROWS: &[(&str, &[&str])] = &[
    ("pinnace-contract", &[]),
    ("pinnace-sys", &[]),
    ("pinnace-init", &["pinnace-contract", "pinnace-sys"]),
    ("pinnace-runtime", &["pinnace-contract", "pinnace-sys"]),
    ("pinnace-model", &[]),
    ("pinnace-store", &["pinnace-model"]),
    // Who a layer's files belong to is said in runtime's words.
    ("pinnace-content", &["pinnace-model", "pinnace-runtime", "pinnace-store"]),
    ("pinnace-process", &["pinnace-contract", "pinnace-model", "pinnace-runtime", "pinnace-sys"]),
    ("pinnace-images", &["pinnace-content", "pinnace-model", "pinnace-runtime", "pinnace-store"]),
    ("pinnace-networks", &["pinnace-contract", "pinnace-model", "pinnace-runtime", "pinnace-store"]),
    // Trees are copied and removed by content's walkers; a mounted volume is kept by PID 1 under a name of the contract's.
    (
        "pinnace-volumes",
        &[
            "pinnace-content",
            "pinnace-contract",
            "pinnace-model",
            "pinnace-runtime",
            "pinnace-store",
            "pinnace-sys",
        ],
    ),
    // Pidfds and mount attributes are sys's types in runtime's own words.
    (
        "pinnace-containers",
        &[
            "pinnace-content",
            "pinnace-contract",
            "pinnace-images",
            "pinnace-model",
            "pinnace-networks",
            "pinnace-process",
            "pinnace-runtime",
            "pinnace-store",
            "pinnace-sys",
            "pinnace-volumes",
        ],
    ),
    // The descriptors that PID 1 hands over are taken here, and given down.
    (
        "pinnace-server",
        &[
            "pinnace-containers",
            "pinnace-contract",
            "pinnace-images",
            "pinnace-model",
            "pinnace-networks",
            "pinnace-process",
            "pinnace-runtime",
            "pinnace-store",
            "pinnace-sys",
            "pinnace-volumes",
        ],
    ),
    // Whether a client has read what it was sent.
    ("pinnace-bridge", &["pinnace-contract", "pinnace-sys"]),
    ("pinnace-image", &[]),
    ("pinnace-skip", &[]),
    ("pinnace-tests", &["pinnace-contract", "pinnace-skip"]),
    // The image is told where the contract has its files.
    ("xtask", &["pinnace-contract", "pinnace-image"]),
];

/// The one room with `unsafe`.
const UNSAFE_ROOM: &str = "sys/src";
/// The one room that names the database.
const STORE_ROOM: &str = "engine/store/src";

/// Fails with every arrow that is not in the table, and with what left its room.
pub fn run(workspace: &Workspace) -> Result<()> {
    let mut wrong = Vec::new();
    for package in workspace.crates()? {
        wrong.extend(wrong_arrows(&package));
        for path in sources(&workspace.root.join(&package.folder))? {
            let shown = path.strip_prefix(&workspace.root).unwrap_or(&path).to_owned();
            wrong.extend(out_of_room(&shown, &std::fs::read_to_string(&path)?)?);
        }
    }
    wrong.iter().for_each(|text| say::note(text));
    match wrong.len() {
        0 => Ok(()),
        count => bail!("{count} things where they must not be"),
    }
}

fn wrong_arrows(package: &Crate) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
        return vec![format!("{} has no row in the table of arrows", package.name)];
    };
    let wrong = package.ours.iter().filter(|name| !allowed.contains(&name.as_str()));
    wrong.map(|name| format!("{} must not depend on {name}", package.name)).collect()
}

fn out_of_room(path: &Path, text: &str) -> Result<Vec<String>> {
    let mut seeker = Seeker::default();
    seeker.visit_file(&syn::parse_file(text)?);
    let mut wrong = Vec::new();
    if !path.starts_with(UNSAFE_ROOM) {
        wrong.extend(
            seeker.unsafe_lines.iter().map(|line| format!("{}:{line}: unsafe outside sys", path.display())),
        );
    }
    // The tests make disks of other releases.
    if !path.starts_with(STORE_ROOM) && !path.starts_with("tests") {
        wrong.extend(
            seeker
                .redb_lines
                .iter()
                .map(|line| format!("{}:{line}: redb outside engine/store", path.display())),
        );
    }
    Ok(wrong)
}

/// Every `.rs` file below a folder.
fn sources(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Lines with `unsafe` and with a path that begins with `redb`.
#[derive(Default)]
struct Seeker {
    unsafe_lines: Vec<usize>,
    redb_lines: Vec<usize>,
}

impl<'ast> Visit<'ast> for Seeker {
    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.unsafe_lines.push(block.unsafe_token.span.start().line);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.unsafe_lines.extend(signature.unsafety.map(|token| token.span.start().line));
        visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.unsafe_lines.extend(item.unsafety.map(|token| token.span.start().line));
        visit::visit_item_impl(self, item);
    }

    fn visit_item_foreign_mod(&mut self, item: &'ast syn::ItemForeignMod) {
        self.unsafe_lines.extend(item.unsafety.map(|token| token.span.start().line));
        visit::visit_item_foreign_mod(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.redb(path.segments.first().map(|segment| &segment.ident));
        visit::visit_path(self, path);
    }

    fn visit_use_path(&mut self, path: &'ast syn::UsePath) {
        self.redb(Some(&path.ident));
        visit::visit_use_path(self, path);
    }
}

impl Seeker {
    fn redb(&mut self, first: Option<&syn::Ident>) {
        self.redb_lines.extend(first.filter(|word| *word == "redb").map(|word| word.span().start().line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_left_its_room_is_found() {
        let text = "use redb::Database;\nfn f() {\n    unsafe { g() }\n}\nunsafe fn h(d: redb::Key) {}\n";
        let found = |path: &str| out_of_room(Path::new(path), text).unwrap();
        assert_eq!(found("init/src/main.rs").len(), 4);
        assert_eq!(found("sys/src/bpf.rs").len(), 2);
        assert_eq!(found("engine/store/src/rows.rs").len(), 2);
    }
}
