//! `docker cp` both ways, and what the archive endpoints answer (K4 to K11).

use crate::events::events_of;
use crate::{appliance, is_reference};
use pinnace_tests::api::{Body, Response};
use pinnace_tests::{Appliance, ContainerName};
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// A running container.
fn sleeping(app: &Appliance, stem: &str, options: &[&str]) -> ContainerName {
    let (name, image) = (app.name(stem), app.busybox());
    let mut args = vec!["run", "--detach", "--name", &name];
    args.extend(options);
    args.extend([image.as_str(), "sleep", "600"]);
    app.docker(args).succeeds();
    name
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary names are ASCII")
}

fn archive(name: &str, path: &str) -> String {
    format!("/containers/{name}/archive?path={path}")
}

fn put(app: &Appliance, path: &str, tar: &[u8]) -> Response {
    app.api().call("PUT", path, Body::Bytes("application/x-tar", tar))
}

/// What the header `X-Docker-Container-Path-Stat` says.
fn path_stat(response: &Response) -> Value {
    let header = response.head.header("x-docker-container-path-stat").expect("the header");
    let fed = pinnace_tests::Program::new("base64", std::time::Duration::from_secs(30));
    let decoded = fed.args(["-d"]).fed(header).run().succeeds();
    serde_json::from_slice(&decoded.stdout).expect("JSON")
}

