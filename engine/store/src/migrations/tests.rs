//! Disks of older releases, whole, torn, and cut off in the middle of their migration.

use std::collections::BTreeMap;
use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableHandle};
use serde_json::{Value, json};

use crate::held_back::{Change, HeldBack};
use crate::{Held, Holder, Lifetime, Rows, Store, Table, schema};

#[path = "../../../../tests/disks/disk.rs"]
mod disk;

const WEB: &str = "05f6da97f5a64934dcf30b1cfcaf8fd9547b50ae8f0076cfb71de587664bb03a";
const APP: &str = "sha256:453aed08a77b4f5a26e646952632021747241e1da5c408b639c3763c67e67b95";
const INDEX: &str = "sha256:99e000d876b63854d7668ceefe94956674ea31fb94fb461bdf074f69f7fe16d1";

fn old_disk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    disk::make(disk::SCHEMA_1, folder.path(), b"a program");
    folder
}

/// The rows of a table, all of them readable.
fn rows(store: &Store, table: &'static str) -> BTreeMap<String, Value> {
    let Rows { readable, damaged } =
        store.read(|reader| reader.rows(Table::<str, Value>::new(table))).unwrap();
    assert_eq!(damaged, []);
    readable.into_iter().collect()
}

/// Every row of every table as it lies there.
fn everything(path: &Path) -> BTreeMap<(String, String), Vec<u8>> {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_read().unwrap();
    let mut all = BTreeMap::new();
    let tables = transaction.list_tables().unwrap().map(|table| table.name().to_owned());
    for name in tables.filter(|name| name != "schema") {
        let definition: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new(&name);
        for row in transaction.open_table(definition).unwrap().iter().unwrap() {
            let (key, value) = row.unwrap();
            all.insert((name.clone(), key.value().to_owned()), value.value().to_vec());
        }
    }
    all
}

#[test]
fn containers_come_over_with_names_states_and_holds() {
    let folder = old_disk();
    let store = Store::open(&folder.path().join("meta.redb")).unwrap();
    let (specs, states, names) = (rows(&store, "containers"), rows(&store, "states"), rows(&store, "names"));
    let known: Vec<_> = names.keys().map(String::as_str).collect();
    assert_eq!(known, ["after", "failed", "fresh", "retried", "stopped", "web"]);
    assert!(specs.keys().eq(states.keys()) && names["web"] == WEB);
    for (name, id) in &names {
        assert_eq!(specs[id.as_str().unwrap()]["name"], name.as_str());
    }
    let (spec, state) = (&specs[WEB], &states[WEB]);
    assert_eq!((&spec["image_id"], &spec["host"]["restart"]), (&json!(APP), &json!("always")));
    assert_eq!(spec["endpoints"], json!({ "bridge": { "mac": "02:42:ac:11:00:99" } }));
    assert!(spec["host"].get("mac").is_none() && spec.get("state").is_none());
    assert!(state["state"]["started"].is_u64() && state.get("config").is_none());
    let of = |name: &str| &states[names[name].as_str().unwrap()];
    assert_eq!(of("failed")["state"]["exited"]["exit_code"], 1);
    assert_eq!(
        (&of("stopped")["restarts"]["by_hand"], &of("fresh")["finished_at"]),
        (&json!(true), &json!(0))
    );
    assert!(of("after")["health"]["log"].is_array());

    let container = Holder::Container(WEB.to_owned());
    let (held, holders) = store
        .read(|reader| Ok((reader.held_by(&container)?, reader.holders(&Held::Image(APP.parse().unwrap()))?)))
        .unwrap();
    assert_eq!(held, [(Held::Image(APP.parse().unwrap()), Lifetime::Existence)]);
    assert_eq!(holders.len(), 4);
}

#[test]
fn images_come_over_with_targets_manifests_and_origins() {
    let folder = old_disk();
    let store = Store::open(&folder.path().join("meta.redb")).unwrap();
    let references = rows(&store, "references");
    let leads = |name: &str| {
        let known = &references[name];
        let target = known["target"]["digest"].as_str().unwrap();
        (target[7..13].to_owned(), known["image"].as_str().unwrap()[7..13].to_owned())
    };
    for (name, target, image) in [
        ("registry.test:5000/app:1", "99e000", "453aed"),
        (&format!("registry.test:5000/app@{INDEX}"), "99e000", "453aed"),
        // Tagged by hand: it stands for what its image was pulled as.
        ("docker.io/library/mine:latest", "99e000", "453aed"),
        ("example.test/copy:v1", "99e000", "453aed"),
        ("registry.test:5000/moved:1", "11b96e", "0589e3"),
    ] {
        assert_eq!(leads(name), (target.to_owned(), image.to_owned()), "{name}");
    }
    let target =
        json!({ "media_type": "application/vnd.oci.image.index.v1+json", "digest": INDEX, "size": 734 });
    assert_eq!(references["registry.test:5000/app:1"]["target"], target);

    let manifests = rows(&store, "manifests");
    let entries = manifests[INDEX]["kind"]["index"]["manifests"].as_array().unwrap();
    let platforms: Vec<_> = entries.iter().map(|entry| entry["platform"]["architecture"].as_str()).collect();
    assert_eq!(platforms, [Some("arm64"), Some("amd64"), Some("unknown")]);
    let own = entries[1]["digest"].as_str().unwrap();
    assert_eq!(manifests[own]["kind"]["image"]["config"]["digest"], APP);
    assert_eq!(manifests[own]["kind"]["image"]["platform"]["architecture"], "amd64");
    let (images, layers) = (rows(&store, "images"), rows(&store, "layers"));
    assert_eq!((images.len(), manifests.len(), layers.len()), (4, 5, 2));
    assert!(images.values().all(|image| image["last_tagged"].as_u64() > Some(0)));

    // The base came as OCI's form first; what the other image calls it is the same blob.
    let base = layers.values().find(|layer| layer["size"].as_u64() > Some(10_000)).unwrap();
    let [form] = &base["blobs"].as_array().unwrap()[..] else { panic!("{base}") };
    assert!(
        form["size"].as_u64() > Some(1000)
            && form["origins"].as_array().unwrap().contains(&json!("registry.test:5000/app"))
    );
    assert_eq!(rows(&store, "networks").len(), 3);
    assert!(rows(&store, "networks").values().any(|row| *row == json!({ "name": "none", "driver": "null" })));
    assert_eq!(rows(&store, "settings")["engine-id"].as_str().unwrap().len(), 64);
}

