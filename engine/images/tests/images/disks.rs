//! Disks that are full or spoilt.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use model::reference::Reference;
use pinnace_images::Images;
use store::{Durability, Store, Table};

use crate::fake::Fake;
use crate::kit::{Data, Made, noise, open, request};

const TEXTS: Table<str, String> = Table::new("texts");

/// A disk of a few megabytes, mounted until dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(megabytes: u32) -> SmallDisk {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).status();
        assert!(mount.unwrap().success());
        SmallDisk(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().unwrap();
    }
}

async fn settled(images: &Images, folder: &Path) {
    let empty = |name: &str| fs::read_dir(folder.join(name)).unwrap().next().is_none();
    for _ in 0..200 {
        if images.list().is_empty() && empty("tmp") && empty("layers") && empty("blobs/sha256") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("something was left behind");
}

/// Fills the disk to the last byte; what it holds is given back with the file.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let mut file = fs::File::create(&path).unwrap();
    let mut block = 1 << 20;
    while block > 0 {
        if file.write_all(&vec![1; block]).is_err() {
            block /= 2;
        }
    }
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_can_be_emptied() {
    let disk = SmallDisk::new(20);
    let large = Made::new(&[&[("f", &noise(20 << 20))]]);
    let small = Made::new(&[&[("f", b"1")]]);
    let (large, small) = (Fake::serving(&large, |_| None), Fake::serving(&small, |_| None));
    let images = open(disk.path());
    let error = images.pull(request(&large.name()), &|_| {}).await.unwrap_err().to_string();
    assert!(error.contains("No space left on device"), "{error}");
    settled(&images, disk.path()).await;
    images.pull(request(&small.name()), &|_| {}).await.unwrap();
    let filler = fill(disk.path());
    let long = |i: usize| Reference::parse(&format!("{}/x:{i}", "n".repeat(200))).unwrap();
    (0..100).for_each(|i| images.tag(&small.name(), &long(i)).unwrap());
    drop(images);
    let images = open(disk.path());
    let id = images.resolve(&small.name()).unwrap().id.to_string();
    assert_eq!(images.delete(&id, true, &|_| false).unwrap().len(), 103);
    settled(&images, disk.path()).await;
    fs::remove_file(filler).unwrap();
}

#[test]
fn a_write_that_finds_no_space_is_not_the_last() {
    let disk = SmallDisk::new(30);
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![1; 4 << 20]).unwrap();
    let store = Store::open(&disk.path().join("meta.redb")).unwrap();
    let put = |key: String, size: usize| {
        store.write(Durability::Synced, move |writer| writer.put(TEXTS, key.as_str(), &"x".repeat(size)))
    };
    let failed = (0..40).find_map(|i| put(format!("k{i}"), 1 << 20).err().map(|error| (i, error)));
    let (count, error) = failed.unwrap();
    assert!(error.to_string().contains("No space left on device"), "{error}");
    fs::remove_file(&filler).unwrap();
    put("after".to_owned(), 1000).unwrap();
    let rows = store.read(|reader| reader.rows(TEXTS)).unwrap();
    assert_eq!(rows.readable.len(), count + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoilt_image_is_not_seen_and_mended_by_a_pull() {
    let made = Made::new(&[&[("a", b"1")], &[("b", b"2")]]);
    let fake = Fake::serving(&made, |_| None);
    let mut data = Data::new();
    data.pull(&fake.name()).await.unwrap();
    let hex = made.id().replace("sha256:", "");
    let spoilers: [&dyn Fn(&Path); 3] = [
        &|folder| fs::remove_dir_all(layer(folder)).unwrap(),
        &|folder| fs::write(folder.join("blobs/sha256").join(&hex), "spoilt").unwrap(),
        &|folder| fs::remove_file(folder.join("blobs/sha256").join(&hex)).unwrap(),
    ];
    for spoil in spoilers {
        spoil(data.folder.path());
        data = data.again();
        let image = data.images.list().pop().unwrap();
        assert_eq!((image.repo_tags.as_slice(), image.size), ([fake.name()].as_slice(), 0));
        let error = data.images.resolve(&fake.name()).unwrap().whole().unwrap_err().to_string();
        assert!(error.contains("is damaged: ") && error.contains("; pull it again or remove it"), "{error}");
        assert!(data.images.rootfs(&image.id).is_err());
        data.pull(&fake.name()).await.unwrap();
        data = data.again();
        assert_eq!(data.read(&fake.name(), "a").unwrap(), b"1");
        assert_eq!(data.read(&fake.name(), "b").unwrap(), b"2");
    }
}

fn layer(folder: &Path) -> PathBuf {
    fs::read_dir(folder.join("layers")).unwrap().next().unwrap().unwrap().path()
}
