//! A data disk of an older release, made anew from its description.
//!
//! A description is one JSON value a line, in the order in which things are made:
//!
//! ```text
//!   {"row":[TABLE,KEY,VALUE]}               a row of the database, its value as text
//!   {"folder":PATH,"mode":MODE}
//!   {"file":PATH,"mode":MODE,"text":TEXT}   an empty file where there is no text: its content was no text, and nobody reads it
//!   {"program":PATH}                        a static busybox was here
//!   {"whiteout":PATH}                       overlayfs' mark of a removed file
//! ```
//!
//! It was written down from a disk that the release really had left behind, after its power was cut.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use redb::{Database, TableDefinition};
use serde_json::Value;

/// The disk of commit 101bc54, which had no number of a schema yet.
pub const SCHEMA_1: &str = include_str!("schema-1.jsonl");

/// Makes the disk below `data`; `program` stands for every program on it.
pub fn make(description: &str, data: &Path, program: &[u8]) {
    let lines = description.lines().map(|line| serde_json::from_str::<Value>(line).expect("it is JSON"));
    let (rows, files): (Vec<Value>, Vec<Value>) = lines.partition(|line| line.get("row").is_some());
    database(&rows, &data.join("meta.redb"));
    for line in &files {
        let path = |key: &str| line[key].as_str().map(|path| data.join(path));
        if let Some(folder) = path("folder") {
            fs::create_dir_all(&folder).expect("the folder above was made before");
            set_mode(&folder, line);
        } else if let Some(file) = path("file") {
            fs::write(&file, line["text"].as_str().unwrap_or_default()).expect("its folder was made before");
            set_mode(&file, line);
        } else if let Some(file) = path("program") {
            fs::write(&file, program).expect("its folder was made before");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it was just written");
        } else if let Some(node) = path("whiteout") {
            let made = std::process::Command::new("mknod").arg(node).args(["c", "0", "0"]).status();
            assert!(made.expect("mknod can be run").success());
        }
    }
}

/// A database with these rows.
pub fn database(rows: &[Value], path: &Path) {
    let database = Database::create(path).expect("its folder can be written");
    let transaction = database.begin_write().expect("nobody else writes");
    for row in rows {
        let part = |at: usize| row["row"][at].as_str().expect("a row has three texts");
        let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(part(0));
        let mut table = transaction.open_table(definition).expect("it has no other types");
        table.insert(part(1), part(2).as_bytes()).expect("there is room");
    }
    transaction.commit().expect("there is room");
}

fn set_mode(path: &Path, line: &Value) {
    let mode = u32::try_from(line["mode"].as_u64().expect("it has a mode")).expect("a mode is small");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it was just made");
}
