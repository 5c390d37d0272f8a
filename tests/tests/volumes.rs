//! Volumes and mounts.

use crate::{appliance, is_reference};
use pinnace_tests::api::{Body, Response};
use pinnace_tests::images::Image;
use pinnace_tests::{Appliance, eventually, skip};
use serde_json::{Value, json};

/// A volume's name that no other test has; the volume goes with it.
struct VolumeName(String);

impl std::ops::Deref for VolumeName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for VolumeName {
    fn drop(&mut self) {
        let mut connection = match appliance().api().try_connect() {
            Ok(connection) => connection,
            Err(_) => return,
        };
        connection.call("DELETE", &format!("/volumes/{}?force=1", self.0), Body::Empty);
    }
}

fn volume(stem: &str) -> VolumeName {
    VolumeName(appliance().name(stem).to_string())
}

fn inspected(app: &Appliance, name: &str) -> Value {
    app.api().get(&format!("/volumes/{name}")).is(200).json()
}

fn names(app: &Appliance, filters: Value) -> Vec<String> {
    let answer = app.api().get(&format!("/volumes?filters={}", encoded(&filters))).is(200).json();
    assert_eq!(answer["Warnings"], Value::Null);
    let all = answer["Volumes"].as_array().expect("a list").clone();
    all.iter().map(|volume| volume["Name"].as_str().expect("a name").to_owned()).collect()
}