#[test]
fn what_is_torn_is_one_damaged_object_and_the_rest_comes_over() {
    let folder = tempfile::tempdir().unwrap();
    let torn: String = disk::SCHEMA_1
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let table = line["row"][0].as_str().unwrap_or_default().to_owned();
            let is_hit =
                line["row"][1] == WEB || table == "layers" || line["row"][1] == "registry.test:5000/moved:1";
            if is_hit && table != "holds" {
                line["row"][2] = json!("{\"torn");
            }
            format!("{line}\n")
        })
        .collect();
    disk::make(&torn, folder.path(), b"a program");
    let store = Store::open(&folder.path().join("meta.redb")).unwrap();
    let damaged = |table: &'static str| {
        let rows = store.read(|reader| reader.rows(Table::<str, Value>::new(table))).unwrap();
        (rows.readable.len(), rows.damaged.len())
    };
    assert_eq!((damaged("containers"), damaged("states"), damaged("names")), ((5, 1), (5, 0), (5, 0)));
    assert_eq!((damaged("references").1, damaged("layers"), damaged("images")), (1, (0, 2), (4, 0)));
}

#[test]
fn lost_manifests_leave_names_that_stand_for_their_configuration() {
    let folder = old_disk();
    std::fs::write(folder.path().join("blobs/sha256").join(&INDEX[7..]), "torn").unwrap();
    std::fs::remove_file(folder.path().join("blobs/sha256").join(&APP[7..])).unwrap();
    let store = Store::open(&folder.path().join("meta.redb")).unwrap();
    let name = &rows(&store, "references")["registry.test:5000/app:1"];
    let target =
        json!({ "media_type": "application/vnd.oci.image.config.v1+json", "digest": APP, "size": 0 });
    assert_eq!((&name["target"], &name["image"]), (&target, &json!(APP)));
}

#[test]
fn two_containers_of_one_name_keep_both() {
    let folder = tempfile::tempdir().unwrap();
    let record = json!({ "id": "x", "name": "twin", "host": {}, "state": { "started": 1 } }).to_string();
    let row = |id: &str| json!({ "row": ["containers", id, record] });
    let (first, second) = ("a".repeat(64), "b".repeat(64));
    disk::database(&[row(&first), row(&second)], &folder.path().join("meta.redb"));
    let store = Store::open(&folder.path().join("meta.redb")).unwrap();
    let names = rows(&store, "names");
    assert_eq!(names["twin"], first);
    assert_eq!(names["bbbbbbbbbbbb_twin"], second);
    assert_eq!(rows(&store, "containers")[&second]["name"], "bbbbbbbbbbbb_twin");
}

/// The power is cut behind each of the writes in turn, once with all of them on disk and once with only those that were
/// synced: the disk opens, and has the same rows as one whose migration was not disturbed.
#[test]
fn a_migration_that_is_cut_off_is_begun_anew() {
    let folder = old_disk();
    let path = folder.path().join("meta.redb");
    let before = std::fs::read(&path).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    // Nothing reaches the file: it is where all changes are kept, in order.
    let backend = HeldBack::new(file).unwrap();
    let database = redb::Builder::new().create_with_backend(backend.clone()).unwrap();
    let found = schema::find(&database).unwrap();
    schema::migrate(&database, found, folder.path()).unwrap();
    drop(database);
    let changes = backend.kept();
    drop(backend);
    drop(Store::open(&path).unwrap());
    let expected = everything(&path);
    assert!(expected.contains_key(&("states".to_owned(), WEB.to_owned())));

    let syncs = changes.iter().enumerate().filter(|(_, change)| matches!(change, Change::Sync));
    let syncs: Vec<usize> = syncs.map(|(at, _)| at).collect();
    assert!(syncs.len() >= 2, "the migration is not durable");
    let mut cuts: Vec<usize> = (0..changes.len()).step_by(1 + changes.len() / 60).collect();
    cuts.extend(syncs.iter().flat_map(|at| [*at, at + 1]));
    for cut in cuts {
        let mut bytes = before.clone();
        changes[..cut].iter().for_each(|change| change.apply(&mut bytes));
        std::fs::write(&path, &bytes).unwrap();
        drop(Store::open(&path).unwrap_or_else(|error| panic!("cut behind {cut}: {error}")));
        assert!(everything(&path) == expected, "cut behind {cut} of {} writes", changes.len());
    }
}
