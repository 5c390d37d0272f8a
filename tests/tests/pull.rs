//! `docker pull`: what it shows, what it keeps, what it can read.

use crate::{appliance, is_reference};
use pinnace_tests::images::{Compression, Image, Tree, busybox};
use pinnace_tests::skip;
use serde_json::Value;

/// A repository of its own, so that nobody else pulls or removes it.
fn fresh(stem: &str) -> (String, String) {
    let app = appliance();
    let name = app.name(stem).to_string();
    let layer =
        Tree::default().folder("etc").file("etc/fresh", 0o644, name.as_bytes()).finish(Compression::Gzip);
    let published = app.registry().publish(&name, &busybox().layer(layer));
    (published.reference, published.manifest)
}

#[test]
fn the_first_pull_downloads_and_the_second_is_up_to_date() {
    let app = appliance();
    let (reference, digest) = fresh("pull-twice");
    let first = app.docker(["pull", &reference]).succeeds();
    let first = first.mentions("latest: Pulling from").mentions("Pull complete");
    let first = first.mentions(&format!("Digest: {digest}\n"));
    first.mentions(&format!("Status: Downloaded newer image for {reference}\n{reference}\n"));
    let second = app.docker(["pull", &reference]).succeeds();
    second.mentions(&format!("Status: Image is up to date for {reference}\n"));
}

#[test]
fn progress_arrives_as_json_lines() {
    let app = appliance();
    let (reference, digest) = fresh("pull-json");
    let name = reference.trim_end_matches(":latest");
    let mut stream = app.api().stream("POST", &format!("/images/create?fromImage={name}&tag=latest"));
    assert_eq!(stream.head.status, 200);
    assert_eq!(stream.head.header("Content-Type"), Some("application/json"));
    let messages: Vec<Value> = std::iter::from_fn(|| stream.next_json()).collect();
    let statuses: Vec<&str> = messages.iter().filter_map(|message| message["status"].as_str()).collect();
    assert!(statuses[0].starts_with("Pulling from "), "{statuses:?}");
    assert_eq!(messages[0]["id"], "latest");
    for expected in ["Pulling fs layer", "Pull complete"] {
        assert!(statuses.contains(&expected), "{expected} in {statuses:?}");
    }
    assert!(statuses.contains(&&*format!("Digest: {digest}")), "{statuses:?}");
    assert!(messages.iter().all(|message| message["error"].is_null()), "{messages:?}");
}

#[test]
fn a_digest_names_an_image_too() {
    let app = appliance();
    let (reference, digest) = fresh("pull-digest");
    let exact = format!("{}@{digest}", reference.trim_end_matches(":latest"));
    app.docker(["pull", "--quiet", &exact]).prints(&format!("{exact}\n")).succeeds();
    app.docker(["run", "--rm", &exact, "echo", "by digest"]).prints("by digest\n").succeeds();
}

#[test]
fn quiet_prints_only_the_name() {
    let app = appliance();
    let (reference, _) = fresh("pull-quiet");
    app.docker(["pull", "--quiet", &reference]).prints(&format!("{reference}\n")).quietly().succeeds();
}

/// D2: the command line pulls on the 404.
#[test]
fn run_pulls_a_missing_image() {
    let app = appliance();
    let (reference, _) = fresh("pull-by-run");
    let outcome = app.docker(["run", "--rm", &reference, "cat", "/etc/fresh"]).succeeds();
    let outcome = outcome.says_on_stderr(&format!("Unable to find image '{reference}' locally"));
    assert!(outcome.text().starts_with("pull-by-run"), "{outcome}");
}

#[test]
fn docker_media_types_are_read() {
    let app = appliance();
    let image = app.image(Image::DockerTypes);
    app.docker(["run", "--rm", &image, "echo", "schema 2"]).prints("schema 2\n").succeeds();
}

#[test]
fn zstd_layers_are_read() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine does not know zstd");
    }
    let image = app.image(Image::Zstd);
    app.docker(["run", "--rm", &image, "echo", "zstd"]).prints("zstd\n").succeeds();
}

#[test]
fn an_index_gives_this_machines_image() {
    let app = appliance();
    let image = app.image(Image::ManyPlatforms);
    app.docker(["run", "--rm", &image]).prints("mine\n").succeeds();
}

#[test]
fn a_platform_the_index_lacks_is_told() {
    let app = appliance();
    let image = app.registry().serves(Image::ManyPlatforms);
    let outcome = app.docker(["pull", "--platform", "linux/s390x", &image]).exits(1);
    outcome.says_on_stderr("no matching manifest for linux/s390x");
}

#[test]
fn layers_of_debian_lie_on_one_another() {
    let app = appliance();
    let image = app.image(Image::Debian);
    let run = |script: &str| app.docker(["run", "--rm", &image, "sh", "-c", script]);
    run("cat /etc/debian_version").mentions("12.").succeeds();
    run("ps -o pid,comm -p 1").mentions("    1 ").succeeds();
    run("ls /etc/issue.net").says_on_stderr("No such file").exits(2);
    run("ls /usr/share/doc").prints("only-this\n").succeeds();
    run("stat -c '%a %u' /srv/made-by").prints("600 0\n").succeeds();
    run("find / -xdev -name '.wh.*'").prints("").succeeds();
}

#[test]
fn an_unknown_name_is_not_found() {
    let app = appliance();
    let missing = app.registry().reference("no-such-repository");
    app.docker(["pull", &missing]).says_on_stderr("not found").exits(1);
    app.docker(["run", "--rm", &missing]).exits(125);
}

#[test]
fn a_name_that_is_no_name_is_refused() {
    let app = appliance();
    app.api().post("/images/create?fromImage=Upper/Case&tag=latest").refuses(400, "");
}
