//! How long functions and files are: read with a real parser, tests left out.

use super::Complaint;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Lines of a function from its signature to its brace: said with `--all`, and refused.
const FUNCTION: (usize, usize) = (40, 80);
/// Lines of a file without its tests.
const FILE: (usize, usize) = (400, 700);

/// What is large, and what is too large.
pub fn check(workspace: &Workspace, files: &[PathBuf]) -> Result<(Vec<Complaint>, Vec<Complaint>)> {
    let (mut large, mut too_large) = (Vec::new(), Vec::new());
    for path in files.iter().filter(|path| path.extension().is_some_and(|ext| ext == "rs")) {
        let text = std::fs::read_to_string(workspace.root.join(path))?;
        let measured = measure(&text).with_context(|| format!("cannot parse {}", path.display()))?;
        for function in &measured.functions {
            let text = format!("{} has {} lines: at most {}", function.name, function.lines, FUNCTION.1);
            let complaint = Complaint::of_line(path, function.line, text);
            sort(complaint, function.lines, FUNCTION, &mut large, &mut too_large);
        }
        if !is_test(path) {
            let text =
                format!("{} lines without tests: at most {}, split it by meaning", measured.lines, FILE.1);
            sort(Complaint::of_file(path, text), measured.lines, FILE, &mut large, &mut too_large);
        }
    }
    Ok((large, too_large))
}

fn sort(
    complaint: Complaint,
    lines: usize,
    (soft, hard): (usize, usize),
    large: &mut Vec<Complaint>,
    too_large: &mut Vec<Complaint>,
) {
    if lines > hard {
        too_large.push(complaint);
    } else if lines > soft {
        large.push(complaint);
    }
}

/// Files that hold nothing but tests.
fn is_test(path: &Path) -> bool {
    let in_folder =
        path.components().any(|part| part.as_os_str() == "tests") && !path.starts_with("tests/src");
    in_folder || path.file_stem().is_some_and(|stem| stem == "tests")
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

struct Measured {
    functions: Vec<Function>,
    lines: usize,
}

fn measure(text: &str) -> syn::Result<Measured> {
    let file = syn::parse_file(text)?;
    let mut ruler = Ruler { functions: Vec::new(), tests: 0 };
    ruler.visit_file(&file);
    Ok(Measured { functions: ruler.functions, lines: text.lines().count() - ruler.tests })
}

struct Ruler {
    functions: Vec<Function>,
    tests: usize,
}

impl Ruler {
    fn function(&mut self, name: &syn::Ident, from: proc_macro2::Span, to: proc_macro2::Span) {
        let (line, end) = (from.start().line, to.end().line);
        self.functions.push(Function { name: name.to_string(), line, lines: end - line + 1 });
    }
}

impl<'ast> Visit<'ast> for Ruler {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.attrs.iter().any(is_cfg_test) {
            let span = item.span();
            self.tests += span.end().line - span.start().line + 1;
        } else {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig.ident, item.sig.span(), item.block.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig.ident, item.sig.span(), item.block.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig.ident, item.sig.span(), block.span());
        }
        visit::visit_trait_item_fn(self, item);
    }
}

fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_and_tests_are_not() {
        let text = "fn one() {}\n\nimpl X {\n    /// Words.\n    fn two() {\n        1\n    }\n}\n#[cfg(test)]\nmod tests {\n    fn three() {}\n}\n";
        let measured = measure(text).unwrap();
        let functions: Vec<_> = measured.functions.iter().map(|f| (&*f.name, f.line, f.lines)).collect();
        assert_eq!(functions, [("one", 1, 1), ("two", 5, 3)]);
        assert_eq!(measured.lines, 8);
    }
}
