//! docs/host-config.md: which fields of `HostConfig` the engine honours, read from the lists in its source.

use crate::generated::Document;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::fmt::Write;

const SOURCE: &str = "engine/server/src/wire/host.rs";
/// The table.
pub const DOCUMENT: Document = Document { path: "docs/host-config.md", text: table };

fn table(workspace: &Workspace) -> Result<String> {
    let source = std::fs::read_to_string(workspace.root.join(SOURCE));
    render(&source.with_context(|| format!("cannot read {SOURCE}"))?)
}

fn render(source: &str) -> Result<String> {
    let file = syn::parse_file(source)?;
    let mut rows: Vec<(String, &str, String)> = Vec::new();
    for (list, state) in [("HONOURED", "honoured"), ("REFUSED", "refused")] {
        rows.extend(fields(&file, list)?.into_iter().map(|(name, note)| (name, state, note)));
    }
    rows.sort();
    let mut out = String::from(
        "# Fields of HostConfig\n\n\
         Written by `cargo xtask coverage` from the engine's own lists; do not edit.\n\
         A refused field whose value asks for something is answered with an error that names it; none is ignored.\n\n\
         | field | state | to be known |\n|---|---|---|\n",
    );
    for (name, state, note) in rows {
        let _ = writeln!(out, "| `{name}` | {state} | {note} |");
    }
    Ok(out)
}

/// The pairs of a constant list.
fn fields(file: &syn::File, list: &str) -> Result<Vec<(String, String)>> {
    let expression = file.items.iter().find_map(|item| match item {
        syn::Item::Const(item) if item.ident == list => Some(&*item.expr),
        _ => None,
    });
    let mut expression = expression.with_context(|| format!("{SOURCE} has no const {list}"))?;
    while let syn::Expr::Reference(reference) = expression {
        expression = &reference.expr;
    }
    let syn::Expr::Array(array) = expression else { bail!("{list} in {SOURCE} is no array") };
    array.elems.iter().map(|pair| pair_of(pair).with_context(|| format!("{list} has an odd entry"))).collect()
}

fn pair_of(entry: &syn::Expr) -> Option<(String, String)> {
    let syn::Expr::Tuple(tuple) = entry else { return None };
    let text = |expression: &syn::Expr| match expression {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    };
    Some((text(tuple.elems.first()?)?, text(tuple.elems.get(1)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_rows() {
        let source = r#"const HONOURED: &[(&str, &str)] = &[("B", "")];
            const REFUSED: &[(&str, &str)] = &[("A", "why")];"#;
        let table = render(source).unwrap();
        assert!(table.ends_with("| `A` | refused | why |\n| `B` | honoured |  |\n"), "{table}");
    }
}
