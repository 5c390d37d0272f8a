//! Names, holds and removal.

use model::ErrorKind;
use model::reference::Reference;
use pinnace_images::{Prune, Removed};
use store::{Durability, Held, Holder, Lifetime, Store};

use crate::fake::Fake;
use crate::kit::{Data, Made};

async fn pulled(made: &Made) -> (Data, String) {
    let fake = Fake::serving(made, |_| None);
    let data = Data::new();
    data.pull(&fake.name()).await.unwrap();
    (data, fake.name())
}

fn tag(data: &Data, source: &str, target: &str) -> Result<(), String> {
    let target = Reference::parse(target).unwrap();
    data.images.tag(source, &target).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_given_moved_and_taken() {
    let made = Made::new(&[&[("a", b"1")]]);
    let (data, name) = pulled(&made).await;
    tag(&data, &name, "mine").unwrap();
    tag(&data, "mine", "docker.io/library/other:1").unwrap();
    let data = data.again();
    let image = data.images.resolve("mine").unwrap();
    assert_eq!(image.repo_tags, [name.as_str(), "mine:latest", "other:1"]);
    assert_eq!(tag(&data, "nothing", "x").unwrap_err(), "No such image: nothing:latest");
    assert!(tag(&data, "mine", "sha256:x").unwrap_err().contains("digest algorithm as name"));
    let error = data.images.delete(image.id.short(), false, &|_| false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let gone = data.images.delete("mine", false, &|_| false).unwrap();
    assert_eq!(gone, [Removed::Untagged("mine:latest".into())]);
    let gone = data.images.delete(image.id.short(), true, &|_| false).unwrap();
    assert_eq!(gone.last(), Some(&Removed::Deleted(made.id())));
    data.becomes_empty().await;
    assert!(data.again().images.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_stays() {
    let made = Made::new(&[&[("a", b"1")]]);
    let (data, name) = pulled(&made).await;
    let folder = data.folder.path().to_owned();
    let held = Held::Image(made.id().parse().unwrap());
    let Data { folder: kept, images } = data;
    drop(images);
    let store = Store::open(&folder.join("meta.redb")).unwrap();
    store
        .write(Durability::Synced, move |writer| {
            writer.hold(&held, &Holder::Container("0123456789abcdef".to_owned()), Lifetime::Existence);
            Ok(())
        })
        .unwrap();
    drop(store);
    let data = Data { images: crate::kit::open(&folder), folder: kept };
    let error = data.images.delete(&name, false, &|_| false).unwrap_err();
    assert!(error.to_string().contains("(must force) - container 0123456789ab is using"), "{error}");
    let error = data.images.delete(&made.id(), true, &|_| true).unwrap_err();
    assert!(error.to_string().contains("(cannot be forced) - image is being used by running"), "{error}");
    assert!(data.images.prune(&Prune { all: true, ..Prune::default() }).unwrap().removed.is_empty());
    data.images.delete(&name, true, &|_| true).unwrap();
    let image = data.images.resolve(&made.id()).unwrap();
    assert!(image.is_dangling() && data.images.rootfs(&image.id).unwrap()[0].join("a").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_takes_what_nobody_names() {
    let made = Made::new(&[&[("a", b"12345")]]);
    let (data, name) = pulled(&made).await;
    assert_eq!(data.images.prune(&Prune::default()).unwrap().removed, []);
    let other = Made::new(&[&[("b", b"1")]]);
    let fake = Fake::serving(&other, |_| None);
    data.pull(&fake.name()).await.unwrap();
    tag(&data, &fake.name(), &name).unwrap();
    let pruned = data.images.prune(&Prune::default()).unwrap();
    assert_eq!((pruned.space, pruned.removed.last()), (5, Some(&Removed::Deleted(made.id()))));
    let pruned = data.images.prune(&Prune { all: true, ..Prune::default() }).unwrap();
    assert_eq!(pruned.removed.last(), Some(&Removed::Deleted(other.id())));
    data.becomes_empty().await;
}
