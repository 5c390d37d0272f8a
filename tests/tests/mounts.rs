//! What is mounted into containers: folders of the machine, parts of volumes, memory, images, and what others have.

use crate::volumes::{create, create_at, inspected, remove, run, volume};
use crate::{appliance, is_reference};
use pinnace_tests::images::Image;
use pinnace_tests::{eventually, skip};
use serde_json::{Value, json};

/// O8
#[test]
fn binds_have_options() {
    let app = appliance();
    let name = volume("optional");
    let bind = |options: &str| format!("{}:/x{options}", &*name);
    for good in ["", ":ro", ":rw,z", ":nocopy,Z", ":ro,cached"] {
        let created = create(app, json!({ "Binds": [bind(good)] })).is(201);
        let id = created.json()["Id"].as_str().expect("an id").to_owned();
        let shown = app.inspect(&id);
        let mode = if good.is_empty() { "z" } else { &good[1..] };
        let mount = &shown["Mounts"][0];
        assert_eq!((&mount["Mode"], &mount["RW"]), (&json!(mode), &json!(!good.contains("ro"))));
        assert_eq!((&mount["Name"], &mount["Type"]), (&json!(&*name), &json!("volume")));
        assert_eq!(shown["HostConfig"]["Binds"], json!([bind(good)]));
        remove(app, &created);
    }
    // The reference engine calls what is wrong with them its own fault.
    let status = if is_reference(app) { 500 } else { 400 };
    let refused = |bind: &str, text: &str| {
        create(app, json!({ "Binds": [bind] })).refuses(status, text);
    };
    refused("vv:/x:foo", "invalid mode: foo");
    refused("vv:/x:ro,rw", "invalid mode: ro,rw");
    refused("/x:rw", "invalid volume specification: '/x:rw'");
    refused("vv:/", "invalid specification: destination can't be '/'");
    refused(
        "vv:/x:shared",
        "invalid mount config for type \"volume\": field BindOptions must not be specified",
    );
    refused(
        "/tmp:/x:nocopy",
        "invalid mount config for type \"bind\": field VolumeOptions must not be specified",
    );
    run(app, &app.busybox(), &["-v", &bind(":ro")], "touch /x/file")
        .fails()
        .says_on_stderr("Read-only file system");
    // A missing folder of the machine is made, at the start.
    let host = inspected(app, &name)["Mountpoint"].as_str().expect("a path").to_owned();
    let deep = format!("{host}/made/deep:/y");
    run(app, &app.busybox(), &["-v", &deep, "-v", &bind("")], "touch /y/file; ls /x/made/deep")
        .prints("file\n")
        .succeeds();
}

/// O9
#[test]
fn mounts_say_what_is_wrong() {
    let app = appliance();
    let refused = |mount: Value, text: &str| {
        create(app, json!({ "Mounts": [mount] })).refuses(400, text);
    };
    refused(
        json!({ "Type": "bind", "Source": "/no/such", "Target": "/x" }),
        "invalid mount config for type \"bind\": bind source path does not exist: /no/such",
    );
    refused(
        json!({ "Type": "bind", "Source": "/etc", "Target": "x" }),
        "invalid mount config for type \"bind\": invalid mount path: 'x' mount path must be absolute",
    );
    refused(
        json!({ "Type": "bind", "Source": "/etc", "Target": "" }),
        "invalid mount config for type \"bind\": field Target must not be empty",
    );
    refused(
        json!({ "Type": "bind", "Source": "/etc", "Target": "/x", "BindOptions": { "Propagation": "foo" } }),
        "invalid mount config for type \"bind\": invalid propagation mode: foo",
    );
    refused(
        json!({ "Type": "bind", "Source": "/etc", "Target": "/x", "VolumeOptions": {} }),
        "VolumeOptions must not be specified on mount type \"bind\"",
    );
    refused(
        json!({ "Type": "tmpfs", "Target": "/x", "TmpfsOptions": { "Options": [["foo"]] } }),
        "invalid mount config for type \"tmpfs\": invalid option: foo",
    );
    refused(
        json!({ "Type": "volume", "Source": "vv", "Target": "/x", "VolumeOptions": { "Subpath": "../a" } }),
        "invalid mount config for type \"volume\": subpath must be a relative path within the volume",
    );
    refused(
        json!({ "Type": "foo", "Target": "/x" }),
        "invalid mount config for type \"foo\": mount type unknown",
    );
    let driver = json!({ "DriverConfig": { "Name": "nope" } });
    create(
        app,
        json!({ "Mounts": [{ "Type": "volume", "Source": "vl", "Target": "/x", "VolumeOptions": driver }] }),
    )
    .refuses(404, "create vl: error looking up volume plugin nope: plugin \"nope\" not found");
    create(app, json!({ "Mounts": [{ "Type": "image", "Source": "no-such-image", "Target": "/x" }] }))
        .refuses(404, "No such image: no-such-image:latest");
}

