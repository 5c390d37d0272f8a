//! Folders of the host in containers: `pinnace up --share`.

use crate::appliance;
use crate::volumes::create;
use pinnace_tests::{Appliance, Backend, build_folder, skip};
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;

const DENIED: &str = "is not shared from the host and is not known to Docker: ";

/// O8, O9: an empty folder in its place would be worse.
#[test]
fn a_path_that_is_not_shared_is_denied() {
    let app = appliance();
    if app.backend == Backend::Reference {
        skip!("the reference engine has no host beside its machine");
    }
    for path in ["/nonexistent", "/tmp/nonexistent/deep", "/Users/me/project"] {
        let text = format!("mounts denied: the path {path} {DENIED}");
        create(app, json!({ "Binds": [format!("{path}:/x")] })).refuses(400, &text);
        let options = json!({ "CreateMountpoint": true });
        let mount = json!({ "Type": "bind", "Source": path, "Target": "/x", "BindOptions": options });
        create(app, json!({ "Mounts": [mount] })).refuses(400, &text);
        app.docker(["run", "--rm", "-v", &format!("{path}:/x"), &app.busybox(), "true"])
            .fails()
            .says_on_stderr(&text);
    }
    app.docker(["run", "--rm", "-v", "/:/machine", &app.busybox(), "ls", "-d", "/machine/nonexistent"])
        .fails()
        .says_on_stderr("No such file or directory");
}

/// O9: the folder is at the same path, both ways, in an engine after the first too.
#[test]
fn a_shared_folder_is_the_hosts_own() {
    let backend = Backend::of_this_run();
    if backend == Backend::Reference {
        skip!("the reference engine has no host beside its machine");
    }
    let (shared, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let place = tempfile::tempdir_in(build_folder("test")).expect("a folder");
    let folder = shared.path().join("project");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("page"), "hello\n").expect("a file");
    let path = shared.path().to_str().expect("UTF-8");
    let app = Appliance::boot_with(backend, place.path(), &["--share", "none", "--share", path]);
    let image = app.busybox();
    let bind = format!("{}:/app", folder.display());
    let run =
        |script: &str| app.docker(["run", "--rm", "-v", &bind, &image, "sh", "-c", script]).succeeds().text();
    assert_eq!(
        run("cat /app/page; echo made > /app/made; ln -s made /app/link; chown 7:8 /app/made"),
        "hello\n"
    );
    assert_eq!(fs::read_to_string(folder.join("link")).expect("what the container wrote"), "made\n");
    let made = fs::metadata(folder.join("made")).expect("a file");
    assert_eq!((made.uid(), made.gid()), (7, 8));
    fs::write(folder.join("later"), "later\n").expect("a file");
    assert_eq!(run("cat /app/later"), "later\n");
    // A missing folder below it is made on the host, as dockerd does.
    let deep = format!("{}/new/deep:/x", shared.path().display());
    app.docker(["run", "--rm", "-v", &deep, &image, "touch", "/x/file"]).succeeds();
    assert!(shared.path().join("new/deep/file").exists());
    app.kill_engine();
    assert_eq!(run("cat /app/page; grep -c ' /app ' /proc/mounts"), "hello\n1\n");
    let denied = format!("{}:/x", other.path().display());
    app.docker(["run", "--rm", "-v", &denied, &image, "true"]).fails().says_on_stderr(DENIED);
}

/// O8: a container that was made when the folder was shared gets no empty one in its place.
#[test]
fn a_boot_that_shares_less_denies_what_it_does_not_share() {
    let backend = Backend::of_this_run();
    if backend == Backend::Reference {
        skip!("the reference engine has no host beside its machine");
    }
    // At a path of the root tree itself, which outlives a boot.
    let test = build_folder("test");
    let (place, shared) =
        (tempfile::tempdir_in(&test).expect("a folder"), tempfile::tempdir_in(&test).expect("a folder"));
    let path = shared.path().to_str().expect("UTF-8");
    let bind = format!("{path}:/app");
    let app = Appliance::boot_with(backend, place.path(), &["--share", "none", "--share", path]);
    let image = app.busybox();
    app.docker(["run", "--name", "made-before", "-v", &bind, &image, "touch", "/app/file"]).succeeds();
    assert!(shared.path().join("file").exists());
    app.pinnace("down").run().succeeds();
    drop(app);
    let app = Appliance::boot_with(backend, place.path(), &["--share", "none"]);
    let text = format!("mounts denied: the path {path} {DENIED}this machine shares no folder of the host");
    app.docker(["start", "made-before"]).fails().says_on_stderr(&text);
    app.docker(["create", "-v", &bind, &image, "true"]).fails().says_on_stderr(&text);
}