fn encoded(value: &Value) -> String {
    value.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// `sh -c SCRIPT` in a container with these options.
fn run(app: &Appliance, image: &str, options: &[&str], script: &str) -> pinnace_tests::Outcome {
    let args = ["run", "--rm"].into_iter().chain(options.iter().copied());
    app.docker(args.chain([image, "sh", "-c", script]))
}

/// Asks for a container that runs `true`.
fn create(app: &Appliance, host: Value) -> Response {
    create_at(app, "", host)
}

fn create_at(app: &Appliance, version: &str, host: Value) -> Response {
    let body = json!({ "Image": app.busybox(), "Cmd": ["true"], "HostConfig": host });
    app.api().post_json(&format!("{version}/containers/create"), body)
}

fn remove(app: &Appliance, created: &Response) {
    let id = created.json()["Id"].as_str().expect("an id").to_owned();
    app.api().delete(&format!("/containers/{id}?v=1")).is(204);
}

/// O1
#[test]
fn a_volume_is_made_once() {
    let app = appliance();
    let name = volume("made");
    let body = json!({ "Name": &*name, "Labels": { "colour": "red" } });
    let made = app.api().post_json("/volumes/create", body).is(201).json();
    assert_eq!(
        (&made["Name"], &made["Driver"], &made["Scope"]),
        (&json!(&*name), &json!("local"), &json!("local"))
    );
    assert_eq!((&made["Labels"], &made["Options"]), (&json!({ "colour": "red" }), &Value::Null));
    let place = made["Mountpoint"].as_str().expect("a path");
    assert!(place.ends_with(&format!("/volumes/{}/_data", &*name)), "{place}");
    let time = made["CreatedAt"].as_str().expect("a time");
    assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
    // Options of one that is there are not looked at.
    let again = json!({ "Name": &*name, "DriverOpts": { "type": "x" }, "Labels": { "other": "" } });
    assert_eq!(app.api().post_json("/volumes/create", again).is(201).json(), made);
    assert_eq!(inspected(app, &name), made);
    let unnamed = app.api().post_json("/volumes/create", json!({})).is(201).json();
    let id = VolumeName(unnamed["Name"].as_str().expect("a name").to_owned());
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{}", &*id);
    assert_eq!(unnamed["Labels"], json!({ "com.docker.volume.anonymous": "" }));
    for name in [&*name, "other"] {
        let text = format!("create {name}: error looking up volume plugin nope: plugin \"nope\" not found");
        app.api().post_json("/volumes/create", json!({ "Name": name, "Driver": "nope" })).refuses(404, &text);
    }
    let cluster = json!({ "Name": "cluster", "ClusterVolumeSpec": {} });
    app.api().post_json("/volumes/create", cluster).refuses(503, "This node is not a swarm manager.");
    let text = "volume update only valid for cluster volumes, but swarm is unavailable";
    app.api().call("PUT", &format!("/volumes/{}", &*name), Body::Json(&json!({}))).refuses(503, text);
}

/// O2
#[test]
fn names_are_those_of_folders() {
    let app = appliance();
    let refused = |name: &str, text: &str| {
        let text = format!("create {name}: {text}");
        app.api().post_json("/volumes/create", json!({ "Name": name })).refuses(400, &text);
    };
    refused("v", "volume name is too short, names should be at least two alphanumeric characters");
    for name in ["a/b", "-a", "a b"] {
        refused(
            name,
            &format!(
                "{name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
                 allowed. If you intended to pass a host directory, use absolute path"
            ),
        );
    }
    create(app, json!({ "Binds": ["./a:/x"] }))
        .refuses(400, "includes invalid characters for a local volume name");
}

/// O3
#[test]
fn what_is_in_use_stays() {
    let app = appliance();
    let (name, container) = (volume("used"), app.name("user"));
    let path = format!("/volumes/{}", &*name);
    app.api().get(&path).refuses(404, &format!("get {}: no such volume", &*name));
    app.api().delete(&path).refuses(404, &format!("get {}: no such volume", &*name));
    app.api().delete(&format!("{path}?force=1")).is(204);
    let id = app
        .docker(["create", "--name", &container, "-v", &format!("{}:/data", &*name), &app.busybox(), "true"])
        .succeeds()
        .word();
    let text = format!("remove {}: volume is in use - [{id}]", &*name);
    app.api().delete(&path).refuses(409, &text);
    app.api().delete(&format!("{path}?force=1")).refuses(409, &text);
    app.docker(["rm", &container]).succeeds();
    app.api().delete(&path).is(204);
    app.api().get(&path).is(404);
}

/// O4
#[test]
fn lists_are_filtered() {
    let app = appliance();
    let (one, two, container) = (volume("listed-one"), volume("listed-two"), app.name("lister"));
    app.docker(["volume", "create", "--label", "listed=yes", &one])
        .prints(&format!("{}\n", &*one))
        .succeeds();
    app.docker(["volume", "create", "--label", "listed=no", &two]).succeeds();
    app.docker(["create", "--name", &container, "-v", &format!("{}:/d", &*one), &app.busybox(), "true"])
        .succeeds();
    let ours = |filters: Value| -> Vec<String> {
        let mut found = names(app, filters);
        found.retain(|name| *name == *one || *name == *two);
        found.sort();
        found
    };
    let both = || vec![one.to_string(), two.to_string()];
    assert_eq!(ours(json!({})), both());
    assert_eq!(ours(json!({ "name": ["listed"] })), both());
    assert_eq!(ours(json!({ "name": ["no such"] })), Vec::<String>::new());
    assert_eq!(ours(json!({ "driver": ["local"] })), both());
    assert_eq!(ours(json!({ "driver": ["nope"] })), Vec::<String>::new());
    assert_eq!(ours(json!({ "label": ["listed=no"] })), [two.to_string()]);
    assert_eq!(ours(json!({ "dangling": ["true"] })), [two.to_string()]);
    assert_eq!(ours(json!({ "dangling": ["false"] })), [one.to_string()]);
    let list = |filters: Value| app.api().get(&format!("/volumes?filters={}", encoded(&filters)));
    list(json!({ "nope": ["x"] })).refuses(400, "invalid filter 'nope'");
    list(json!({ "dangling": ["x"] })).refuses(400, "invalid filter 'dangling=[x]'");
    let of_volume = |wanted: &str| {
        let filter = format!("volume={wanted}");
        app.docker(["ps", "-a", "--filter", &filter, "--format", "{{.Names}} {{.Mounts}}"]).succeeds().text()
    };
    assert!(of_volume(&one).starts_with(&*container), "{}", of_volume(&one));
    assert_eq!(of_volume(&two), "");
}

/// O5
#[test]
fn options_are_those_of_mount() {
    let app = appliance();
    let refused = |options: Value, text: &str| {
        let body = json!({ "Name": "refused", "DriverOpts": options });
        app.api().post_json("/volumes/create", body).refuses(400, &format!("create refused: {text}"));
    };
    refused(json!({ "foo": "x" }), "invalid option: \"foo\"");
    refused(json!({ "device": "x" }), "missing required option: \"type\"");
    refused(json!({ "size": "x" }), "invalid size: 'x'");
    refused(json!({ "size": "10m" }), "quota size requested but no quota support");
    let fails = |kind: &str, device: &str, o: &str, why: &str| {
        let name = volume("unmountable");
        let options = json!({ "type": kind, "device": device, "o": o });
        let made = json!({ "Name": &*name, "DriverOpts": options });
        let made = app.api().post_json("/volumes/create", made).is(201).json();
        let place = made["Mountpoint"].as_str().expect("a path");
        let text = format!(
            "error while mounting volume '{place}': failed to mount local volume: mount {device}:{place}"
        );
        let nocopy = json!({ "Binds": [format!("{}:/x:nocopy", &*name)] });
        let created = create(app, nocopy).is(201);
        let id = created.json()["Id"].as_str().expect("an id").to_owned();
        let start = app.api().post(&format!("/containers/{id}/start")).refuses(500, &text);
        assert!(start.text().contains(why), "{}", start.text());
        assert_eq!(app.inspect(&id)["State"]["ExitCode"], 128);
        remove(app, &created);
    };
    fails("none", "/nope", "bind", ", flags: 0x1000: no such file or directory");
    fails("foo", "foo", "ro", ", flags: 0x1: no such device");
    fails("tmpfs", "tmpfs", "foo=3", ", data: foo=3: invalid argument");
    fails("nfs", ":/x", "addr=127.0.0.1,rw", ", data: addr=127.0.0.1: ");
    let name = volume("unpopulated");
    let options = json!({ "type": "none", "device": "/nope", "o": "bind" });
    app.api().post_json("/volumes/create", json!({ "Name": &*name, "DriverOpts": options })).is(201);
    // Where something is copied it fails before it is started.
    let image = app.image(Image::Volumes);
    app.docker(["create", "-v", &format!("{}:/data", &*name), &image, "true"])
        .fails()
        .says_on_stderr("failed to populate volume: error while mounting volume ");
}

/// O5
#[test]
fn a_file_system_is_shared_while_somebody_has_it() {
    let app = appliance();
    let (name, first) = (volume("shared"), app.name("first"));
    let image = app.busybox();
    let options = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=2m,uid=7,noexec"];
    app.docker(["volume", "create"].into_iter().chain(options).chain([&*name])).succeeds();
    let option = format!("{}:/mnt", &*name);
    app.docker(["run", "-d", "--name", &first, "-v", &option, &image, "sleep", "600"]).succeeds();
    app.docker([
        "exec",
        &first,
        "sh",
        "-c",
        "echo one > /mnt/one; stat -c %u /mnt; grep ' /mnt ' /proc/mounts",
    ])
    .mentions("7\n")
    .mentions("size=2048k")
    .mentions("noexec")
    .succeeds();
    run(app, &image, &["-v", &option], "cat /mnt/one; echo two > /mnt/two").prints("one\n").succeeds();
    app.docker(["exec", &first, "cat", "/mnt/two"]).prints("two\n").succeeds();
    app.docker(["rm", "--force", &first]).succeeds();
    run(app, &image, &["-v", &option], "ls /mnt").prints("").succeeds();
}

/// O5
#[test]
fn another_folder_can_be_a_volume() {
    let app = appliance();
    let (folder, name, image) = (volume("bound-folder"), volume("bound"), app.busybox());
    app.docker(["volume", "create", &folder]).succeeds();
    let place = inspected(app, &folder)["Mountpoint"].as_str().expect("a path").to_owned();
    let device = format!("device={place}");
    let options = ["--opt", "type=none", "--opt", "o=bind,ro", "--opt", &device];
    app.docker(["volume", "create"].into_iter().chain(options).chain([&*name])).succeeds();
    run(app, &image, &["-v", &format!("{}:/x", &*folder)], "echo text > /x/file").succeeds();
    let option = format!("{}:/x", &*name);
    run(app, &image, &["-v", &option], "cat /x/file; touch /x/other")
        .says_on_stderr("Read-only")
        .mentions("text");
}

/// O6
#[test]
fn a_new_volume_gets_what_the_image_has() {
    let app = appliance();
    let image = app.image(Image::Volumes);
    let name = volume("copied");
    let option = format!("{}:/data", &*name);
    let container = app.name("copier");
    app.docker(["create", "--name", &container, "-v", &option, &image, "true"]).succeeds();
    // At the creation, not at the start.
    let elsewhere = format!("{}:/elsewhere", &*name);
    let script = "cd /elsewhere; stat -c '%a %u %g' . file own link sub; readlink link; cat hard; \
                  test $(stat -c %i file) = $(stat -c %i hard) && echo same; stat -c %Y file";
    let expected =
        "2750 1000 1001\n755 0 0\n4755 1000 1001\n777 0 0\n700 1000 1001\nfile\nhello\nsame\n1700000000\n";
    run(app, &app.busybox(), &["-v", &elsewhere], script).prints(expected).succeeds();
    // One with files stays as it is.
    run(app, &app.busybox(), &["-v", &elsewhere], "rm -r /elsewhere/*; echo own > /elsewhere/own").succeeds();
    run(app, &image, &["-v", &option], "ls /data").prints("own\n").succeeds();
    let fresh = |options: &[&str], script: &str| {
        let name = volume("fresh");
        let options: Vec<String> = options.iter().map(|text| text.replace("VOLUME", &name)).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        run(app, &image, &options, script).succeeds().text()
    };
    assert_eq!(fresh(&["-v", "VOLUME:/data:ro"], "ls /data"), "file\nhard\nlink\nown\nsub\n");
    assert_eq!(fresh(&["-v", "VOLUME:/data:nocopy"], "ls /data; stat -c '%a %u' /data"), "755 0\n");
    assert_eq!(
        fresh(&["-v", "VOLUME:/data/sub"], "stat -c '%a %u' /data/sub; ls /data"),
        "700 1000\nfile\nhard\nlink\nown\nsub\n"
    );
    assert_eq!(fresh(&["-v", "VOLUME:/none"], "stat -c '%a %u' /none"), "755 0\n");
    assert_eq!(fresh(&["-v", "/data"], "cat /data/file"), "hello\n");
    assert_eq!(fresh(&["--mount", "type=volume,source=VOLUME,target=/data,volume-nocopy"], "ls /data"), "");
    let over = volume("over");
    app.docker(["create", "-v", &format!("{}:/data/file", &*over), &image, "true"])
        .fails()
        .says_on_stderr("/data/file is not directory");
    app.docker(["create", "-v", "/data/file", &image, "true"])
        .fails()
        .says_on_stderr("cannot mount volume over existing file, file exists ");
}

/// O7
#[test]
fn declared_paths_are_anonymous_volumes() {
    let app = appliance();
    let image = app.image(Image::Volumes);
    let mounts = |options: &[&str]| {
        let name = app.name("declared");
        let args = ["create", "--name", &name].into_iter().chain(options.iter().copied());
        app.docker(args.chain([image.as_str(), "true"])).succeeds();
        let shown = app.inspect(&name);
        app.docker(["rm", "-v", &name]).succeeds();
        shown["Mounts"].as_array().expect("a list").clone()
    };
    let all = mounts(&["-v", "/more"]);
    assert_eq!(all.len(), 2, "{all:?}");
    for mount in &all {
        let name = mount["Name"].as_str().expect("a name");
        assert_eq!((name.len(), &mount["Type"], &mount["Driver"]), (64, &json!("volume"), &json!("local")));
        assert_eq!(
            (&mount["RW"], &mount["Mode"], &mount["Propagation"]),
            (&json!(true), &json!(""), &json!(""))
        );
        // They went with their container.
        app.api().get(&format!("/volumes/{name}")).is(404);
    }
    assert_eq!(mounts(&["--tmpfs", "/declared"]), Vec::<Value>::new());
    let bound = mounts(&["-v", "/etc:/declared:ro"]);
    assert_eq!((bound.len(), &bound[0]["Type"], &bound[0]["RW"]), (1, &json!("bind"), &json!(false)));
    let memory = mounts(&["--mount", "type=tmpfs,target=/declared"]);
    assert_eq!((memory.len(), &memory[0]["Type"], &memory[0]["Source"]), (1, &json!("tmpfs"), &json!("")));
    run(app, &image, &[], "cat /declared/first; grep -c ' /declared ' /proc/mounts")
        .prints("first\n1\n")
        .succeeds();
}

/// O7, F15
#[test]
fn anonymous_volumes_go_with_containers_that_say_so() {
    let app = appliance();
    let image = app.image(Image::Volumes);
    let volume_of = |name: &str| app.inspect(name)["Mounts"][0]["Name"].as_str().expect("a name").to_owned();
    let there = |volume: &str| app.api().get(&format!("/volumes/{volume}")).head.status == 200;
    let kept = app.name("kept");
    app.docker(["create", "--name", &kept, &image, "true"]).succeeds();
    let volume = VolumeName(volume_of(&kept));
    app.docker(["rm", &kept]).succeeds();
    assert!(there(&volume));
    let gone = app.name("gone");
    app.docker(["run", "-d", "--rm", "--name", &gone, &image, "sleep", "600"]).succeeds();
    let volume = volume_of(&gone);
    app.docker(["stop", "-t", "0", &gone]).succeeds();
    eventually("it is gone", app.patience(), || (!there(&volume)).then_some(()));
    // What another container has as well stays.
    let (donor, heir) = (app.name("donor"), app.name("heir"));
    app.docker(["create", "--name", &donor, &image, "true"]).succeeds();
    app.docker(["create", "--name", &heir, "--volumes-from", &donor, &image, "true"]).succeeds();
    let volume = volume_of(&donor);
    assert_eq!(volume_of(&heir), volume);
    app.docker(["rm", "-v", &donor]).succeeds();
    assert!(there(&volume));
    app.docker(["rm", "-v", &heir]).succeeds();
    assert!(!there(&volume));
}

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

/// O14
#[test]
fn prune_takes_what_nobody_named() {
    let app = appliance();
    let (named, container) = (volume("named"), app.name("pruned"));
    let image = app.image(Image::Volumes);
    app.docker(["volume", "create", "--label", "prune=this", &named]).succeeds();
    run(app, &image, &["-v", &format!("{}:/x", &*named)], "head -c 1000 /dev/zero > /x/zeros").succeeds();
    app.docker(["create", "--name", &container, "--label", "x", &image, "true"]).succeeds();
    let held = app.inspect(&container)["Mounts"][0]["Name"].as_str().expect("a name").to_owned();
    let unnamed =
        app.api().post_json("/volumes/create", json!({ "Labels": { "prune": "this" } })).is(201).json();
    let unnamed = VolumeName(unnamed["Name"].as_str().expect("a name").to_owned());
    let prune = |version: &str, filters: Value| {
        app.api().post(&format!("{version}/volumes/prune?filters={}", encoded(&filters)))
    };
    let refused = |filters: Value, text: &str| {
        prune("", filters).refuses(400, text);
    };
    refused(json!({ "until": ["1h"] }), "invalid filter 'until'");
    refused(
        json!({ "all": ["x"] }),
        "invalid filter 'all': strconv.ParseBool: parsing \"x\": invalid syntax",
    );
    let ours = json!({ "label": ["prune=this"] });
    assert_eq!(
        prune("", json!({ "label": ["no=such"] })).is(200).json(),
        json!({ "VolumesDeleted": [], "SpaceReclaimed": 0 })
    );
    let pruned = prune("", ours).is(200).json();
    assert_eq!(pruned, json!({ "VolumesDeleted": [&*unnamed], "SpaceReclaimed": 0 }));
    let all = json!({ "label": ["prune=this"], "all": ["true"] });
    let pruned = prune("", all).is(200).json();
    assert_eq!(pruned, json!({ "VolumesDeleted": [&*named], "SpaceReclaimed": 1000 }));
    app.docker(["volume", "create", "--label", "prune=this", &named]).succeeds();
    let older = prune("/v1.41", json!({ "label": ["prune=this"] })).is(200).json();
    assert_eq!(older["VolumesDeleted"], json!([&*named]));
    app.api().get(&format!("/volumes/{held}")).is(200);
    app.docker(["rm", "-v", &container]).succeeds();
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

/// C10
#[test]
fn volumes_tell_what_happens_to_them() {
    let app = appliance();
    let (name, container) = (volume("told"), app.name("teller"));
    let mut stream =
        app.api().stream("GET", &format!("/events?filters={}", encoded(&json!({ "type": ["volume"] }))));
    let option = format!("{}:/data:ro", &*name);
    let id =
        app.docker(["create", "--name", &container, "-v", &option, &app.busybox(), "true"]).succeeds().word();
    app.docker(["start", "-a", &container]).succeeds();
    app.docker(["rm", &container]).succeeds();
    app.docker(["volume", "rm", &name]).succeeds();
    let mut story = Vec::new();
    while story.last().is_none_or(|(action, _): &(String, Value)| action != "destroy") {
        let event = stream.next_json().expect("events never end by themselves");
        if event["Actor"]["ID"] == *name {
            let action = event["Action"].as_str().expect("an action").to_owned();
            story.push((action, event["Actor"]["Attributes"].clone()));
        }
    }
    let driver = json!({ "driver": "local" });
    let mount = json!({
        "container": id, "destination": "/data", "driver": "local", "propagation": "", "read/write": "false",
    });
    let unmount = json!({ "container": id, "driver": "local" });
    let expected = [("create", &driver), ("mount", &mount), ("unmount", &unmount), ("destroy", &driver)];
    let told: Vec<_> = story.iter().map(|(action, attributes)| (action.as_str(), attributes)).collect();
    assert_eq!(told, expected);
}

#[test]
fn usage_counts_files_and_containers() {
    let app = appliance();
    let (name, container) = (volume("counted"), app.name("counter"));
    let option = format!("{}:/data", &*name);
    let args = ["run", "--name", &container, "-v", &option, &app.busybox(), "sh", "-c"];
    app.docker(args.into_iter().chain(["head -c 5000 /dev/zero > /data/a; ln /data/a /data/b"])).succeeds();
    let usage = app.api().get("/v1.51/system/df?type=volume").is(200).json();
    let rows = usage["Volumes"].as_array().expect("a list").clone();
    let row = rows.iter().find(|row| row["Name"] == *name).expect("it is there");
    assert_eq!(row["UsageData"], json!({ "RefCount": 1, "Size": 5000 }));
    if !is_reference(app) {
        let newer = app.api().get("/v1.52/system/df?type=volume&verbose=1").is(200).json();
        assert!(newer["VolumeUsage"]["ActiveCount"].as_u64() >= Some(1), "{newer}");
        assert!(newer["VolumeUsage"]["TotalSize"].as_u64() >= Some(5000), "{newer}");
    }
}

#[test]
fn files_are_copied_into_volumes() {
    let app = appliance();
    let (name, container) = (volume("copied-into"), app.name("copied-into"));
    let image = app.busybox();
    let option = format!("{}:/data", &*name);
    app.docker(["create", "--name", &container, "-v", &option, &image, "sleep", "600"]).succeeds();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("sent");
    std::fs::write(&file, "sent\n").expect("it can be written");
    let place = format!("{}:/data/", &*container);
    app.docker(["cp", &file.to_string_lossy(), &place]).succeeds();
    run(app, &image, &["-v", &option], "cat /data/sent; echo more > /data/more").prints("sent\n").succeeds();
    app.docker(["start", &container]).succeeds();
    let back = dir.path().join("back");
    app.docker(["cp", &format!("{}:/data/more", &*container), &back.to_string_lossy()]).succeeds();
    assert_eq!(std::fs::read_to_string(&back).expect("it was copied"), "more\n");
    app.docker(["cp", &file.to_string_lossy(), &format!("{}:/data/again", &*container)]).succeeds();
    app.docker(["exec", &container, "cat", "/data/again"]).prints("sent\n").succeeds();
    app.docker(["rm", "-f", &container]).succeeds();
    let ro = app.name("copied-ro");
    app.docker(["create", "--name", &ro, "-v", &format!("{option}:ro"), &image, "true"]).succeeds();
    app.docker(["cp", &file.to_string_lossy(), &format!("{}:/data/x", &*ro)])
        .fails()
        .says_on_stderr("mounted volume is marked read-only");
}

#[test]
fn a_failed_creation_leaves_no_anonymous_volume() {
    let app = appliance();
    let (bad, label) = (volume("bad"), app.name("failed"));
    let options = json!({ "type": "none", "device": "/nope", "o": "bind" });
    app.api().post_json("/volumes/create", json!({ "Name": &*bad, "DriverOpts": options })).is(201);
    let labelled =
        json!({ "Type": "volume", "Target": "/a", "VolumeOptions": { "Labels": { "failed": &*label } } });
    let host = json!({ "Mounts": [labelled], "Binds": [format!("{}:/data", &*bad)] });
    let body = json!({ "Image": app.image(Image::Volumes), "Cmd": ["true"], "HostConfig": host });
    let path = format!("/containers/create?name={}", &*label);
    app.api().post_json(&path, body).refuses(500, "failed to populate volume: error while mounting volume");
    let wanted = json!({ "label": [format!("failed={}", &*label)] });
    eventually("it is gone", app.patience(), || names(app, wanted.clone()).is_empty().then_some(()));
    // Its name is free again, and the volume that somebody named is still there.
    app.docker(["create", "--name", &label, &app.busybox(), "true"]).succeeds();
    inspected(app, &bad);
}

/// A file system that PID 1 keeps is the same one after the engine's death.
#[test]
fn volumes_outlive_the_engine() {
    let Some((app, _turn)) = crate::engine_death::mortal() else {
        skip!("the reference engine is not ours to kill");
    };
    if let Err(reason) = app.can_kill_engine() {
        skip!("{reason}");
    }
    let (memory, kept, holder) = (app.name("memory"), app.name("kept"), app.name("holder"));
    let image = app.busybox();
    let options = ["volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", &memory];
    app.docker(options).succeeds();
    let mounts = [format!("{}:/memory", &*memory), format!("{}:/kept", &*kept)];
    let args = ["run", "-d", "--name", &holder, "-v", &mounts[0], "-v", &mounts[1], &image, "sh", "-c"];
    app.docker(args.into_iter().chain(["echo one > /memory/file; echo two > /kept/file; sleep 600"]))
        .succeeds();
    eventually("it has written", app.patience(), || {
        (app.docker(["exec", &holder, "cat", "/kept/file"]).text() == "two\n").then_some(())
    });
    app.kill_engine();
    let read =
        |volume: &str| app.docker(["run", "--rm", "-v", volume, &image, "sh", "-c", "cat /*/file"]).text();
    assert_eq!((read(&mounts[0]), read(&mounts[1])), ("one\n".to_owned(), "two\n".to_owned()));
    app.api().delete(&format!("/volumes/{}", &*kept)).refuses(409, "volume is in use");
    app.docker(["rm", "-f", &holder]).succeeds();
    assert_eq!(read(&mounts[0]), "");
    assert_eq!(read(&mounts[1]), "two\n");
    app.docker(["volume", "rm", &memory, &kept]).succeeds();
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
