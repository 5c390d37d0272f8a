//! `docker images`, `docker image inspect`, `docker tag`, `docker rmi`.

use crate::{appliance, is_reference};
use pinnace_tests::images::{Image, busybox};
use serde_json::json;

/// Pulls an image that only the calling test knows, and tells its name and id.
fn own_image(stem: &str) -> (String, String) {
    let app = appliance();
    let name = app.name(stem).to_string();
    let recipe = busybox().config(json!({ "Cmd": ["sh"], "Labels": { "test": &name } }));
    let reference = app.registry().publish(&name, &recipe).reference;
    app.docker(["pull", "--quiet", &reference]).succeeds();
    let id = app.docker(["image", "inspect", "--format", "{{.Id}}", &reference]).succeeds().word();
    (reference, id)
}

#[test]
fn images_lists_name_tag_and_size() {
    let app = appliance();
    let (reference, id) = own_image("list");
    let repository = reference.trim_end_matches(":latest");
    let format = "{{.Repository}} {{.Tag}} {{.ID}}";
    let short = &id["sha256:".len()..][..12];
    let list = app.docker(["images", "--format", format, repository]).succeeds();
    list.prints(&format!("{repository} latest {short}\n"));
    let all = app.api().get("/images/json").is(200).json();
    let entry = all
        .as_array()
        .expect("a list")
        .iter()
        .find(|entry| entry["Id"] == id.as_str())
        .expect("it is listed");
    assert_eq!(entry["RepoTags"], json!([reference]));
    assert!(entry["Size"].as_u64().is_some_and(|size| size > 500_000), "{entry}");
    assert!(entry["Created"].is_i64() || entry["Created"].is_u64(), "{entry}");
}

#[test]
fn images_filters_by_reference_and_label() {
    let app = appliance();
    let (reference, id) = own_image("filter");
    let stem = reference.rsplit('/').next().expect("a name").trim_end_matches(":latest");
    let by_label = format!("label=test={stem}");
    let list =
        |filter: &str| app.docker(["images", "--quiet", "--no-trunc", "--filter", filter]).succeeds().word();
    assert_eq!(list(&by_label), id);
    assert_eq!(list(&format!("reference={}", reference.trim_end_matches(":latest"))), id);
    assert_eq!(list("label=test=no-such-value"), "");
}

#[test]
fn inspect_tells_the_configuration() {
    let app = appliance();
    let image = app.image(Image::Configured);
    let answer = app.api().get(&format!("/images/{image}/json")).is(200).json();
    assert_eq!(answer["Os"], "linux");
    assert_eq!(answer["RootFS"]["Type"], "layers");
    assert_eq!(answer["Created"], "2026-01-02T03:04:05Z");
    let config = &answer["Config"];
    assert_eq!(config["User"], "guest");
    assert_eq!(config["Entrypoint"], json!(["echo", "entry:"]));
    assert_eq!(config["Env"], json!(["PATH=/bin", "COLOUR=green", "SIZE=7"]));
    assert_eq!(config["StopSignal"], "SIGUSR1");
    assert_eq!(config["ExposedPorts"], json!({ "8080/tcp": {} }));
    assert_eq!(config["Labels"]["org.example.kind"], "configured");
}

#[test]
fn a_missing_image_is_not_found() {
    let app = appliance();
    app.api().get("/images/no-such-image/json").refuses(404, "o such image: no-such-image");
    app.docker(["image", "inspect", "no-such-image"]).says_on_stderr("o such image: no-such-image").exits(1);
}

#[test]
fn rmi_untags_and_deletes() {
    let app = appliance();
    let (reference, id) = own_image("rmi");
    let outcome = app.docker(["rmi", &reference]).succeeds();
    outcome.mentions(&format!("Untagged: {reference}\n")).mentions(&format!("Deleted: {id}\n"));
    app.api().get(&format!("/images/{id}/json")).is(404);
    app.docker(["rmi", &reference]).says_on_stderr("o such image").exits(1);
}

#[test]
fn rmi_leaves_an_image_that_has_another_name() {
    let app = appliance();
    let (reference, id) = own_image("two-names");
    let other = format!("{}:other", reference.trim_end_matches(":latest"));
    app.docker(["tag", &reference, &other]).succeeds();
    app.docker(["rmi", &reference]).mentions("Untagged:").never_mentions("Deleted:").succeeds();
    app.docker(["run", "--rm", &other, "echo", "still here"]).prints("still here\n").succeeds();
    app.docker(["rmi", &other]).mentions(&format!("Deleted: {id}\n")).succeeds();
}

#[test]
fn an_image_in_use_is_kept() {
    let app = appliance();
    let (reference, _) = own_image("in-use");
    let name = app.name("holds-image");
    app.docker(["run", "--detach", "--name", &name, &reference, "sleep", "600"]).succeeds();
    app.api().delete(&format!("/images/{reference}")).refuses(409, "conflict:");
    app.docker(["rmi", &reference]).says_on_stderr("conflict").exits(1);
    app.docker(["rm", "--force", &name]).succeeds();
    app.docker(["rmi", &reference]).mentions("Deleted:").succeeds();
}

/// D4
#[test]
fn images_are_found_by_id_and_prefix() {
    let app = appliance();
    let (_, id) = own_image("by-id");
    let hex = &id["sha256:".len()..];
    for form in [&*id, hex, &hex[..12]] {
        app.docker(["run", "--rm", form, "echo", "found"]).prints("found\n").succeeds();
    }
}

#[test]
fn old_clients_get_old_fields() {
    let app = appliance();
    if is_reference(app) {
        return;
    }
    app.busybox();
    let old = app.api().get("/v1.43/images/json").is(200).json();
    assert!(old[0]["VirtualSize"].is_u64(), "{old}");
    let new = app.api().get("/v1.44/images/json").is(200).json();
    assert!(new[0]["VirtualSize"].is_null(), "{new}");
}
