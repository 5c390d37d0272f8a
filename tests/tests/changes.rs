//! `docker diff` and `docker export` (K2, K3).

use crate::appliance;
use pinnace_tests::images::Image;
use std::collections::BTreeMap;

/// Changes one thing of every kind in the minimal Debian.
const SCRIPT: &str = "set -e; echo x >> /etc/hostname.d 2>/dev/null || true; rm /etc/debian_version; \
    echo root > /etc/issue; mkdir -p /new/folder; touch /new/folder/file; rm -r /usr/share/doc || true; \
    mkdir -p /usr/share/doc; touch /usr/share/doc/mine; chmod 700 /opt; touch /kept";

/// K2
#[test]
fn changes_are_told_with_the_folders_around_them() {
    let app = appliance();
    let (name, image) = (app.name("diff"), app.image(Image::Debian));
    app.docker(["run", "--name", &name, &image, "sh", "-c", SCRIPT]).succeeds();
    let lines = app.docker(["diff", &name]).succeeds().lines();
    for expected in ["C /etc", "D /etc/debian_version", "C /etc/issue", "A /new", "A /new/folder", "A /kept"]
    {
        assert!(lines.iter().any(|line| line == expected), "{expected} in {lines:#?}");
    }
    assert!(lines.contains(&"A /new/folder/file".to_owned()));
    assert!(lines.contains(&"C /opt".to_owned()), "its mode: {lines:#?}");
    assert!(lines.iter().any(|line| line.ends_with(" /usr/share/doc/mine")), "{lines:#?}");
    let paths: Vec<Vec<&str>> = lines.iter().map(|line| line[2..].split('/').collect()).collect();
    assert!(paths.is_sorted(), "{lines:#?}");
}

/// K2
#[test]
fn an_untouched_container_has_no_changes() {
    let app = appliance();
    let name = app.name("diff-none");
    app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds();
    app.docker(["diff", &name]).prints("");
    app.docker(["start", "--attach", &name]).succeeds();
    app.docker(["diff", &name]).prints("");
    app.docker(["diff", "no-such"]).fails().says_on_stderr("No such container: no-such");
}

/// K2
#[test]
fn a_running_container_is_compared() {
    let app = appliance();
    let name = app.name("diff-running");
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    app.docker(["exec", &name, "sh", "-c", "touch /tmp/a; mkdir /d; rm -r /root; touch /root"]).succeeds();
    let answer = app.api().get(&format!("/containers/{}/changes", &*name)).is(200).json();
    let rows = answer.as_array().expect("a list");
    let kinds: BTreeMap<&str, u64> =
        rows.iter().filter_map(|row| Some((row["Path"].as_str()?, row["Kind"].as_u64()?))).collect();
    assert_eq!(
        (kinds.get("/tmp/a"), kinds.get("/d"), kinds.get("/root")),
        (Some(&1), Some(&1), Some(&0)),
        "{kinds:?}"
    );
}

/// The members of an export: name → kind.
fn exported(bytes: &[u8]) -> BTreeMap<String, tar::EntryType> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().expect("a tar stream").map(|entry| {
        let entry = entry.expect("a member");
        (String::from_utf8_lossy(&entry.path_bytes()).into_owned(), entry.header().entry_type())
    });
    entries.collect()
}

/// K3
#[test]
fn an_export_is_the_root_without_mounts() {
    let app = appliance();
    let name = app.name("export");
    let image = app.busybox();
    let args = ["run", "--detach", "--name", &name, "--tmpfs", "/memory", &image, "sleep", "600"];
    app.docker(args).succeeds();
    app.docker(["exec", &name, "sh", "-c", "touch /memory/hidden /tmp/shown; ln -s /etc /link"]).succeeds();
    let check = || {
        let outcome = app.docker(["export", &name]).succeeds();
        let members = exported(&outcome.stdout);
        assert_eq!(members.get("tmp/shown"), Some(&tar::EntryType::Regular), "{members:?}");
        assert_eq!(members.get("link"), Some(&tar::EntryType::Symlink));
        assert_eq!(members.get("memory/"), Some(&tar::EntryType::Directory));
        assert!(members.contains_key("bin/busybox") && members.contains_key(".dockerenv"));
        for hidden in ["memory/hidden", "proc/1", "dev/null", "sys/kernel/", "./", "/"] {
            assert!(!members.contains_key(hidden), "{hidden}");
        }
    };
    check();
    app.docker(["kill", &name]).succeeds();
    app.docker(["wait", &name]).succeeds();
    check();
    app.docker(["export", "no-such"]).fails().says_on_stderr("No such container: no-such");
}

/// K2
#[test]
fn no_changes_are_told_as_null() {
    let app = appliance();
    let name = app.name("diff-null");
    app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds();
    let answer = app.api().get(&format!("/containers/{}/changes", &*name)).is(200);
    assert_eq!(answer.text(), "null\n");
}
