//! What names stand for: indexes, manifests, several compressed forms of a layer; and rows that are torn.

use std::path::Path;

use model::reference::Reference;
use pinnace_images::ImageError;
use serde_json::{Value, json};
use store::{Durability, Store, Table};

use crate::fake::{Answer, Fake, whole};
use crate::kit::{Data, INDEX, MANIFEST, Made, gzip, open, tar};

/// The rows of a table of a data folder that no engine has open.
fn rows(folder: &Path, table: &'static str) -> Vec<(String, Value)> {
    let store = Store::open(&folder.join("meta.redb")).unwrap();
    store.read(|reader| reader.rows(Table::<str, Value>::new(table))).unwrap().readable
}

/// Puts something else in the place of a row.
fn tear(folder: &Path, table: &'static str, key: &str) {
    let store = Store::open(&folder.join("meta.redb")).unwrap();
    let key = key.to_owned();
    store
        .write(Durability::Synced, move |writer| {
            let table = Table::<str, Value>::new(table);
            assert!(writer.contains(table, key.as_str())?);
            writer.put(table, key.as_str(), &json!("of another time"))
        })
        .unwrap();
}

/// Stops the engine, lets `change` at its folder, and starts it again.
fn meanwhile(data: Data, change: impl FnOnce(&Path)) -> Data {
    let Data { folder, images } = data;
    drop(images);
    change(folder.path());
    let images = open(folder.path());
    Data { folder, images }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_in_another_form_is_known_with_its_origin() {
    let tars = vec![tar(&[("same", b"content")])];
    let first = Made::of(&tars, vec![gzip(&tars[0])], "linux", "amd64");
    let mut second = Made::of(&tars, vec![zstd::encode_all(&tars[0][..], 1).unwrap()], "linux", "amd64");
    second.config.push(b'\n');
    second.manifest = crate::kit::manifest(&second.config, &second.layers);
    let (one, two) = (Fake::serving(&first, |_| None), Fake::serving(&second, |_| None));
    let data = Data::new();
    data.pull(&one.name()).await.unwrap();
    data.pull(&two.name()).await.unwrap();
    let form = model::reference::Digest::of(&second.layers[0]).to_string();
    assert!(two.asked(&form).is_empty(), "a layer that is here was fetched again");
    let mut layers = Vec::new();
    let data = meanwhile(data, |folder| layers = rows(folder, "layers"));
    let [(_, layer)] = &layers[..] else { panic!("{layers:?}") };
    let known = |made: &Made, fake: &Fake| {
        json!({ "media_type": crate::kit::GZIP, "digest": model::reference::Digest::of(&made.layers[0]),
            "size": made.layers[0].len(), "origins": [format!("{}/x", fake.address)] })
    };
    assert_eq!(layer["blobs"], json!([known(&first, &one), known(&second, &two)]));
    data.images.delete(&one.name(), false, &|_| false).unwrap();
    assert_eq!(data.read(&two.name(), "same").unwrap(), b"content");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_found_by_its_manifest_and_its_index() {
    let made = Made::new(&[&[("a", b"1")]]);
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [{ "mediaType": MANIFEST, "digest": made.digest(), "size": made.manifest.len() }],
    }))
    .unwrap();
    let digest = model::reference::Digest::of(&index);
    let fake = Fake::serving(&made, move |asked| {
        asked.path.ends_with("/manifests/latest").then(|| whole(INDEX, &index))
    });
    let data = Data::new();
    assert_eq!(data.pull(&fake.name()).await.unwrap().digest, digest);
    data.images.tag(&fake.name(), &Reference::parse("mine").unwrap()).unwrap();
    let mut references = Vec::new();
    let data = meanwhile(data, |folder| references = rows(folder, "references"));
    assert!(
        references.iter().all(|(_, known)| known["target"]["digest"] == digest.as_str()),
        "{references:?}"
    );
    assert_eq!(references.len(), 3);
    let found = |text: &str| data.images.resolve(text).map(|image| image.id.to_string()).ok();
    for text in [digest.as_str(), digest.hex(), digest.short(), made.digest().as_str(), made.digest().short()]
    {
        assert_eq!(found(text), Some(made.id()), "{text}");
    }
    assert_eq!(data.names("blobs/sha256").len(), 4);
    data.images.delete(digest.short(), true, &|_| false).unwrap();
    assert_eq!(found(made.digest().as_str()), None);
    data.becomes_empty().await;
    let data = meanwhile(data, |folder| {
        for table in ["images", "references", "manifests", "layers"] {
            assert!(rows(folder, table).is_empty(), "{table}");
        }
    });
    assert!(data.images.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_row_damages_one_image_until_it_is_pulled_again() {
    let (torn, other) = (Made::new(&[&[("a", b"1")]]), Made::new(&[&[("b", b"2")]]));
    let (fake, beside) = (Fake::serving(&torn, |_| None), Fake::serving(&other, |_| None));
    let mut data = Data::new();
    data.pull(&fake.name()).await.unwrap();
    data.pull(&beside.name()).await.unwrap();
    let diff_id = data.images.resolve(&fake.name()).unwrap().diff_ids[0].to_string();
    for (table, key) in [("images", torn.id()), ("layers", diff_id)] {
        data = meanwhile(data, |folder| tear(folder, table, &key));
        assert_eq!(data.images.list().len(), 2);
        let error = data.images.resolve(&fake.name()).unwrap().whole().unwrap_err();
        assert!(matches!(&error, ImageError::Damaged { id, .. } if *id == torn.id()), "{table}: {error}");
        assert_eq!(data.read(&beside.name(), "b").unwrap(), b"2");
        data.pull(&fake.name()).await.unwrap();
        data = data.again();
        assert_eq!(data.read(&fake.name(), "a").unwrap(), b"1", "{table}");
    }
    // It can be removed as well, and with it goes all that it had.
    data = meanwhile(data, |folder| tear(folder, "images", &torn.id()));
    data.images.delete(&torn.id(), false, &|_| false).unwrap();
    data.images.delete(&beside.name(), false, &|_| false).unwrap();
    data.becomes_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_name_is_one_damaged_name() {
    let made = Made::new(&[&[("a", b"1")]]);
    let fake = Fake::serving(&made, |_| None);
    let mut data = Data::new();
    data.pull(&fake.name()).await.unwrap();
    data.images.tag(&fake.name(), &Reference::parse("torn:1").unwrap()).unwrap();
    for mend in [true, false] {
        data = meanwhile(data, |folder| tear(folder, "references", "docker.io/library/torn:1"));
        let error = data.images.resolve("torn:1").unwrap_err();
        assert!(matches!(error, ImageError::DamagedName { .. }), "{error}");
        assert_eq!(data.images.resolve(&fake.name()).unwrap().id.as_str(), made.id());
        if mend {
            data.images.tag(&fake.name(), &Reference::parse("torn:1").unwrap()).unwrap();
        } else {
            let removed = data.images.delete("torn:1", false, &|_| false).unwrap();
            assert_eq!(removed, [pinnace_images::Removed::Untagged("torn:1".to_owned())]);
        }
        data = data.again();
        assert_eq!(data.images.resolve("torn:1").is_ok(), mend);
    }
    assert_eq!(data.read(&fake.name(), "a").unwrap(), b"1");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_come_page_by_page_and_from_no_other_host() {
    let page = |tags: &[&str], next: Option<&str>| {
        let link =
            next.map(|next| ("Link", format!("<http://elsewhere.test/v2/x/tags/list?{next}>; rel=\"next\"")));
        let body = json!({ "name": "x", "tags": tags }).to_string().into_bytes();
        Answer::Whole(200, link.into_iter().collect(), body)
    };
    let fake = Fake::start(move |asked| match asked.path.as_str() {
        "/v2/x/tags/list" => page(&["a", "b"], Some("n=2&last=b")),
        "/v2/x/tags/list?n=2&last=b" => page(&["c"], Some("n=2&last=c")),
        "/v2/x/tags/list?n=2&last=c" => page(&["d"], None),
        _ => Answer::Whole(404, Vec::new(), Vec::new()),
    });
    let data = Data::new();
    let name = Reference::parse(&fake.name()).unwrap();
    let anonymous = pinnace_images::registry::Credentials::Anonymous;
    assert_eq!(data.images.tags(&name, anonymous).await.unwrap(), ["a", "b", "c", "d"]);
}