/// O9, E10: a missing folder is made where it is asked for, and what was asked is shown as it was.
#[test]
fn a_mount_is_shown_as_it_was_asked_for() {
    let app = appliance();
    let (name, home) = (volume("asked"), volume("home"));
    app.docker(["volume", "create", &home]).succeeds();
    let source = format!("{}/made", inspected(app, &home)["Mountpoint"].as_str().expect("a path"));
    let asked = json!([
        { "Type": "bind", "Source": source, "Target": "/b", "BindOptions": { "CreateMountpoint": true } },
        {
            "Type": "volume", "Source": &*name, "Target": "/v", "ReadOnly": true,
            "VolumeOptions": { "NoCopy": true, "Labels": { "k": "v" } },
        },
        { "Type": "tmpfs", "Target": "/t", "TmpfsOptions": { "SizeBytes": 1_048_576, "Mode": 448 } },
    ]);
    let created = create(app, json!({ "Mounts": asked })).is(201);
    let id = created.json()["Id"].as_str().expect("an id").to_owned();
    let shown = app.inspect(&id);
    assert_eq!(shown["HostConfig"]["Mounts"], asked);
    let mut places: Vec<_> = shown["Mounts"].as_array().expect("a list").clone();
    places.sort_by_key(|mount| mount["Destination"].to_string());
    // Below its own data the reference engine has another usual one.
    let usual = if is_reference(app) { "rslave" } else { "rprivate" };
    let bind = json!({
        "Type": "bind", "Source": source, "Destination": "/b", "Mode": "", "RW": true, "Propagation": usual,
    });
    assert_eq!(places[0], bind);
    let tmpfs = json!({ "Type": "tmpfs", "Source": "", "Destination": "/t", "Mode": "", "RW": true, "Propagation": "" });
    assert_eq!(places[1], tmpfs);
    assert_eq!((&places[2]["Mode"], &places[2]["RW"]), (&json!("z"), &json!(false)));
    assert_eq!(inspected(app, &name)["Labels"], json!({ "k": "v" }));
    app.docker(["start", "-a", &id]).succeeds();
    remove(app, &created);
}

/// O10
#[test]
fn a_place_is_mounted_on_once() {
    let app = appliance();
    let twice = |host: Value| {
        create(app, host).refuses(400, "Duplicate mount point: /x");
    };
    let bind = json!({ "Type": "bind", "Source": "/etc", "Target": "/x" });
    twice(json!({ "Mounts": [bind, bind] }));
    twice(json!({ "Binds": ["/etc:/x", "/tmp:/x/"] }));
    twice(json!({ "Binds": ["/etc:/x"], "Mounts": [bind] }));
    twice(json!({ "Binds": ["vv:/x"], "Tmpfs": { "/x": "" } }));
}

/// O11
#[test]
fn volumes_come_from_other_containers() {
    let app = appliance();
    let image = app.busybox();
    let (name, other, donor) = (volume("given"), volume("others"), app.name("giver"));
    let given = format!("{}:/given", &*name);
    let args = ["create", "--name", &donor, "-v", &given, "-v", "/anonymous", "-v", "/etc:/machine:ro"];
    // The reference engine looks for a volume without a name where the other has a memory file system.
    let memory: &[&str] = if is_reference(app) { &[] } else { &["--mount", "type=tmpfs,target=/memory"] };
    app.docker(args.into_iter().chain(memory.iter().copied()).chain([image.as_str(), "true"])).succeeds();
    let script = "touch /given/file; grep -c -E ' /(given|anonymous|machine|memory) ' /proc/mounts";
    let count = if is_reference(app) { "3\n" } else { "4\n" };
    run(app, &image, &["--volumes-from", &donor], script).prints(count).succeeds();
    let read = format!("{}:ro", &*donor);
    run(app, &image, &["--volumes-from", &read], "ls /given; touch /given/x")
        .mentions("file\n")
        .says_on_stderr("Read-only");
    // The container's own comes before.
    let own = format!("{}:/given", &*other);
    run(app, &image, &["--volumes-from", &donor, "-v", &own], "ls /given").prints("").succeeds();
    let from = |text: &str| create(app, json!({ "VolumesFrom": [text] }));
    from("no-such-container").refuses(400, "No such container: no-such-container");
    from("").refuses(400, "volumes-from specification cannot be an empty string");
    from(&format!("{}:nocopy", &*donor)).refuses(400, "invalid mode: nocopy");
    let created = from(&read).is(201);
    let id = created.json()["Id"].as_str().expect("an id").to_owned();
    let shown = app.inspect(&id);
    assert_eq!(shown["HostConfig"]["VolumesFrom"], json!([read]));
    assert!(shown["Mounts"].as_array().expect("a list").iter().all(|mount| mount["RW"] == false), "{shown}");
    remove(app, &created);
}

