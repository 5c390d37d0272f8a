//! The statements that tests name: an id in a comment belongs to the function around it or right below it.

use super::rows::Id;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// The places that name a statement, as `file::function` or a client's file.
pub type Marks = BTreeMap<Id, Vec<String>>;

/// All marks in the files below a folder, in the order of their paths.
pub fn below(folder: &Path) -> Result<Marks> {
    let mut marks = Marks::new();
    collect(folder, &mut marks)?;
    Ok(marks)
}

fn collect(folder: &Path, marks: &mut Marks) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            // What packages bring is not ours.
            if !path.ends_with("node_modules") {
                collect(&path, marks)?;
            }
            continue;
        }
        of_file(&path, marks).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(())
}

fn of_file(path: &Path, marks: &mut Marks) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("rs") => of_rust(&name, &std::fs::read_to_string(path)?, marks)?,
        Some("py" | "sh") => of_script("# ", &name, &std::fs::read_to_string(path)?, marks),
        Some("js" | "mjs" | "ts" | "go") => of_script("// ", &name, &std::fs::read_to_string(path)?, marks),
        _ => {}
    }
    Ok(())
}

/// Marks of a program in another language: they belong to the file.
pub fn of_script(sign: &str, file: &str, text: &str, marks: &mut Marks) {
    for comment in text.lines().filter_map(|line| comment(line, sign)) {
        ids(comment).for_each(|id| put(marks, id, file.to_owned()));
    }
}

fn of_rust(file: &str, text: &str, marks: &mut Marks) -> syn::Result<()> {
    let mut functions = Functions(Vec::new());
    functions.visit_file(&syn::parse_file(text)?);
    for (at, line) in text.lines().enumerate() {
        for id in rust_comment(line).into_iter().flat_map(ids) {
            let function = functions.of_line(at + 1);
            put(marks, id, function.map_or_else(|| file.to_owned(), |name| format!("{file}::{name}")));
        }
    }
    Ok(())
}

fn put(marks: &mut Marks, id: Id, place: String) {
    let places = marks.entry(id).or_default();
    if !places.contains(&place) {
        places.push(place);
    }
}

fn ids(comment: &str) -> impl Iterator<Item = Id> {
    comment.split(|c: char| !c.is_alphanumeric() && c != '_').filter_map(Id::parse)
}

/// A comment about code; what is said about the whole module (`//!`) proves nothing.
fn rust_comment(line: &str) -> Option<&str> {
    comment(line, "/// ").or_else(|| comment(line, "// "))
}

/// What follows `sign` where it begins a word and stands in no string.
fn comment<'a>(line: &'a str, sign: &str) -> Option<&'a str> {
    let begins = |at: &usize| {
        let before = &line[..*at];
        before.chars().next_back().is_none_or(char::is_whitespace)
            && before.matches('"').count().is_multiple_of(2)
    };
    let at = line.match_indices(sign).map(|(at, _)| at).find(begins)?;
    Some(&line[at + sign.len()..])
}

/// Name, first line with what stands above it, last line.
struct Functions(Vec<(String, usize, usize)>);

impl Functions {
    fn add(&mut self, name: &syn::Ident, span: proc_macro2::Span) {
        self.0.push((name.to_string(), span.start().line, span.end().line));
    }

    /// The innermost function around a line, or else the next below it.
    fn of_line(&self, line: usize) -> Option<&str> {
        let around = self.0.iter().filter(|(_, first, last)| (*first..=*last).contains(&line));
        let below = self.0.iter().filter(|(_, first, _)| *first > line);
        let found =
            around.max_by_key(|(_, first, _)| *first).or_else(|| below.min_by_key(|(_, first, _)| *first));
        found.map(|(name, ..)| &**name)
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig.ident, item.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig.ident, item.span());
        visit::visit_impl_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let mut marks = Marks::new();
        of_rust("t.rs", text, &mut marks).unwrap();
        let found: Vec<_> = marks.iter().map(|(id, places)| (id.to_string(), places.join(" "))).collect();
        let expected: Vec<_> = expected.iter().map(|(id, at)| ((*id).to_owned(), (*at).to_owned())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn marks_belong_to_their_function() {
        check("/// A1, A2: words\n#[test]\nfn a() {}\n", &[("A1", "t.rs::a"), ("A2", "t.rs::a")]);
        check("// A1\n#[test]\nfn a() {}\nfn b() {}\n", &[("A1", "t.rs::a")]);
        check("fn a() {\n    x(); // (A1).\n}\n/// B2\nfn b() {}\n", &[("A1", "t.rs::a"), ("B2", "t.rs::b")]);
        check(
            "fn a() {\n    fn b() {\n        // A1\n    }\n    // A2\n}\n",
            &[("A1", "t.rs::b"), ("A2", "t.rs::a")],
        );
        check("fn a() {\n    // A1\n    // A1\n}\n// A1\nfn b() {}\n", &[("A1", "t.rs::a t.rs::b")]);
        check("impl X {\n    /// A1\n    fn a() {}\n}\n", &[("A1", "t.rs::a")]);
        check("fn a() {}\n// A1\n", &[("A1", "t.rs")]);
    }

    #[test]
    fn what_only_looks_like_a_mark_is_none() {
        check("//! A1\nfn a() {}\n", &[]);
        check("fn a() { x(\"see // A1\"); }\n", &[]);
        check("fn a() {} // http://x/A1x A100 UTF8 SHA_A1 F\n", &[]);
    }

    #[test]
    fn scripts_are_marked_as_files() {
        let mut marks = Marks::new();
        of_script("# ", "c.py", "import x\nx()  # A1: why\nprint('# A')\n", &mut marks);
        assert_eq!(
            marks.into_iter().collect::<Vec<_>>(),
            [(Id::parse("A1").unwrap(), vec!["c.py".to_owned()])]
        );
    }
}
