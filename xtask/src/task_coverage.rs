//! `cargo xtask coverage`: the endpoints of the Docker API against the engine's router, as docs/api-coverage.md.
//!
//! What Docker has is the project's own list, docs/endpoints.tsv. What the engine has is read from the source of its
//! router with a parser, so that the table can be checked without a build.

use crate::generated::Document;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fmt::Write;

const LIST: &str = "docs/endpoints.tsv";
const ROUTER: &str = "engine/server/src/routes/mod.rs";
/// The table.
pub const DOCUMENT: Document = Document { path: "docs/api-coverage.md", text: table };

const TIERS: [(&str, &str); 4] = [
    ("1", "Everyday loop of the docker command line"),
    ("2", "Compose, builds, developers' tools"),
    ("3", "Other endpoints"),
    ("4", "Swarm, services, secrets, configs, plugins"),
];

/// One line of the list.
struct Endpoint {
    method: String,
    path: String,
    tier: String,
    since: String,
    clients: String,
}

fn table(workspace: &Workspace) -> Result<String> {
    let read = |name: &str| {
        std::fs::read_to_string(workspace.root.join(name)).with_context(|| format!("cannot read {name}"))
    };
    let endpoints = endpoints(&read(LIST)?)?;
    let served = served(&read(ROUTER)?)?;
    let known: BTreeSet<_> = endpoints.iter().map(|e| (e.method.clone(), e.path.clone())).collect();
    if let Some((method, path)) = served.iter().find(|route| !known.contains(*route)) {
        bail!("the router serves {method} {path}, which is not in {LIST}");
    }
    Ok(render(&endpoints, &served))
}

fn render(endpoints: &[Endpoint], served: &BTreeSet<(String, String)>) -> String {
    let is_served = |e: &&Endpoint| served.contains(&(e.method.clone(), e.path.clone()));
    let mut out = String::from(
        "# Coverage of the Docker Engine API\n\n\
         Written by `cargo xtask coverage` from the engine's router and [endpoints.tsv](endpoints.tsv); do not edit.\n\
         An endpoint that is not done answers with a clear error in Docker's form.\n\n\
         | tier | done | of |\n|---|---|---|\n",
    );
    for (tier, title) in TIERS {
        let of_tier = || endpoints.iter().filter(|e| e.tier == tier);
        let _ = writeln!(
            out,
            "| {tier}: {title} | {} | {} |",
            of_tier().filter(is_served).count(),
            of_tier().count()
        );
    }
    for (tier, title) in TIERS {
        let _ = write!(
            out,
            "\n## {tier}: {title}\n\n| endpoint | since | state | called by |\n|---|---|---|---|\n"
        );
        for e in endpoints.iter().filter(|e| e.tier == tier) {
            let state = if is_served(&e) { "done" } else { "clear error" };
            let clients = e.clients.replace(',', ", ");
            let _ = writeln!(out, "| `{} {}` | {} | {state} | {clients} |", e.method, e.path, e.since);
        }
    }
    out
}

fn endpoints(list: &str) -> Result<Vec<Endpoint>> {
    let lines = list.lines().filter(|line| !line.starts_with('#')).skip(1);
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [method, path, tier, since, clients] = fields[..] else {
            bail!("{LIST}: not five fields: {line}")
        };
        let [method, path, tier, since, clients] = [method, path, tier, since, clients].map(str::to_owned);
        Ok(Endpoint { method, path, tier, since, clients })
    };
    lines.map(parse).collect()
}

/// Method and path of every `route!` in the router's table.
fn served(source: &str) -> Result<BTreeSet<(String, String)>> {
    let file = syn::parse_file(source)?;
    let table = file.items.iter().find_map(|item| match item {
        syn::Item::Const(item) if item.ident == "ROUTES" => Some(&*item.expr),
        _ => None,
    });
    let mut table = table.with_context(|| format!("{ROUTER} has no const ROUTES"))?;
    while let syn::Expr::Reference(reference) = table {
        table = &reference.expr;
    }
    let syn::Expr::Array(table) = table else { bail!("ROUTES in {ROUTER} is no array") };
    table.elems.iter().map(route).collect()
}

fn route(entry: &syn::Expr) -> Result<(String, String)> {
    let syn::Expr::Macro(entry) = entry else {
        bail!("ROUTES in {ROUTER} has an entry that is no route!(…)")
    };
    let mut words = entry
        .mac
        .tokens
        .clone()
        .into_iter()
        .filter_map(|token| syn::parse2::<syn::LitStr>(token.into()).ok());
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        bail!("a route! in {ROUTER} lacks its method or path")
    };
    // `{name*}` takes slashes too; the list does not tell that.
    Ok((method.value(), path.value().replace("*}", "}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_from_the_source() {
        let source =
            r#"const ROUTES: &[Route] = &[route!("GET", "/a", x::a), route!("POST", "/b/{name*}/c", b)];"#;
        let served: Vec<_> = served(source).unwrap().into_iter().collect();
        let pair = |method: &str, path: &str| (method.to_owned(), path.to_owned());
        assert_eq!(served, [pair("GET", "/a"), pair("POST", "/b/{name}/c")]);
    }
}
