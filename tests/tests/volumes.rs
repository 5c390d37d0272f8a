//! Volumes: their life, their options, and what is in them.

use crate::{appliance, is_reference};
use pinnace_tests::api::{Body, Response};
use pinnace_tests::images::Image;
use pinnace_tests::{Appliance, eventually, skip};
use serde_json::{Value, json};

/// A volume's name that no other test has; the volume goes with it.
pub struct VolumeName(String);

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

pub fn volume(stem: &str) -> VolumeName {
    VolumeName(appliance().name(stem).to_string())
}

pub fn inspected(app: &Appliance, name: &str) -> Value {
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
pub fn run(app: &Appliance, image: &str, options: &[&str], script: &str) -> pinnace_tests::Outcome {
    let args = ["run", "--rm"].into_iter().chain(options.iter().copied());
    app.docker(args.chain([image, "sh", "-c", script]))
}

/// Asks for a container that runs `true`.
pub fn create(app: &Appliance, host: Value) -> Response {
    create_at(app, "", host)
}

pub fn create_at(app: &Appliance, version: &str, host: Value) -> Response {
    let body = json!({ "Image": app.busybox(), "Cmd": ["true"], "HostConfig": host });
    app.api().post_json(&format!("{version}/containers/create"), body)
}

pub fn remove(app: &Appliance, created: &Response) {
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
