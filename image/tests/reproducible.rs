//! The artefacts from the real kernel package: made twice they are the same, made again they are not made.

use pinnace_image::{Layout, Made, Recipe};
use std::path::{Path, PathBuf};

fn recipe(folder: &Path, out: &str) -> Recipe {
    let program = folder.join("program");
    std::fs::write(&program, "a program").expect("the folder is there");
    Recipe {
        version: "0.0.0".to_owned(),
        init: program.clone(),
        engined: program.clone(),
        ca_certificates: program,
        layout: Layout {
            init: "/init",
            engined: "/sbin/engined",
            modules: "/lib/modules",
            modules_boot: "/lib/modules/boot.list",
            modules_late: "/lib/modules/late.list",
            data_template: "/usr/share/pinnace/data.ext4.runs",
            e2fsck: "/sbin/e2fsck",
            ca_certificates: "/etc/ssl/certs/ca-certificates.crt",
            data: "/var/lib/pinnace",
        },
        cache: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../build/apt"),
        out: folder.join(out),
    }
}

fn made_now(made: Made) -> pinnace_image::Manifest {
    match made {
        Made::Now(manifest) => manifest,
        Made::Already(_) => panic!("it was made before"),
    }
}

#[test]
fn the_same_inputs_make_the_same_bytes_and_are_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let first = recipe(folder.path(), "first");
    let manifest = made_now(first.make().unwrap());
    let again = made_now(recipe(folder.path(), "second").make().unwrap());
    assert_eq!(manifest, again);
    for name in ["vmlinuz", "initramfs.zst", "manifest.json"] {
        let read = |out: &str| std::fs::read(folder.path().join(out).join(name)).unwrap();
        assert!(read("first") == read("second"), "{name} differs");
    }
    assert!(matches!(first.make().unwrap(), Made::Already(before) if before == manifest));
    // A word in the tree is enough to be made again, and back.
    let mut other = recipe(folder.path(), "first");
    other.layout.data = "/var/lib/elsewhere";
    assert_ne!(made_now(other.make().unwrap()).inputs, manifest.inputs);
    assert_eq!(made_now(first.make().unwrap()), manifest);
    assert_order(&manifest.modules_boot, "vsock", "vmw_vsock_virtio_transport");
    assert_order(&manifest.modules_late, "nf_conntrack", "nf_nat");
    assert_order(&manifest.modules_late, "llc", "bridge");
    assert!(manifest.modules_boot.iter().all(|name| !manifest.modules_late.contains(name)));
}

fn assert_order(modules: &[String], first: &str, then: &str) {
    let place = |name| modules.iter().position(|module| module == name);
    assert!(place(first).is_some() && place(first) < place(then), "{first} before {then} in {modules:?}");
}
