//! Fields that came and went with the versions of the API, 1.42 to 1.55.

use crate::{appliance, is_reference};
use pinnace_tests::{Appliance, ContainerName};
use serde_json::{Value, json};

fn get(app: &Appliance, minor: u16, path: &str) -> Value {
    app.api().get(&encoded(&format!("/v1.{minor}{path}"))).is(200).json()
}

/// JSON in a query as clients send it.
fn encoded(path: &str) -> String {
    let pairs = [('{', "%7B"), ('}', "%7D"), ('"', "%22"), ('[', "%5B"), (']', "%5D")];
    pairs.iter().fold(path.to_owned(), |path, (sign, code)| path.replace(*sign, code))
}

/// The versions that the engine under test knows.
fn versions(app: &Appliance) -> std::ops::RangeInclusive<u16> {
    if is_reference(app) { 42..=51 } else { 42..=55 }
}

/// Whether `field` is there in exactly the versions that `expected` says.
#[track_caller]
fn present(app: &Appliance, path: &str, field: &str, expected: impl Fn(u16) -> bool) {
    for minor in versions(app) {
        let answer = get(app, minor, path);
        let answer = if answer.is_array() { &answer[0] } else { &answer };
        assert_eq!(
            answer.pointer(field).is_some(),
            expected(minor),
            "{field} of {path} in 1.{minor}: {answer}"
        );
    }
}

fn container(app: &Appliance, stem: &str) -> ContainerName {
    let name = app.name(stem);
    let body = json!({ "Image": app.busybox(), "Cmd": ["sleep", "600"], "HostConfig": { "Annotations": { "a": "b" } } });
    app.api().post_json(&format!("/containers/create?name={}", &*name), body).is(201);
    app.docker(["start", &name]).succeeds();
    name
}

/// A18
#[test]
fn the_machine_is_told_as_each_version_knows_it() {
    let app = appliance();
    present(app, "/info", "/FirewallBackend", |minor| minor >= 49);
    present(app, "/info", "/BridgeNfIptables", |minor| minor < 50);
    present(app, "/info", "/RuncCommit/Expected", |minor| minor < 49);
    present(app, "/info", "/RegistryConfig/AllowNondistributableArtifactsCIDRs", |minor| minor < 47);
    present(app, "/info", "/NRI", |_| false);
    present(app, "/networks/bridge", "/Status/IPAM/Subnets", |minor| minor >= 52);
}

/// A18
#[test]
fn containers_are_told_as_each_version_knows_them() {
    let app = appliance();
    let name = container(app, "versions");
    let list = format!("/containers/json?filters={{\"name\":[\"{}\"]}}", &*name);
    present(app, &list, "/HostConfig/Annotations/a", |minor| minor >= 46);
    present(app, &list, "/Health/Status", |minor| minor >= 52);
    let inspect = format!("/containers/{}/json", &*name);
    present(app, &inspect, "/HostConfig/Annotations/a", |minor| minor >= 43);
    present(app, &inspect, "/GraphDriver", |minor| minor < 52);
    present(app, &inspect, "/Config/OnBuild", |minor| minor < 52);
    present(app, &inspect, "/NetworkSettings/IPAddress", |minor| minor < 52);
    present(app, &format!("/containers/{}/stats?stream=0&one-shot=1", &*name), "/os_type", |minor| {
        minor >= 52
    });
}

/// A18
#[test]
fn images_are_told_as_each_version_knows_them() {
    let app = appliance();
    let image = app.busybox();
    let inspect = format!("/images/{image}/json");
    present(app, &inspect, "/VirtualSize", |minor| minor < 44);
    present(app, &inspect, "/Config/Hostname", |minor| minor < 50);
    for empty in
        ["/Parent", "/Author", "/DockerVersion", "/Config/OnBuild", "/Config/Volumes", "/Config/User"]
    {
        present(app, &inspect, empty, |minor| minor < 52);
    }
    present(app, &inspect, "/Config/Cmd", |_| true);
    let list = format!("/images/json?filters={{\"reference\":[\"{image}\"]}}");
    let _user = container(app, "versions-image");
    for minor in versions(app) {
        let users = get(app, minor, &list)[0]["Containers"].clone();
        let counted = users.as_i64().is_some_and(|users| users >= 1);
        assert_eq!(counted, minor >= 51, "1.{minor}: {users}");
        assert!(counted || users == -1, "1.{minor}: {users}");
    }
}

/// D3
#[test]
fn an_image_can_be_asked_for_by_platform() {
    let app = appliance();
    let image = app.busybox();
    let other = if std::env::consts::ARCH == "x86_64" { "arm64" } else { "amd64" };
    for what in ["json", "history"] {
        let path = |platform: &str| encoded(&format!("/v1.49/images/{image}/{what}?platform={platform}"));
        let own = pinnace_tests::images::architecture();
        let of = |architecture: &str| format!("{{\"os\":\"linux\",\"architecture\":\"{architecture}\"}}");
        app.api().get(&path(&of(own))).is(200);
        app.api().get(&path(&of(other))).refuses(404, "does not match the specified platform");
        app.api().get(&path("linux/arm64")).refuses(400, "failed to parse platform");
        app.api().get(&path("{}")).refuses(400, "both OS and Architecture must be provided");
        app.api().get(&encoded(&format!("/v1.47/images/{image}/{what}?platform={}", of(other)))).is(200);
    }
}

/// B6
#[test]
fn usage_is_told_in_rows_or_in_sums() {
    let app = appliance();
    let lists = ["/LayersSize", "/Images", "/Containers", "/Volumes", "/BuildCache"];
    let sums = ["/ImageUsage", "/ContainerUsage", "/VolumeUsage", "/BuildCacheUsage"];
    let check = |minor: u16, query: &str, rows: bool, summed: bool, items: bool| {
        let answer = get(app, minor, &format!("/system/df{query}"));
        for (fields, expected) in [(&lists[..], rows), (&sums[..], summed)] {
            for field in fields {
                assert_eq!(
                    answer.pointer(field).is_some(),
                    expected,
                    "{field} in 1.{minor}{query}: {answer}"
                );
            }
        }
        assert_eq!(answer.pointer("/ContainerUsage/Items").is_some(), items, "1.{minor}{query}: {answer}");
    };
    check(51, "", true, false, false);
    if !is_reference(app) {
        check(52, "", true, true, false);
        check(55, "?verbose=1", false, true, true);
        check(55, "?verbose=0", false, true, false);
        app.api().get("/v1.55/system/df?verbose=x").refuses(400, "invalid value for verbose: x");
    }
}