/// A tar stream of (name, kind, link, content), with names and links as they are, however bad.
fn tar_of(members: &[(&str, tar::EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, link, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

const FILE: tar::EntryType = tar::EntryType::Regular;

fn names(bytes: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().expect("a tar stream");
    let name =
        |entry: std::io::Result<tar::Entry<'_, &[u8]>>| entry.expect("a member").path_bytes().into_owned();
    entries.map(|entry| String::from_utf8_lossy(&name(entry)).into_owned()).collect()
}

/// What is done with a container in every state: created, running, paused, ended.
fn copies_both_ways(app: &Appliance, name: &str) {
    let dir = folder();
    let file = dir.path().join("hello");
    std::fs::write(&file, "hello").expect("a file");
    app.docker(["cp", text(&file), &format!("{name}:/tmp/there")]).succeeds();
    let back = dir.path().join("back");
    app.docker(["cp", &format!("{name}:/tmp/there"), text(&back)]).succeeds();
    assert_eq!(std::fs::read(back).expect("it came back"), b"hello");
}

/// K9, K11
#[test]
fn files_are_copied_in_every_state() {
    let app = appliance();
    let name = app.name("cp-states");
    app.docker(["create", "--name", &name, &app.busybox(), "sh", "-c", "cat /tmp/there; exec sleep 600"])
        .succeeds();
    copies_both_ways(app, &name);
    app.docker(["start", &name]).succeeds();
    copies_both_ways(app, &name);
    app.docker(["pause", &name]).succeeds();
    copies_both_ways(app, &name);
    app.docker(["unpause", &name]).succeeds();
    app.docker(["kill", &name]).succeeds();
    app.docker(["wait", &name]).succeeds();
    copies_both_ways(app, &name);
    app.docker(["logs", &name]).prints("hello");
    app.docker(["start", &name]).succeeds();
    app.docker(["exec", &name, "cat", "/tmp/there"]).prints("hello");
}

/// K5
#[test]
fn trees_keep_what_they_are_made_of() {
    let app = appliance();
    let name = sleeping(app, "cp-tree", &[]);
    let dir = folder();
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("sub/empty")).expect("folders");
    std::fs::write(tree.join("sub/run"), "#!/bin/sh\n").expect("a file");
    std::fs::set_permissions(tree.join("sub/run"), std::fs::Permissions::from_mode(0o4751)).expect("a mode");
    std::fs::hard_link(tree.join("sub/run"), tree.join("same")).expect("a second name");
    symlink("/etc/passwd", tree.join("link")).expect("a link");
    std::fs::write(tree.join("n".repeat(180)), vec![7; 300_000]).expect("a long name");
    app.docker(["cp", text(&tree), &format!("{}:/", &*name)]).succeeds();
    let facts =
        "cd /tree && stat -c '%n %a %h %F' sub sub/empty sub/run same && readlink link && cat n* | wc -c";
    app.docker(["exec", &name, "sh", "-c", facts]).prints(
        "sub 755 3 directory\nsub/empty 755 2 directory\nsub/run 4751 2 regular file\nsame 4751 2 regular \
         file\n/etc/passwd\n300000\n",
    );
    let back = dir.path().join("back");
    app.docker(["cp", &format!("{}:/tree", &*name), text(&back)]).succeeds();
    let run = std::fs::metadata(back.join("sub/run")).expect("the file");
    assert_eq!((run.mode() & 0o7777, run.nlink()), (0o4751, 2));
    assert_eq!(std::fs::read_link(back.join("link")).expect("the link"), Path::new("/etc/passwd"));
    assert_eq!(std::fs::metadata(back.join("n".repeat(180))).expect("it").len(), 300_000);
}

/// K5
#[test]
fn names_in_an_archive_follow_the_path() {
    let app = appliance();
    let name = sleeping(app, "cp-names", &[]);
    app.docker(["exec", &name, "sh", "-c", "mkdir -p /d/sub && touch /d/file && ln -s /d /link"]).succeeds();
    let check = |path: &str, expected: &[&str]| {
        let response = app.api().get(&archive(&name, path)).is(200);
        assert_eq!(response.head.header("content-type"), Some("application/x-tar"));
        assert_eq!(names(&response.body), expected, "{path}");
    };
    check("/d", &["d/", "d/file", "d/sub/"]);
    check("/d/", &["d/", "d/file", "d/sub/"]);
    check("d/.", &["./", "./file", "./sub/"]);
    check("/d/file", &["file"]);
    check("/link", &["link"]);
    check("/link/", &["link/", "link/file", "link/sub/"]);
    check("/link/file", &["file"]);
    let root = names(&app.api().get(&archive(&name, "/")).is(200).body);
    assert!(root.iter().all(|name| name.starts_with('/')), "{root:?}");
    assert!(root.iter().any(|name| name == "/d/file") && root.iter().any(|name| name == "/proc/"));
    assert!(!root.iter().any(|name| name.starts_with("/proc/1") || name == "/dev/null"), "{root:?}");
}

/// K4
#[test]
fn paths_are_described() {
    let app = appliance();
    let name = sleeping(app, "cp-stat", &[]);
    let make =
        "cd /tmp && echo abc > f && chmod 4750 f && mkdir d && ln -s ../tmp/d l && ln -s nowhere/x gone";
    app.docker(["exec", &name, "sh", "-c", make]).succeeds();
    let check = |path: &str, name_told: &str, mode: u32, target: &str| {
        let response = app.api().call("HEAD", &archive(&name, path), Body::Empty).is(200);
        assert!(response.body.is_empty());
        let stat = path_stat(&response);
        assert_eq!(
            (&stat["name"], &stat["mode"], &stat["linkTarget"]),
            (&json!(name_told), &json!(mode), &json!(target)),
            "{path}"
        );
        assert!(stat["mtime"].as_str().is_some_and(|time| time.starts_with("20")), "{stat}");
    };
    check("/tmp/f", "f", 0o750 | 1 << 23, "");
    check("/tmp/d", "d", 0o755 | 1 << 31, "");
    check("/tmp/d/.", ".", 0o755 | 1 << 31, "");
    check("/tmp/l", "l", 0o777 | 1 << 27, "/tmp/d");
    check("/tmp/l/", "l", 0o755 | 1 << 31, "");
    check("/tmp/gone", "gone", 0o777 | 1 << 27, "/tmp/nowhere/x");
    let size = path_stat(&app.api().get(&archive(&name, "/tmp/f")).is(200))["size"].clone();
    assert_eq!(size, 4);
}

/// K6, K7
#[test]
fn what_is_not_there_is_told_in_dockers_words() {
    let app = appliance();
    let name = sleeping(app, "cp-missing", &[]);
    let missing = format!("Could not find the file /no/such in container {}", &*name);
    app.api().get(&archive(&name, "/no/such")).refuses(404, &missing);
    app.api().call("HEAD", &archive(&name, "/no/such"), Body::Empty).is(404);
    put(app, &archive(&name, "/no/such"), &tar_of(&[])).refuses(404, &missing);
    app.api().get(&archive("no-such", "/")).refuses(404, "No such container: no-such");
    app.api().get(&format!("/containers/{}/archive", &*name)).refuses(400, "bad parameter: path");
    put(app, &archive(&name, "/bin/busybox"), &tar_of(&[]))
        .refuses(400, "extraction point is not a directory");
    if !is_reference(app) {
        app.api().get(&archive(&name, "/bin/busybox/")).refuses(400, "not a directory");
    }
    app.docker(["cp", &format!("{}:/no/such", &*name), "-"])
        .fails()
        .says_on_stderr("Could not find the file");
    app.docker_fed(tar_of(&[]), ["cp", "-", &format!("{}:/bin/busybox", &*name)])
        .fails()
        .says_on_stderr("must be a directory");
}

/// K8
#[test]
fn kinds_are_not_exchanged_unasked() {
    let app = appliance();
    let name = sleeping(app, "cp-kinds", &[]);
    app.docker(["exec", &name, "sh", "-c", "mkdir -p /d/x/y && touch /d/f /d/x/y/z"]).succeeds();
    let (as_file, as_folder) =
        (tar_of(&[("x", FILE, "", b"new")]), tar_of(&[("f/", tar::EntryType::Directory, "", b"")]));
    let kept = format!("{}&noOverwriteDirNonDir=true", archive(&name, "/d"));
    assert!(put(app, &kept, &as_file).text().contains("cannot overwrite directory"));
    assert!(put(app, &kept, &as_folder).text().contains("cannot overwrite non-directory"));
    app.docker(["exec", &name, "test", "-f", "/d/x/y/z"]).succeeds();
    put(app, &archive(&name, "/d"), &as_file).is(200);
    put(app, &archive(&name, "/d"), &as_folder).is(200);
    app.docker(["exec", &name, "sh", "-c", "cat /d/x; test -d /d/f"]).succeeds().prints("new");
}

/// K8
#[test]
fn owners_are_the_archives_or_the_containers() {
    let app = appliance();
    let name = sleeping(app, "cp-owner", &["--user", "1234:5678"]);
    let mut tar = tar_of(&[("f", FILE, "", b"x")]);
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes().copy_from_slice(&tar[..512]);
    header.set_uid(77);
    header.set_gid(88);
    header.set_cksum();
    tar[..512].copy_from_slice(header.as_bytes());
    let owner = |expected: &str| {
        app.docker(["exec", &name, "stat", "-c", "%u:%g", "/tmp/f"]).prints(expected);
    };
    put(app, &archive(&name, "/tmp"), &tar).is(200);
    owner("77:88\n");
    put(app, &format!("{}&copyUIDGID=1", archive(&name, "/tmp")), &tar).is(200);
    owner("1234:5678\n");
}

/// K7, K10
#[test]
fn compressed_archives_are_extracted() {
    let app = appliance();
    let name = sleeping(app, "cp-gzip", &[]);
    let plain = tar_of(&[("f", FILE, "", b"squeezed")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &plain).expect("memory");
    let zstd = zstd::encode_all(&plain[..], 1).expect("memory");
    let python = |module: &str| {
        let script = format!(
            "import sys, {module}; sys.stdout.buffer.write({module}.compress(sys.stdin.buffer.read()))"
        );
        let program = pinnace_tests::Program::new("python3", app.patience()).args(["-c", &script]);
        program.fed(plain.clone()).run().succeeds().stdout
    };
    for bytes in [gzip.finish().expect("memory"), zstd, python("bz2"), python("lzma")] {
        put(app, &archive(&name, "/tmp"), &bytes).is(200);
        app.docker(["exec", &name, "sh", "-c", "cat /tmp/f && rm /tmp/f"]).prints("squeezed");
    }
}

/// K9
#[test]
fn read_only_places_are_refused() {
    let app = appliance();
    let (name, image) = (app.name("cp-ro"), app.busybox());
    let args = ["create", "--name", &name, "--read-only", "--tmpfs", "/scratch", &image, "sleep", "600"];
    app.docker(args).succeeds();
    let tar = tar_of(&[("f", FILE, "", b"x")]);
    put(app, &archive(&name, "/tmp"), &tar).refuses(400, "container rootfs is marked read-only");
    app.docker(["start", &name]).succeeds();
    put(app, &archive(&name, "/tmp"), &tar).refuses(400, "container rootfs is marked read-only");
    if is_reference(app) {
        return;
    }
    put(app, &archive(&name, "/scratch"), &tar).is(200);
    app.docker(["exec", &name, "cat", "/scratch/f"]).prints("x");
    assert_eq!(names(&app.api().get(&archive(&name, "/scratch/f")).is(200).body), ["f"]);
}

#[test]
fn copies_are_announced() {
    let app = appliance();
    let name = sleeping(app, "cp-events", &[]);
    app.api().get(&archive(&name, "/etc/hosts")).is(200);
    put(app, &archive(&name, "/tmp"), &tar_of(&[])).is(200);
    let actions: Vec<String> = events_of(app, &name)
        .iter()
        .map(|event| event["Action"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(actions.ends_with(&["archive-path".to_owned(), "extract-to-dir".to_owned()]), "{actions:?}");
}

/// K10
#[test]
fn hostile_archives_stay_in_the_container() {
    let app = appliance();
    let name = sleeping(app, "cp-hostile", &[]);
    app.docker([
        "exec",
        &name,
        "sh",
        "-c",
        "mkdir /d && ln -s /etc /d/abs && ln -s ../../../../../etc /d/up",
    ])
    .succeeds();
    let to = archive(&name, "/d");
    let up = put(app, &to, &tar_of(&[("../../evil", FILE, "", b"x")]));
    assert!(up.head.status >= 400 && up.text().contains("is outside of"), "{}", up.text());
    let link = tar_of(&[("h", tar::EntryType::Link, "../../../../etc/shadow", b"")]);
    let link = put(app, &to, &link);
    assert!(link.head.status >= 400 && link.text().contains("invalid hardlink"), "{}", link.text());
    // An absolute name is one in the destination; links on the way lead to the container's own files.
    put(app, &to, &tar_of(&[("/absolute", FILE, "", b"in d")])).is(200);
    for through in ["abs/made-by-abs", "up/made-by-up"] {
        put(app, &to, &tar_of(&[(through, FILE, "", b"x")])).is(200);
    }
    let seen = "cat /d/absolute; ls /etc/made-by-abs /etc/made-by-up; ls -d /evil 2>&1";
    app.docker(["exec", &name, "sh", "-c", seen])
        .mentions("in d/etc/made-by-abs\n/etc/made-by-up\n")
        .mentions("No such file");
    // A link made by the archive itself, then written through.
    let through = tar_of(&[
        ("way", tar::EntryType::Symlink, "/../../../../../../etc", b""),
        ("way/made-by-way", FILE, "", b"x"),
    ]);
    put(app, &to, &through);
    // None of it is in the engine's own root: a second container of the same machine sees a clean image.
    app.docker(["run", "--rm", &app.busybox(), "sh", "-c", "ls /etc | grep made-by"]).exits(1);
}

#[test]
fn broken_archives_are_refused() {
    let app = appliance();
    let name = sleeping(app, "cp-broken", &[]);
    let to = archive(&name, "/tmp");
    let mut wrong_sum = tar_of(&[("f", FILE, "", b"x")]);
    wrong_sum[0] ^= 1;
    let mut huge = tar_of(&[("f", FILE, "", b"x")]);
    // The size field as a number of 96 bits.
    huge[124..136].copy_from_slice(&[0xbf; 12]);
    let sum: u64 = huge[..512]
        .iter()
        .enumerate()
        .map(|(at, b)| u64::from(if (148..156).contains(&at) { 32 } else { *b }))
        .sum();
    huge[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let cut = &tar_of(&[("f", FILE, "", &[1; 5000])])[..2000];
    for (bytes, what) in
        [(&wrong_sum[..], "checksum"), (&huge, "a size"), (cut, "a cut stream"), (b"no tar", "text")]
    {
        let answer = put(app, &to, bytes);
        assert!(answer.head.status >= 400, "{what}: {}", answer.text());
    }
    put(app, &to, &tar_of(&[("f", FILE, "", b"whole")])).is(200);
    app.docker(["exec", &name, "cat", "/tmp/f"]).prints("whole");
}

/// K10: A container that exchanges a folder for a link to `/` and back as fast as it can, while files are copied
/// through that folder both ways: neither is a file of the engine's machine read, nor one made there.
#[test]
fn links_swapped_meanwhile_lead_nowhere_else() {
    let app = appliance();
    let (name, image) = (app.name("cp-swap"), app.busybox());
    let script = "mkdir -p /tmp/real/etc /tmp/real/usr && echo inside > /tmp/real/etc/engine-secret; cd /tmp; \
                  ln -s / bait; ln -s ../../../../../../.. bait2; \
                  while :; do ln -sfn real way; ln -sfn bait way; ln -sfn bait2 way; \
                  mv real aside; ln -s / real; rm real; mv aside real; done";
    app.docker(["run", "--detach", "--name", &name, &image, "sh", "-c", script]).succeeds();
    let tar = tar_of(&[("etc/planted-by-swap", FILE, "", b"x"), ("usr/planted-by-swap", FILE, "", b"x")]);
    let (mut reads, mut writes) = (0, 0);
    for _ in 0..150 {
        let read = app.api().get(&archive(&name, "/tmp/way/etc"));
        if read.head.status == 200 {
            reads += 1;
            let names = names(&read.body);
            // The engine's own /etc has no such file but the container's has; what only the engine's root has is
            // its program and its data.
            assert!(!names.iter().any(|name| name.contains("pinnace")), "{names:?}");
        }
        let init = app.api().get(&archive(&name, "/tmp/way/sbin/engined"));
        assert_ne!(init.head.status, 200, "the engine's program was read");
        if put(app, &archive(&name, "/tmp/way"), &tar).head.status == 200 {
            writes += 1;
        }
    }
    assert!(reads > 0 && writes > 0, "{reads} reads and {writes} writes came through");
    planted_nowhere(app);
}

/// Looks at the roots of PID 1 and of the engine, where this host can see them.
fn planted_nowhere(app: &Appliance) {
    let machine = app.status()["machine_pid"].as_u64().map(|pid| pid.to_string());
    for pid in [app.engine_process(), machine].into_iter().flatten() {
        for folder in ["etc", "usr", ""] {
            let path = format!("/proc/{pid}/root/{folder}/planted-by-swap");
            assert!(!Path::new(&path).exists(), "{path}");
        }
    }
    assert!(!Path::new("/etc/planted-by-swap").exists() && !Path::new("/usr/planted-by-swap").exists());
}

#[test]
fn a_first_process_that_changed_its_root_hides_nothing() {
    let app = appliance();
    let (name, image) = (app.name("cp-chroot"), app.busybox());
    let script =
        "mkdir -p /jail/bin && cp /bin/busybox /jail/bin && exec chroot /jail /bin/busybox sleep 600";
    app.docker(["run", "--detach", "--name", &name, &image, "sh", "-c", script]).succeeds();
    pinnace_tests::eventually("it changes its root", app.patience(), || {
        (app.api().call("HEAD", &archive(&name, "/jail/bin/busybox"), Body::Empty).head.status == 200)
            .then_some(())
    });
    app.api().get(&archive(&name, "/etc/hosts")).is(200);
}

/// A start takes over the mounts of who reads the files of a container that does not run.
#[test]
fn a_container_is_started_while_its_files_are_read() {
    let app = appliance();
    let name = app.name("cp-start");
    app.docker(["create", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    let before = tar_of(&[("before", FILE, "", b"put before the start")]);
    put(app, &archive(&name, "/tmp"), &before).is(200);
    // Its body stays unread until the container runs.
    let reading = app.api().stream("GET", &archive(&name, "/"));
    assert_eq!(reading.head.status, 200);
    app.docker(["start", &name]).succeeds();
    app.docker(["exec", &name, "sh", "-c", "cat /tmp/before > /tmp/within"]).succeeds();
    let within = app.api().get(&archive(&name, "/tmp/within")).is(200);
    assert!(String::from_utf8_lossy(&within.body).contains("put before the start"));
    drop(reading);
    app.docker(["kill", &name]).succeeds();
    app.docker(["wait", &name]).succeeds();
    app.api().get(&archive(&name, "/tmp/within")).is(200);
    app.docker(["diff", &name]).succeeds().mentions("A /tmp/within\n");
}

/// K7: GNU tar writes files with holes in three forms, and so do others.
#[test]
fn files_with_holes_are_taken_in_every_form() {
    let app = appliance();
    let name = sleeping(app, "cp-holes", &[]);
    let dir = folder();
    let (holes, size) = (dir.path().join("holes"), 64 << 20);
    let file = std::fs::File::create(&holes).expect("a file");
    file.set_len(size).expect("a long file");
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", size / 2).expect("content");
    for version in ["0.0", "0.1", "1.0"] {
        let sparse = format!("--sparse-version={version}");
        let args = ["--sparse", "--format=posix", &sparse, "-C", text(dir.path()), "-c", "holes"];
        let archive = pinnace_tests::Program::new("tar", app.patience()).args(args).run().succeeds().stdout;
        assert!(archive.len() < 1 << 20, "{version}: tar wrote the holes");
        app.docker_fed(archive, ["cp", "-", &format!("{}:/tmp", &*name)]).succeeds();
        let script = "stat -c '%s %b' /tmp/holes; tr -d '\\0' < /tmp/holes; rm /tmp/holes";
        let told = app.docker(["exec", &name, "sh", "-c", script]).succeeds().text();
        let (numbers, content) = told.split_once('\n').expect("two lines");
        let (length, blocks) = numbers.split_once(' ').expect("two numbers");
        assert_eq!((length, content), ("67108864", "middle"), "{version}");
        if !is_reference(app) {
            assert!(
                blocks.parse::<u64>().expect("a number") < 1000,
                "{version}: the holes were filled: {blocks}"
            );
        }
    }
}

/// K5
#[test]
fn a_new_container_has_its_working_folder() {
    let app = appliance();
    let (name, image) = (app.name("cp-workdir"), app.busybox());
    let create = ["create", "--name", &name, "--workdir", "/home/foo/bar", "--user", "guest", "--read-only"];
    app.docker(create.into_iter().chain([image.as_str(), "true"])).succeeds();
    let bytes = app.api().get(&archive(&name, "/home/foo")).is(200).body;
    assert_eq!(names(&bytes), ["foo/", "foo/bar/"]);
    let changes = app.docker(["diff", &name]).succeeds().lines();
    assert_eq!(changes, ["C /home", "A /home/foo", "A /home/foo/bar"]);
    // One that the image has is left as it is.
    let other = app.name("cp-workdir-there");
    app.docker(["create", "--name", &other, "--workdir", "/etc", &image, "true"]).succeeds();
    app.docker(["diff", &other]).prints("");
}
