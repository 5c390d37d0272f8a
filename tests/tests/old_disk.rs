//! Data disks that another release wrote.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pinnace_tests::images::busybox_program;
use pinnace_tests::{Appliance, Backend, build_folder, eventually, skip};

#[path = "../disks/disk.rs"]
mod disk;

const WEB: &str = "05f6da97f5a64934dcf30b1cfcaf8fd9547b50ae8f0076cfb71de587664bb03a";
const APP: &str = "sha256:453aed08a77b4f5a26e646952632021747241e1da5c408b639c3763c67e67b95";
const INDEX: &str = "sha256:99e000d876b63854d7668ceefe94956674ea31fb94fb461bdf074f69f7fe16d1";

/// The folder of an appliance that never ran; `None` where its data is no folder.
fn fresh_dir(name: &str) -> Option<PathBuf> {
    let backend = Backend::of_this_run();
    if backend != Backend::Namespace {
        return None;
    }
    let dir = build_folder(&format!("test/{}-{name}", backend.word()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(dir.join("data")).expect("the build folder can be written");
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&dir, private).expect("the folder is ours");
    Some(dir)
}

macro_rules! fresh_dir {
    ($name:expr) => {
        match fresh_dir($name) {
            Some(dir) => dir,
            None => skip!("only the namespace backend's data is a folder"),
        }
    };
}

/// Ends it like a power cut that nobody waits for, and removes what it had.
fn end(app: Appliance) {
    let dir = app.dir.clone();
    drop(app);
    let _ = std::fs::remove_dir_all(dir);
}

#[test]
fn a_disk_of_the_first_release_opens_with_all_that_was_on_it() {
    let dir = fresh_dir!("old-disk");
    disk::make(disk::SCHEMA_1, &dir.join("data"), busybox_program());
    let app = Appliance::boot(Backend::Namespace, &dir);
    let rows = app.docker(["ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.Image}}"]).succeeds().lines();
    let known: Vec<_> = rows.iter().filter_map(|row| row.split(' ').next()).collect();
    assert_eq!(known, ["retried", "after", "fresh", "failed", "stopped", "web"]);
    containers_are_as_they_were(&app);
    images_are_as_they_were(&app);
    // What came over is in use, and can be used and removed.
    app.docker(["run", "--rm", "mine", "/bin/busybox", "cat", "/hello"]).prints("hello from schema 1\n");
    app.docker(["run", "--rm", INDEX, "/bin/busybox", "sh", "-c", "test ! -e /old && echo $FROM"])
        .prints("image\n");
    app.docker(["rmi", "-f", APP]).fails().says_on_stderr("image is being used by running container");
    app.docker(["create", "--name", "web", "mine"]).fails().says_on_stderr("is already in use by container");
    app.docker(["rename", "fresh", "newer"]).succeeds();
    app.docker(["start", "newer"]).succeeds();
    app.docker(["rm", "-f", "web", "after", "newer", "retried", "failed", "stopped"]).succeeds();
    app.docker(["image", "prune", "-af"]).succeeds();
    let data = dir.join("data");
    let left = |folder: &str| std::fs::read_dir(data.join(folder)).expect("it was made").count();
    assert_eq!(app.docker(["images", "-aq"]).succeeds().lines().len(), 0);
    eventually("all files are gone", app.patience(), || {
        ["layers", "blobs/sha256", "containers"].iter().all(|folder| left(folder) == 0).then_some(())
    });
    end(app);
}

fn containers_are_as_they_were(app: &Appliance) {
    // Its policy starts it with the machine.
    eventually("the restart policy starts it", app.patience(), || {
        (app.inspect("web")["State"]["Status"] == "running").then_some(())
    });
    let web = app.inspect("web");
    assert_eq!((&web["Id"], &web["Image"], &web["RestartCount"]), (&WEB.into(), &APP.into(), &0.into()));
    assert_eq!(web["HostConfig"]["RestartPolicy"]["Name"], "always");
    assert_eq!(web["NetworkSettings"]["Networks"]["bridge"]["MacAddress"], "02:42:ac:11:00:99");
    assert_eq!(
        (&web["Config"]["Labels"]["of"], &web["Config"]["Image"]),
        (&"container".into(), &"registry.test:5000/app:1".into())
    );
    let env: Vec<_> =
        web["Config"]["Env"].as_array().expect("a list").iter().filter_map(|word| word.as_str()).collect();
    assert_eq!(env, ["OWN=1", "PATH=/bin", "FROM=image"]);
    for (name, status, code) in [
        ("stopped", "exited", 137),
        ("failed", "exited", 1),
        ("fresh", "created", 0),
        ("after", "exited", 255),
    ] {
        let state = &app.inspect(name)["State"];
        assert_eq!((&state["Status"], &state["ExitCode"]), (&status.into(), &code.into()), "{name}");
    }
    assert_eq!(app.inspect("retried")["RestartCount"], 3);
    let fresh = app.inspect("fresh");
    assert_eq!(
        (&fresh["Config"]["Hostname"], &fresh["HostConfig"]["NetworkMode"]),
        (&"given".into(), &"host".into())
    );
}

fn images_are_as_they_were(app: &Appliance) {
    let format = "{{.Repository}}:{{.Tag}} {{.ID}}";
    let mut rows = app.docker(["images", "-a", "--format", format]).succeeds().lines();
    rows.sort();
    let expected = [
        "<none>:<none> 5027d0d416f8",
        "example.test/copy:v1 453aed08a77b",
        "mine:latest 453aed08a77b",
        "registry.test:5000/app:1 453aed08a77b",
        "registry.test:5000/moved:1 0589e3959a3e",
        "registry.test:5000/moved:<none> 17e37c5ab11a",
        "registry.test:5000/team/tool:<none> 17e37c5ab11a",
    ];
    assert_eq!(rows, expected);
    let inspect = |name: &str| {
        let text = app.docker([
            "image",
            "inspect",
            "-f",
            "{{.Id}} {{.Author}} {{.RepoDigests}} {{len .RootFS.Layers}}",
            name,
        ]);
        text.succeeds().text()
    };
    let shown = format!("{APP} Ada [registry.test:5000/app@{INDEX}] 2\n");
    assert_eq!((inspect("registry.test:5000/app:1"), inspect(&INDEX[7..20])), (shown.clone(), shown));
}

/// One torn record is one container that is dead; all others are as they were.
#[test]
fn a_torn_record_costs_one_container() {
    let dir = fresh_dir!("torn-disk");
    let torn: String = disk::SCHEMA_1
        .lines()
        .map(|line| match line.starts_with(&format!("{{\"row\":[\"containers\",\"{WEB}\"")) {
            true => format!("{{\"row\":[\"containers\",\"{WEB}\",\"\\u0000torn\"]}}\n"),
            false => format!("{line}\n"),
        })
        .collect();
    disk::make(&torn, &dir.join("data"), busybox_program());
    let app = Appliance::boot(Backend::Namespace, &dir);
    assert_eq!(app.docker(["ps", "-aq"]).succeeds().lines().len(), 6);
    let dead = app.docker(["ps", "-a", "--filter", "status=dead", "--format", "{{.ID}} {{.Status}}"]);
    dead.prints(&format!("{} Dead\n", &WEB[..12]));
    let state = app.inspect(WEB)["State"].clone();
    assert_eq!((&state["Dead"], &state["Running"]), (&true.into(), &false.into()));
    let error = state["Error"].as_str().expect("a text");
    assert!(error.contains("cannot be read"), "{error}");
    app.docker(["start", WEB]).fails().says_on_stderr("is damaged and can only be removed");
    app.docker(["start", "stopped"]).succeeds();
    app.docker(["rm", WEB]).succeeds();
    assert_eq!(app.docker(["ps", "-aq"]).succeeds().lines().len(), 5);
    end(app);
}

#[test]
fn a_disk_of_a_newer_release_is_left_alone() {
    let dir = fresh_dir!("newer-disk");
    let path = dir.join("data/meta.redb");
    newer(&path);
    let before = std::fs::read(&path).expect("it was just written");
    let image = pinnace_tests::image_folder();
    let up = pinnace_tests::pinnace(&dir, "up").args(["--backend", "namespace", "--no-context", "--image"]);
    let up = up.args([image.as_os_str()]).within(60).run();
    let console = std::fs::read_to_string(dir.join("console.log")).unwrap_or_default();
    let told = console
        .lines()
        .filter(|line| line.contains("the data disk has schema 1000 and this release knows schema"));
    assert_eq!((up.code == 0, told.count()), (false, 1), "{console}\n{up}");
    assert!(std::fs::read(&path).expect("it is still there") == before, "the disk was written to");
    let _ = std::fs::remove_dir_all(dir);
}

fn newer(path: &Path) {
    let database = redb::Database::create(path).expect("its folder can be written");
    let transaction = database.begin_write().expect("nobody else writes");
    {
        let schema: redb::TableDefinition<'_, &str, u32> = redb::TableDefinition::new("schema");
        let mut table = transaction.open_table(schema).expect("it has no other types");
        table.insert("version", 1000).expect("there is room");
    }
    transaction.commit().expect("there is room");
}