/// O12
#[test]
fn memory_file_systems_are_empty_at_each_start() {
    let app = appliance();
    let name = app.name("memory");
    let mount = "type=tmpfs,target=/m,tmpfs-size=1m,tmpfs-mode=700";
    let script = "stat -c %a /t /m; grep -E ' /[tm] ' /proc/mounts; ls /t /m; touch /t/x /m/x";
    let args = ["create", "--name", &name, "--tmpfs", "/t:size=64m,mode=1770,exec", "--mount", mount];
    app.docker(args.into_iter().chain([app.busybox().as_str(), "sh", "-c", script])).succeeds();
    let first = app.docker(["start", "-a", &name]).succeeds().text();
    let again = app.docker(["start", "-a", &name]).succeeds().text();
    assert!(again.lines().skip(2).eq(first.lines().skip(2)), "{again}");
    // Older releases of runc give them the mode of the folder below.
    assert!(is_reference(app) || first.starts_with("1770\n700\n"), "{first}");
    let line =
        |place: &str| first.lines().find(|line| line.contains(place)).expect("it is mounted").to_owned();
    let (t, m) = (line(" /t "), line(" /m "));
    assert!(t.contains("size=65536k") && !t.contains("noexec") && t.contains("nosuid"), "{t}");
    assert!(m.contains("size=1024k") && m.contains("noexec,") && m.contains("nodev"), "{m}");
}

/// O13
#[test]
fn a_part_of_a_volume_can_be_mounted() {
    let app = appliance();
    let (name, image) = (volume("parts"), app.busybox());
    let all = format!("{}:/all", &*name);
    let script = "mkdir -p /all/a/b; echo inner > /all/a/b/file; ln -s a/b /all/link; ln -s / /all/out; echo > /all/plain";
    run(app, &image, &["-v", &all], script).succeeds();
    let part = |path: &str| format!("type=volume,source={},target=/part,volume-subpath={path}", &*name);
    run(app, &image, &["--mount", &part("a/b")], "cat /part/file").prints("inner\n").succeeds();
    run(app, &image, &["--mount", &part("link")], "cat /part/file").prints("inner\n").succeeds();
    app.docker(["run", "--rm", "--mount", &part("out"), &image, "true"])
        .fails()
        .says_on_stderr("path concatenation escapes the base directory, base: ");
    run(app, &image, &["--mount", &part("plain")], "test -f /part && echo file").prints("file\n").succeeds();
    let place = inspected(app, &name)["Mountpoint"].as_str().expect("a path").to_owned();
    let mount =
        json!({ "Type": "volume", "Source": &*name, "Target": "/x", "VolumeOptions": { "Subpath": "nope" } });
    create_at(app, "/v1.44", json!({ "Mounts": [mount] }))
        .refuses(400, "VolumeOptions.Subpath needs API v1.45 or newer");
    let created = create(app, json!({ "Mounts": [mount] })).is(201);
    let id = created.json()["Id"].as_str().expect("an id").to_owned();
    let text = format!("cannot access path {place}/nope: lstat {place}/nope: no such file or directory");
    app.api().post(&format!("/containers/{id}/start")).refuses(404, &text);
    remove(app, &created);
}

