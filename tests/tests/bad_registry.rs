//! Registries that are away, lie, or break: one clear line, and nothing half-made left.

use crate::{appliance, is_reference};
use pinnace_tests::images::{Compression, Recipe, Tree, busybox};
use pinnace_tests::{Outcome, Published, free_port, skip};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

/// Busybox and one more layer that no other image has, under a name that no other test has.
fn published(stem: &str) -> Published {
    let app = appliance();
    let name = app.name(stem).to_string();
    let layer =
        Tree::default().folder("etc").file("etc/unique", 0o644, name.as_bytes()).finish(Compression::Gzip);
    app.registry().publish(&name, &busybox().layer(layer))
}

/// The pull fails with one line that contains `part`, and leaves no image.
#[track_caller]
fn pull_fails(reference: &str, part: &str) -> Outcome {
    let app = appliance();
    let outcome = app.docker(["pull", reference]).exits(1).says_on_stderr(part);
    let lines = String::from_utf8_lossy(&outcome.stderr).trim().lines().count();
    assert_eq!(lines, 1, "one line of error expected of {outcome}");
    let repository = reference.split('@').next().unwrap_or(reference).trim_end_matches(":latest");
    app.docker(["images", "--all", "--quiet", repository]).prints("").succeeds();
    app.api().get(&format!("/images/{reference}/json")).is(404);
    outcome
}

/// Turns one byte of a file, and tells how to turn it back.
fn damage(file: &Path) -> impl FnOnce() + use<> {
    let good = std::fs::read(file).expect("the registry keeps blobs in files");
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 0x55;
    std::fs::write(file, bad).expect("the file is ours");
    let file = file.to_owned();
    move || std::fs::write(file, good).expect("the file is ours")
}

#[test]
fn a_damaged_layer_is_refused_and_a_mended_one_taken() {
    let app = appliance();
    let image = published("bad-layer");
    let file = app.registry().blob_file(&image.layers[1]);
    let mend = damage(&file);
    pull_fails(&image.reference, if is_reference(app) { "" } else { &image.layers[1] });
    mend();
    app.docker(["pull", "--quiet", &image.reference]).succeeds();
    app.docker(["run", "--rm", &image.reference, "cat", "/etc/unique"]).mentions("bad-layer").succeeds();
}

#[test]
fn a_damaged_configuration_is_refused() {
    let app = appliance();
    let image = published("bad-config");
    let _mend = damage(&app.registry().blob_file(&image.config));
    pull_fails(&image.reference, if is_reference(app) { "" } else { &image.config });
}

#[test]
fn a_damaged_manifest_is_refused_by_digest() {
    let app = appliance();
    let image = published("bad-manifest");
    let _mend = damage(&app.registry().blob_file(&image.manifest));
    let exact = format!("{}@{}", image.reference.trim_end_matches(":latest"), image.manifest);
    app.docker(["pull", &exact]).fails();
    app.api().get(&format!("/images/{exact}/json")).is(404);
}

#[test]
fn a_short_layer_is_refused() {
    let app = appliance();
    let image = published("short-layer");
    let file = app.registry().blob_file(&image.layers[1]);
    let bytes = std::fs::read(&file).expect("the registry keeps blobs in files");
    std::fs::write(&file, &bytes[..bytes.len() / 2]).expect("the file is ours");
    pull_fails(&image.reference, "");
}

#[test]
fn a_missing_layer_is_refused() {
    let app = appliance();
    let image = published("missing-layer");
    std::fs::remove_file(app.registry().blob_file(&image.layers[1])).expect("the file is ours");
    pull_fails(&image.reference, "");
}

#[test]
fn a_layer_that_unpacks_to_something_else_is_refused() {
    let app = appliance();
    let name = app.name("wrong-diff").to_string();
    let mut layer = Tree::default().file("wrong", 0o644, name.as_bytes()).finish(Compression::Gzip);
    layer.diff_id = format!("sha256:{}", "ab".repeat(32));
    let image = app.registry().publish(&name, &busybox().layer(layer));
    pull_fails(&image.reference, "");
}

#[test]
fn a_layer_that_is_no_archive_is_refused() {
    let app = appliance();
    let name = app.name("no-archive").to_string();
    let mut layer = Tree::default().finish(Compression::Gzip);
    layer.bytes = format!("this is not gzip: {name}").into_bytes();
    layer.digest = pinnace_tests::images::digest(&layer.bytes);
    let image = app.registry().publish(&name, &busybox().layer(layer));
    pull_fails(&image.reference, "");
}

#[test]
fn links_lead_nowhere_outside_the_image() {
    let app = appliance();
    let name = app.name("links").to_string();
    // A link in one layer, a file through it in the next: it must land inside the image (CVE-2018-15664's kin).
    let first = Tree::default().folder("tmp").link("way-out", "/tmp").link("up", "../../../../tmp");
    let second =
        Tree::default().file("way-out/landed", 0o644, b"one\n").file("up/landed-too", 0o644, b"two\n");
    let recipe = busybox().layer(first.finish(Compression::Gzip)).layer(second.finish(Compression::Gzip));
    let image = app.registry().publish(&name, &recipe).reference;
    // An engine may refuse such an image; if it takes it, the files are in it and nowhere else.
    if app.docker(["pull", "--quiet", &image]).code == 0 {
        let script = "cat /way-out/landed /up/landed-too";
        app.docker(["run", "--rm", &image, "sh", "-c", script]).prints("one\ntwo\n").succeeds();
    }
    assert!(!Path::new("/tmp/landed").exists() && !Path::new("/tmp/landed-too").exists());
}

#[test]
fn a_registry_that_is_away_is_told() {
    let app = appliance();
    let reference = format!("{}:{}/away:latest", app.host_address, free_port());
    pull_fails(&reference, "connection refused");
}

#[test]
fn a_name_that_does_not_resolve_is_told() {
    pull_fails("registry.invalid/x:latest", "registry.invalid");
}

/// A server that answers every connection with the same bytes.
fn answering(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind(("0.0.0.0", 0)).expect("a port is free");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(bytes);
        }
    });
    port
}

#[test]
fn nonsense_is_told() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has other words");
    }
    let html = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<html></html>";
    let answers: [&'static [u8]; 5] = [
        html,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{\"layers\"",
    ];
    for bytes in answers {
        pull_fails(&format!("{}:{}/nonsense:latest", app.host_address, answering(bytes)), "");
    }
}

#[test]
fn an_image_without_layers_or_of_another_machine_is_told() {
    let app = appliance();
    let name = app.name("other-machine").to_string();
    let other =
        Recipe::new().architecture("s390x").layer(Tree::default().folder("x").finish(Compression::Gzip));
    let image = app.registry().publish(&name, &other).reference;
    let pulled = app.docker(["pull", "--quiet", "--platform", "linux/amd64", &image]);
    if pulled.code == 0 {
        app.docker(["run", "--rm", &image, "true"]).fails();
    }
}
