//! Schema 1 → 2.
//!
//! | schema 1 | schema 2 |
//! |---|---|
//! | a container is one row | what it shall be, its state, and its name are three |
//! | a reference leads to an image | it names what the registry gave, and leads to an image |
//! | an image lists its manifests' digests | manifests are a table |
//! | a layer has one compressed form | it has several, with their origins |
//! | a hold has one key | it has two |
//! | a network's name leads to its id | its id leads to what it is |
//!
//! A row that is no JSON goes over as it is, so that today's room shows it as one damaged object.

mod images;

use serde_json::{Map, Value, json};

use super::Rewriter;

pub(super) fn run(rewriter: &mut Rewriter<'_>) -> Result<(), redb::Error> {
    containers(rewriter)?;
    images::run(rewriter)?;
    holds(rewriter)?;
    networks(rewriter)?;
    // Nothing was ever in it.
    rewriter.take("volumes")?;
    Ok(())
}

fn containers(rewriter: &mut Rewriter<'_>) -> Result<(), redb::Error> {
    rewriter.take("names")?;
    let mut names: Vec<String> = Vec::new();
    for (id, row) in rewriter.take("containers")? {
        let Ok(Value::Object(mut record)) = serde_json::from_slice(&row) else {
            rewriter.put("containers", &id, &row)?;
            continue;
        };
        let name = unique(text(&record, "name"), &id, &names);
        record.insert("name".to_owned(), json!(name));
        let state = picked(&record, &["state", "restarts", "health", "finished_at"]);
        rewriter.put("containers", &id, state_free(record).to_string().as_bytes())?;
        rewriter.put("states", &id, state.to_string().as_bytes())?;
        rewriter.put("names", &name, json!(id).to_string().as_bytes())?;
        names.push(name);
    }
    Ok(())
}

/// Two renames at the same time could give two containers one name: the second one gets its id before it.
fn unique(name: String, id: &str, names: &[String]) -> String {
    match names.contains(&name) {
        true => format!("{}_{name}", id.get(..12).unwrap_or(id)),
        false => name,
    }
}

/// What the container shall be; the hardware address is its endpoint's now.
fn state_free(record: Map<String, Value>) -> Value {
    let mut spec = picked(&record, &["name", "created", "image_id", "config", "host"]);
    let host = spec["host"].as_object_mut();
    let mac = host.and_then(|host| host.remove("mac")).unwrap_or_else(|| json!(""));
    let network = spec["host"]["network_mode"].as_str().unwrap_or("bridge").to_owned();
    spec["endpoints"] = json!({ network: { "mac": mac } });
    spec
}

fn picked(record: &Map<String, Value>, fields: &[&str]) -> Value {
    let present = fields.iter().filter_map(|field| Some(((*field).to_owned(), record.get(*field)?.clone())));
    Value::Object(present.collect())
}

fn text(record: &Map<String, Value>, field: &str) -> String {
    record.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn holds(rewriter: &mut Rewriter<'_>) -> Result<(), redb::Error> {
    for key in rewriter.take("holds")?.into_keys() {
        let Some((what, by)) = key.split_once('\0') else { continue };
        rewriter.put("holds", &format!("{what}\0existence\0{by}"), b"null")?;
        rewriter.put("holders", &format!("{by}\0existence\0{what}"), b"null")?;
    }
    Ok(())
}

fn networks(rewriter: &mut Rewriter<'_>) -> Result<(), redb::Error> {
    for (name, row) in rewriter.take("networks")? {
        // An id that cannot be read is made anew by the room.
        let Ok(id) = serde_json::from_slice::<String>(&row) else { continue };
        let driver = if name == "none" { "null" } else { name.as_str() };
        let record = json!({ "name": name, "driver": driver });
        rewriter.put("networks", &id, record.to_string().as_bytes())?;
    }
    Ok(())
}