/// O13
#[test]
fn an_image_can_be_mounted() {
    let app = appliance();
    let (image, shown) = (app.busybox(), app.image(Image::Volumes));
    let mounts = |source: &str, path: &str| {
        let mut mount = json!({ "Type": "image", "Source": source, "Target": "/image" });
        if !path.is_empty() {
            mount["ImageOptions"] = json!({ "Subpath": path });
        }
        json!({ "Mounts": [mount] })
    };
    create_at(app, "/v1.47", mounts(&shown, ""))
        .refuses(400, "Mount type \"Image\" needs API v1.48 or newer");
    let output = |host: Value, script: &str| {
        let body = json!({ "Image": image, "Cmd": ["sh", "-c", script], "HostConfig": host });
        let created = app.api().post_json("/containers/create", body).is(201);
        assert_eq!(created.json()["Warnings"], json!(["Image mount is an experimental feature"]));
        let id = created.json()["Id"].as_str().expect("an id").to_owned();
        let text = app.docker(["start", "-a", &id]).text();
        let mount = app.inspect(&id)["Mounts"][0].clone();
        remove(app, &created);
        (text, mount)
    };
    let (text, mount) = output(mounts(&shown, ""), "cat /image/data/file; touch /image/x || echo refused");
    assert_eq!(text, "hello\nrefused\n");
    assert_eq!(
        (&mount["Type"], &mount["Name"], &mount["RW"]),
        (&json!("image"), &json!(shown), &json!(false))
    );
    assert_eq!(output(mounts(&shown, "data"), "cat /image/file; touch /image/x || echo refused").0, text);
    // One layer only.
    assert_eq!(output(mounts(&image, ""), "test -x /image/bin/sh && echo there").0, "there\n");
    assert_eq!(output(mounts(&image, "bin"), "test -x /image/sh && echo there").0, "there\n");
}

/// O13
#[test]
fn read_only_goes_all_the_way_down() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine has the folders of its host");
    }
    let (home, image, mounter) = (volume("tree"), app.busybox(), app.name("mounter"));
    app.docker(["volume", "create", &home]).succeeds();
    let place = inspected(app, &home)["Mountpoint"].as_str().expect("a path").to_owned();
    // Mounts something below the folder, where the machine sees it.
    let shared = format!("{place}:/tree:rshared");
    let script =
        "mkdir -p /tree/inner && mount -t tmpfs tmpfs /tree/inner && touch /tree/inner/there && sleep 600";
    app.docker(["run", "-d", "--privileged", "--name", &mounter, "-v", &shared, &image, "sh", "-c", script])
        .succeeds();
    let bind = |options: &str| format!("type=bind,source={place},target=/tree{options}");
    let inner = |options: &str, script: &str| run(app, &image, &["--mount", &bind(options)], script);
    eventually("it is mounted", app.patience(), || {
        inner("", "ls /tree/inner").text().contains("there").then_some(())
    });
    inner(",readonly", "touch /tree/inner/x").fails().says_on_stderr("Read-only file system");
    inner(",readonly,bind-recursive=writable", "touch /tree/inner/x && echo written")
        .prints("written\n")
        .succeeds();
    inner(",bind-recursive=disabled", "ls /tree/inner").prints("").succeeds();
    inner(",readonly,bind-recursive=readonly,bind-propagation=rprivate", "touch /tree/inner/x")
        .fails()
        .says_on_stderr("Read-only file system");
    // Who has it as a slave sees what is mounted later; a private one does not.
    let (slave, private) = (app.name("slave"), app.name("private"));
    for (name, propagation) in [(&slave, "rslave"), (&private, "rprivate")] {
        let mount = bind(&format!(",bind-propagation={propagation}"));
        app.docker(["run", "-d", "--name", name, "--mount", &mount, &image, "sleep", "600"]).succeeds();
        assert_eq!(app.inspect(name)["Mounts"][0]["Propagation"], propagation);
    }
    app.docker([
        "exec",
        &mounter,
        "sh",
        "-c",
        "mkdir /tree/later && mount -t tmpfs tmpfs /tree/later && touch /tree/later/x",
    ])
    .succeeds();
    app.docker(["exec", &slave, "ls", "/tree/later"]).prints("x\n").succeeds();
    app.docker(["exec", &private, "ls", "/tree/later"]).prints("").succeeds();
    app.docker(["exec", &mounter, "umount", "/tree/later", "/tree/inner"]).succeeds();
    app.docker(["exec", &slave, "ls", "/tree/later"]).prints("").succeeds();
}

/// O16
#[test]
fn the_engines_mark_is_there_beside_volumes() {
    let app = appliance();
    let name = volume("marked");
    let option = format!("{}:/some/deep/place", &*name);
    let script = "test -e /.dockerenv && readlink /etc/mtab && grep -c ' /some/deep/place ' /etc/mtab";
    run(app, &app.busybox(), &["-v", &option], script).prints("/proc/mounts\n1\n").succeeds();
}

/// O15
#[test]
fn the_engines_socket_is_where_its_clients_look_for_it() {
    let app = appliance();
    if is_reference(app) {
        skip!("the reference engine listens elsewhere");
    }
    let socket = "/var/run/docker.sock:/var/run/docker.sock";
    run(app, &app.busybox(), &["-v", socket], "test -S /var/run/docker.sock && echo there")
        .prints("there\n")
        .succeeds();
}
