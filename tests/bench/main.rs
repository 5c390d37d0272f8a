//! The promised numbers, measured from outside beside what others need for the same, in one run on one machine.
//! `cargo xtask bench` runs this and puts what it prints, a table in Markdown, into SPECIFICATION.md.
//!
//! Environment, besides the tests' own: `PINNACE_BENCH_FLOOR` is the compiled `floor.c`, `PINNACE_BENCH_PEER` a
//! folder with `kernel` and `initrd` of the peer VM, `PINNACE_BENCH_DOCKERD` the folder with the real dockerd's packages,
//! `PINNACE_BENCH_PICTURE` the file to draw, `PINNACE_BENCH_ROUNDS` how often everything is repeated. Arguments name the parts that are
//! wanted; without any, all are measured.

mod boot;
mod containers;
mod crowd;
mod memory;
mod peer;
mod picture;
mod pull;
mod rivals;
mod sample;
mod streams;

use picture::Facts;
use std::io::Write;
use std::path::PathBuf;

/// One line of the table.
pub struct Row {
    what: String,
    limit: &'static str,
    ours: String,
    beside: String,
}

impl Row {
    /// `ours` against `beside`; an empty `limit` promises nothing.
    pub fn new(what: &str, limit: &'static str, ours: String, beside: String) -> Row {
        Row { what: what.to_owned(), limit, ours, beside }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|word| word == rivals::TURN_OF_RUNTIME) {
        return rivals::turn(&args[1..]);
    }
    let wanted = |(name, _): &&Part| args.is_empty() || args.iter().any(|arg| arg == name);
    let mut facts = Facts::default();
    print(&PARTS.iter().filter(wanted).flat_map(|(_, part)| part(&mut facts)).collect::<Vec<_>>());
    if let Some(path) = path("PINNACE_BENCH_PICTURE") {
        facts.draw(&path);
    }
}

type Part = (&'static str, fn(&mut Facts) -> Vec<Row>);

/// What is measured, in the order of the table.
const PARTS: [Part; 6] = [
    ("boot", |_| boot::rows()),
    ("containers", containers::rows),
    ("pull", pull::rows),
    ("streams", |_| streams::rows()),
    ("crowd", |_| crowd::rows()),
    ("crowd-in-the-vm", |_| crowd::in_the_vm()),
];

/// Tells what is going on.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "    {text}");
}

/// A path from the environment, if it is set.
pub fn path(key: &str) -> Option<PathBuf> {
    std::env::var_os(key).map(PathBuf::from)
}

/// How often everything is repeated.
pub fn rounds() -> usize {
    std::env::var("PINNACE_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

fn print(rows: &[Row]) {
    let mut out = String::from("| what | limit | measured | beside | by |\n|---|---|---|---|---|\n");
    for row in rows {
        let Row { what, limit, ours, beside } = row;
        out += &format!("| {what} | {limit} | {ours} | {beside} | `cargo xtask bench` |\n");
    }
    std::io::stdout().write_all(out.as_bytes()).expect("standard output takes the table");
}
