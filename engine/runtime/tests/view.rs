//! Views of containers that do not run: root only, since they mount.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what it needs, and fails by panic")]

use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;

use pinnace_runtime::ids::IdMap;
use pinnace_runtime::launch::{BindMount, VolumeKind, VolumeMount};
use pinnace_runtime::rootfs::{self, Root};
use pinnace_runtime::view::View;
use rustix::fs::OFlags;
use rustix::io::Errno;

fn folders(names: &[&str]) -> Option<tempfile::TempDir> {
    if !rustix::process::geteuid().is_root() {
        skip::note!("needs root");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    Some(dir)
}

fn root(dir: &Path) -> Root {
    Root { layers: vec![dir.join("low"), dir.join("high")], upper: dir.join("upper"), work: dir.join("work") }
}

fn read(view: &View, path: &str) -> Result<String, Errno> {
    let file = view.open(path.as_bytes(), OFlags::RDONLY)?;
    let mut text = String::new();
    std::fs::File::from(file).read_to_string(&mut text).unwrap();
    Ok(text)
}

#[test]
fn mounts_are_in_their_places_and_nothing_is_mounted_here() {
    let Some(dir) = folders(&["low/etc", "high", "upper", "work", "volume"]) else { return };
    let dir = dir.path();
    std::fs::write(dir.join("low/etc/name"), "layer").unwrap();
    std::fs::write(dir.join("volume/name"), "volume").unwrap();
    symlink("/etc/name", dir.join("high/link")).unwrap();
    symlink("../../../../../../etc/hostname", dir.join("high/out")).unwrap();
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let bind = BindMount { source: dir.join("volume"), readonly: true, recursive: true };
    let mount = VolumeMount { target: "/data/deep".to_owned(), kind: VolumeKind::Bind(bind) };
    let view =
        View::assemble(rootfs::overlay(&root(dir)).unwrap(), &[mount], false, IdMap::default()).unwrap();
    assert_eq!(before, std::fs::read_to_string("/proc/self/mountinfo").unwrap());
    assert_eq!(read(&view, "/link").unwrap(), "layer");
    assert_eq!(read(&view, "/data/deep/name").unwrap(), "volume");
    assert_eq!(read(&view, "/out"), Err(Errno::NOENT), "a link out of the root");
    assert_eq!(read(&view, "../../../../etc/hostname"), Err(Errno::NOENT));
    let flags = OFlags::WRONLY;
    assert_eq!(view.open(b"/data/deep/name", flags).unwrap_err(), Errno::ROFS);
    assert!(view.open(b"/etc/name", flags).is_ok());
    let bare = view.bare().unwrap();
    assert!(rustix::fs::statat(&bare, "data/deep/name", rustix::fs::AtFlags::empty()).is_err());
    assert!(rustix::fs::statat(&bare, "etc/name", rustix::fs::AtFlags::empty()).is_ok());
}

#[test]
fn a_read_only_root_takes_no_writes() {
    let Some(dir) = folders(&["low/etc", "high", "upper", "work"]) else { return };
    let dir = dir.path();
    std::fs::write(dir.join("low/etc/name"), "layer").unwrap();
    let view = View::assemble(rootfs::overlay(&root(dir)).unwrap(), &[], true, IdMap::default()).unwrap();
    assert_eq!(view.open(b"/etc/name", OFlags::RDWR).unwrap_err(), Errno::ROFS);
    assert_eq!(read(&view, "/etc/name").unwrap(), "layer");
}

#[test]
fn the_view_of_another_process_is_refused() {
    let error = View::of_process(std::process::id(), "0123456789abcdef").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::SRCH.raw_os_error()));
}

#[test]
fn layers_without_a_writable_one_are_one_tree() {
    let Some(dir) = folders(&["low", "high"]) else { return };
    let dir = dir.path();
    std::fs::write(dir.join("low/a"), "").unwrap();
    std::fs::write(dir.join("high/b"), "").unwrap();
    let both = rootfs::layers(&[dir.join("low"), dir.join("high")]).unwrap();
    let one = rootfs::layers(&[dir.join("low")]).unwrap();
    let has = |root: &std::os::fd::OwnedFd, name: &str| {
        rustix::fs::statat(root, name, rustix::fs::AtFlags::empty()).is_ok()
    };
    assert!(has(&both, "a") && has(&both, "b") && has(&one, "a") && !has(&one, "b"));
}
