//! docs/api-behaviours.md: what clients rely on beyond the endpoints, and the test that proves each statement.
//!
//! The statements are docs/behaviours.tsv. A test names what it proves by the statement's id in a comment; a
//! statement without a test has a reason there. Nothing is measured: a mark is as honest as who wrote it.

mod marks;
mod rows;

use crate::generated::Document;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use marks::Marks;
use rows::{Row, SECTIONS};
use std::fmt::Write;

const LIST: &str = "docs/behaviours.tsv";
/// The table.
pub const DOCUMENT: Document = Document { path: "docs/api-behaviours.md", text: table };
/// Where a reason of a statement that clients break without must begin: what is not built at all yet.
const AREAS: [&str; 4] = ["volumes", "networks", "build", "images"];

fn table(workspace: &Workspace) -> Result<String> {
    let list = std::fs::read_to_string(workspace.root.join(LIST));
    let rows = rows::parse(&list.with_context(|| format!("cannot read {LIST}"))?)?;
    let marks = marks::below(&workspace.root.join("tests"))?;
    let wrong = wrong(&rows, &marks);
    if !wrong.is_empty() {
        bail!("{LIST} and the marks in tests/ disagree:\n  {}", wrong.join("\n  "));
    }
    Ok(render(&rows, &marks))
}

/// What keeps the table from being written.
fn wrong(rows: &[Row], marks: &Marks) -> Vec<String> {
    let unknown = marks.iter().filter(|(id, _)| !rows.iter().any(|row| row.id == **id));
    let unknown = unknown.map(|(id, places)| format!("{}: {id} is no statement", places.join(", ")));
    let bare = rows.iter().filter(|row| !marks.contains_key(&row.id)).filter_map(lacks);
    unknown.chain(bare).collect()
}

/// What a statement without a test lacks.
fn lacks(row: &Row) -> Option<String> {
    let first = row.reason.split([' ', ':']).next().unwrap_or_default();
    if row.reason.is_empty() {
        return Some(format!("{} has neither a test nor a reason", row.id));
    }
    let excused = !row.is_vital || AREAS.contains(&first);
    (!excused).then(|| format!("{} has no test, and its reason begins with none of {AREAS:?}", row.id))
}

fn render(rows: &[Row], marks: &Marks) -> String {
    let mut out = String::from(
        "# Behaviours of the Docker Engine API\n\n\
         Written by `cargo xtask coverage` from [behaviours.tsv](behaviours.tsv) and the ids that stand in the \
         comments of the tests; do not edit.\n\
         A client that many use breaks without a statement marked **!**.\n\n\
         | section | statements | tested | of these **!** | tested |\n|---|---|---|---|---|\n",
    );
    let used = || SECTIONS.iter().filter(|(letter, _)| rows.iter().any(|row| row.id.section == *letter));
    for (letter, title) in used() {
        let [all, tested, vital, vital_tested] = count(rows, marks, *letter);
        let _ = writeln!(out, "| {letter}: {title} | {all} | {tested} | {vital} | {vital_tested} |");
    }
    for (letter, title) in used() {
        let _ = write!(
            out,
            "\n## {letter}: {title}\n\n| | statement | tests, or why there is none |\n|---|---|---|\n"
        );
        for row in rows.iter().filter(|row| row.id.section == *letter) {
            let _ = writeln!(out, "{}", line(row, marks));
        }
    }
    out
}

/// Statements of a section, tested ones, vital ones, tested vital ones.
fn count(rows: &[Row], marks: &Marks, section: char) -> [usize; 4] {
    let of = |vital: bool, tested: bool| {
        let rows = rows.iter().filter(|row| row.id.section == section && (row.is_vital || !vital));
        rows.filter(|row| !tested || marks.contains_key(&row.id)).count()
    };
    [of(false, false), of(false, true), of(true, false), of(true, true)]
}

fn line(row: &Row, marks: &Marks) -> String {
    let vital = if row.is_vital { " **!**" } else { "" };
    let places = marks.get(&row.id).into_iter().flatten().map(|place| format!("`{place}`"));
    let proof: Vec<_> = places.chain((!row.reason.is_empty()).then(|| row.reason.clone())).collect();
    let text = row.text.replace('|', "\\|");
    format!("| {}{vital} | {text} | {} |", row.id, proof.join(", ").replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, test: &str, expected: &[&str]) {
        let rows = rows::parse(&format!("id\tvital\tstatement\treason\n{list}")).unwrap();
        let mut marks = Marks::new();
        marks::of_script("# ", "t.py", test, &mut marks);
        assert_eq!(wrong(&rows, &marks), expected);
    }

    #[test]
    fn every_statement_needs_a_test_or_a_reason() {
        check("A1\t\tx\t", "# A1", &[]);
        check("A1\t\tx\tnot ours", "", &[]);
        check("A1\t\tx\t", "", &["A1 has neither a test nor a reason"]);
        check("A1\t!\tx\tvolumes are not built yet", "", &[]);
        let say = "A1 has no test, and its reason begins with none of [\"volumes\", \"networks\", \"build\", \"images\"]";
        check("A1\t!\tx\ttoo hard", "", &[say]);
        check("A1\t!\tx\tbuilding is hard", "", &[say]);
        check("A1\t\tx\t", "# A1, A2", &["t.py: A2 is no statement"]);
    }

    #[test]
    fn the_table_counts_and_names() {
        let rows =
            rows::parse("id\tvital\tstatement\treason\nA1\t!\tone | two\t\nA2\t\tthree\tno way").unwrap();
        let mut marks = Marks::new();
        marks::of_script("# ", "t.py", "# A1", &mut marks);
        let table = render(&rows, &marks);
        assert!(table.contains("| A: Transport, versions, errors | 2 | 1 | 1 | 1 |\n"), "{table}");
        assert!(table.ends_with("| A1 **!** | one \\| two | `t.py` |\n| A2 | three | no way |\n"), "{table}");
    }
}
