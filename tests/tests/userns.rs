//! `pinnace up --userns-remap`: containers whose ids are not the machine's.
//!
//! These tests have an appliance of their own, whose engine some of them kill: they take turns.

use crate::appliance;
use pinnace_tests::api::Body;
use pinnace_tests::images::{Compression, Image, Layer};
use pinnace_tests::{Appliance, Backend, ContainerName, build_folder, eventually, skip};
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The appliance with mapped ids, and the turn; `None` for an engine that we do not boot.
fn mapped() -> Option<(&'static Appliance, MutexGuard<'static, ()>)> {
    static APPLIANCE: OnceLock<Appliance> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let backend = Backend::of_this_run();
    if backend == Backend::Reference {
        return None;
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = build_folder(&format!("test/{}-mapped", backend.word()));
    let boot = || Appliance::boot_with(backend, &dir, &["--userns-remap", "default"]);
    Some((APPLIANCE.get_or_init(boot), turn))
}

macro_rules! mapped {
    () => {
        match mapped() {
            Some(mapped) => mapped,
            None => skip!("the reference engine is not booted by us"),
        }
    };
}

/// What `script` prints in a container with these options.
#[track_caller]
fn inside(app: &Appliance, options: &[&str], script: &str) -> String {
    let image = app.busybox();
    app.docker([&["run", "--rm"], options, &[&image, "sh", "-c", script]].concat()).succeeds().text()
}

fn sleeping(app: &Appliance, stem: &str, options: &[&str]) -> ContainerName {
    let (name, image) = (app.name(stem), app.busybox());
    app.docker([&["run", "-d", "--name", &name], options, &[&image, "sleep", "600"]].concat()).succeeds();
    name
}

#[test]
fn root_inside_is_somebody_else_outside() {
    let (app, _turn) = mapped!();
    let script = "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; id -u; id -g";
    assert_eq!(inside(app, &[], script), " 0 100000 65536\n 0 100000 65536\n0\n0\n");
    let name = sleeping(app, "userns-top", &[]);
    let shown = app.docker(["top", &name, "-o", "pid,uid,gid,comm"]).succeeds().lines();
    assert_eq!(
        shown[1].split_whitespace().skip(1).collect::<Vec<_>>(),
        ["100000", "100000", "sleep"],
        "{shown:?}"
    );
    let user = sleeping(app, "userns-user", &["--user", "1000:1001"]);
    let shown = app.docker(["top", &user, "-o", "pid,uid,gid,comm"]).succeeds().lines();
    assert_eq!(
        shown[1].split_whitespace().skip(1).collect::<Vec<_>>(),
        ["101000", "101001", "sleep"],
        "{shown:?}"
    );
    assert_eq!(
        app.docker(["exec", &user, "sh", "-c", "id -u; id -g; grep ^CapEff /proc/self/status"])
            .succeeds()
            .lines(),
        ["1000", "1001", "CapEff:\t0000000000000000"]
    );
    // Nobody has this one.
    app.docker(["run", "--rm", "--user", "65536", &app.busybox(), "true"])
        .fails()
        .says_on_stderr("cannot be mapped to a host ID");
}

#[test]
fn what_the_container_is_given_belongs_to_it() {
    let (app, _turn) = mapped!();
    let places = "/ /bin /bin/busybox /etc /dev /dev/null /dev/pts /dev/pts/ptmx /dev/fd /dev/shm /dev/mqueue /etc/hosts \
                  /etc/resolv.conf /etc/hostname /.dockerenv /made /made/here";
    let script = format!("stat -c '%u:%g %n' {places} | grep -v '^0:0 ' ; echo all");
    assert_eq!(inside(app, &["--workdir", "/made/here"], &script), "all\n");
    let script = "echo > /dev/null && touch /dev/file /dev/shm/file /etc/hosts /new && echo x > /dev/stdout";
    assert_eq!(inside(app, &[], script), "x\n");
    assert_eq!(inside(app, &["--user", "7"], "echo x > /dev/stdout"), "x\n");
    let tmpfs = ["--tmpfs", "/a", "--tmpfs", "/b:uid=7,gid=8,mode=750"];
    assert_eq!(
        inside(app, &tmpfs, "touch /a/x; stat -c %u:%g:%a /a /a/x /b"),
        "0:0:1777\n0:0:644\n7:8:750\n"
    );
    let script = "grep -E ' (/proc|/sys|/dev/mqueue|/sys/fs/cgroup) ' /proc/mounts | cut -d' ' -f2,3";
    assert_eq!(
        inside(app, &[], script),
        "/proc proc\n/dev/mqueue mqueue\n/sys sysfs\n/sys/fs/cgroup cgroup2\n"
    );
    assert_eq!(inside(app, &["--read-only"], "touch /x 2> /dev/null || echo no; touch /dev/shm/x"), "no\n");
    let script = "tr '\\0' ' ' < /proc/1/cmdline; stat -c %u /proc/1";
    assert!(inside(app, &["--init"], script).starts_with("/sbin/docker-init -- sh -c "));
}

#[test]
fn terminals_belong_to_the_user_and_the_group_tty() {
    let (app, _turn) = mapped!();
    let (image, script) =
        (app.busybox(), "stat -c %u:%g:%a $(tty); test -c /dev/console && echo x > /dev/tty");
    for (options, owner) in [(&["-t"][..], "0:5:620"), (&["-t", "--user", "9"], "9:5:620")] {
        let words = [&["run", "--rm"], options, &[&image, "sh", "-c", script]].concat();
        assert_eq!(app.docker(words).succeeds().text(), format!("{owner}\r\nx\r\n"));
    }
    let name = sleeping(app, "userns-tty", &[]);
    let words = ["exec", "-t", "--user", "9", &name, "sh", "-c", script];
    // Only a container's own first terminal is its console.
    assert_eq!(app.docker(words).text(), "9:5:620\r\n");
}

#[test]
fn the_machines_files_are_nobodys() {
    let (app, _turn) = mapped!();
    let script = "stat -c %u:%g /m; touch /m/x 2> /dev/null || echo no; chown 0 /m 2> /dev/null || echo no";
    assert_eq!(inside(app, &["-v", "/run:/m"], script), "65534:65534\nno\nno\n");
    assert_eq!(
        inside(app, &[], "(echo 1 > /proc/sysrq-trigger) 2> /dev/null || echo no; mknod /n c 1 3 || echo no"),
        "no\nno\n"
    );
}

#[test]
fn capabilities_hold_over_what_is_the_containers() {
    let (app, _turn) = mapped!();
    let script = "ip link set lo mtu 1400 2> /dev/null && cat /sys/class/net/lo/mtu || echo no";
    assert_eq!(inside(app, &[], script), "no\n");
    assert_eq!(inside(app, &["--cap-add", "NET_ADMIN"], script), "1400\n");
    assert_eq!(inside(app, &["--cap-add", "NET_ADMIN", "--network", "none"], script), "1400\n");
    let open = ["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"];
    assert_eq!(
        inside(app, &open, "mkdir -p /mnt && mount -t tmpfs x /mnt; df /mnt | tail -1 | cut -d' ' -f1"),
        "x\n"
    );
    // The machine's kernel is not the container's, whatever it may.
    let open = ["--cap-add", "ALL", "--security-opt", "seccomp=unconfined"];
    let script = "umount /proc/sys && (echo 1 > /proc/sys/vm/drop_caches) 2> /dev/null || echo no";
    assert_eq!(inside(app, &open, script), "no\n");
    assert_eq!(
        inside(app, &["--sysctl", "net.core.somaxconn=77"], "cat /proc/sys/net/core/somaxconn"),
        "77\n"
    );
    assert_eq!(
        inside(app, &["--sysctl", "kernel.shmmax=12345678"], "cat /proc/sys/kernel/shmmax"),
        "12345678\n"
    );
    assert_eq!(inside(app, &["--ulimit", "nproc=1"], "echo alone"), "alone\n");
    let few = sleeping(app, "userns-few", &["--ulimit", "nofile=20:30"]);
    let limits =
        "ulimit -Sn; ulimit -Hn; grep '^Max open files' /proc/1/limits | tr -s ' ' | cut -d' ' -f4,5";
    app.docker(["exec", &few, "sh", "-c", limits]).prints("20\n30\n20 30\n").succeeds();
    // What a launch needs for itself, the container does not keep.
    assert_eq!(inside(app, &[], "ulimit -Hn"), inside(app, &["--userns", "host"], "ulimit -Hn"));
    assert_eq!(inside(app, &["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"), "500\n");
    // Above what everybody may: the host that namespaces are on need not give that to root.
    if app.backend == Backend::Qemu {
        assert_eq!(inside(app, &["--ulimit", "rtprio=90"], "ulimit -r"), "90\n");
        assert_eq!(inside(app, &["--oom-score-adj", "-500"], "cat /proc/self/oom_score_adj"), "-500\n");
    }
}

#[test]
fn exec_enters_the_same_ids() {
    let (app, _turn) = mapped!();
    let name = sleeping(app, "userns-exec", &[]);
    let ns = |words: &[&str]| {
        let script = "readlink /proc/self/ns/user; id -u; tr -s ' ' < /proc/self/uid_map; touch /tmp-$$";
        app.docker([&["exec"], words, &[&name, "sh", "-c", script]].concat()).succeeds().lines()
    };
    let first = app.docker(["exec", &name, "readlink", "/proc/1/ns/user"]).succeeds().word();
    assert_eq!(ns(&[]), [&first, "0", " 0 100000 65536"]);
    assert_eq!(ns(&["--privileged"]), [&first, "0", " 0 100000 65536"]);
    app.docker(["exec", "--user", "5:6", &name, "sh", "-c", "id -u; id -g"]).prints("5\n6\n").succeeds();
    app.docker(["exec", "--user", "70000", &name, "true"]).fails();
    // Another container has another namespace.
    assert_ne!(inside(app, &[], "readlink /proc/self/ns/user").trim(), first);
}

#[test]
fn archives_tell_and_take_the_containers_ids() {
    let (app, _turn) = mapped!();
    let name = sleeping(app, "userns-cp", &[]);
    for state in ["running", "stopped"] {
        let member = |uid, gid| tar_of(&format!("new-{state}/file"), (uid, gid), b"ok");
        let put = |bytes: &[u8]| {
            let path = format!("/containers/{}/archive?path=/", &*name);
            app.api().call("PUT", &path, Body::Bytes("application/x-tar", bytes))
        };
        put(&member(5, 6)).is(200);
        put(&member(70_000, 0)).refuses(400, "container ID 70000 cannot be mapped to a host ID");
        let got = app.api().get(&format!("/containers/{}/archive?path=/new-{state}", &*name)).is(200).body;
        assert_eq!(owners(&got), [(format!("new-{state}/"), (0, 0)), (format!("new-{state}/file"), (5, 6))]);
        if state == "running" {
            app.docker(["exec", &name, "stat", "-c", "%u:%g", "/new-running", "/new-running/file"])
                .prints("0:0\n5:6\n");
            app.docker(["exec", &name, "rm", "/bin/sh"]).succeeds();
        }
        let exported = app.api().get(&format!("/containers/{}/export", &*name)).is(200).body;
        let all = owners(&exported);
        assert!(all.contains(&("bin/busybox".to_owned(), (0, 0))), "{all:?}");
        assert!(all.contains(&(format!("new-{state}/file"), (5, 6))), "{all:?}");
        let strange: Vec<_> = all.iter().filter(|(_, owner)| !matches!(owner, (0, 0) | (5, 6))).collect();
        assert!(strange.is_empty(), "{strange:?}");
        if state == "running" {
            app.docker(["diff", &name]).prints("C /bin\nD /bin/sh\nA /new-running\nA /new-running/file\n");
            app.docker(["stop", "-t", "0", &name]).succeeds();
        }
    }
    app.docker(["start", &name]).succeeds();
    app.docker(["exec", &name, "stat", "-c", "%u:%g", "/new-stopped/file"]).prints("5:6\n").succeeds();
}

/// An archive of one file.
fn tar_of(path: &str, owner: (u64, u64), content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_uid(owner.0);
    header.set_gid(owner.1);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, path, content).expect("writing to memory");
    tar.into_inner().expect("writing to memory")
}

fn owners(bytes: &[u8]) -> Vec<(String, (u64, u64))> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().expect("a tar stream").map(|entry| {
        let entry = entry.expect("a member");
        let (uid, gid) = (entry.header().uid().expect("a number"), entry.header().gid().expect("a number"));
        (String::from_utf8_lossy(&entry.path_bytes()).into_owned(), (uid, gid))
    });
    entries.collect()
}

#[test]
fn layers_with_ids_that_nobody_has_are_refused() {
    let (app, _turn) = mapped!();
    let layer = |uid| Layer::pack(&tar_of("made/file", (uid, 3), b""), Compression::Gzip);
    let publish = |name: &str, uid: u64| {
        let recipe = pinnace_tests::images::busybox().layer(layer(uid));
        app.registry().publish(name, &recipe).reference
    };
    let high = publish("userns/high", 70_000);
    app.docker(["pull", &high]).fails().says_on_stderr("container ID 70000 cannot be mapped to a host ID");
    let fine = publish("userns/fine", 65_535);
    app.docker(["run", "--rm", &fine, "stat", "-c", "%u:%g", "/made", "/made/file"])
        .prints("0:0\n65535:3\n")
        .succeeds();
}

#[test]
fn the_hosts_ids_are_had_for_the_asking() {
    let (app, _turn) = mapped!();
    let host = ["--userns", "host"];
    let script =
        "tr -s ' ' < /proc/self/uid_map; stat -c %u:%g / /bin/busybox /etc/hosts; touch /x; stat -c %u /x";
    assert_eq!(inside(app, &host, script), " 0 0 4294967295\n100000:100000\n100000:100000\n0:0\n0\n");
    // Nor is a sandbox of its user's, who would have every capability over it.
    let script = "ip link set lo mtu 1400 2> /dev/null || echo no";
    assert_eq!(inside(app, &host, script), "no\n");
    assert_eq!(
        inside(app, &["--userns", "host", "--privileged"], "ip link set lo mtu 1400 && echo yes"),
        "yes\n"
    );
    assert_eq!(inside(app, &["--userns", "host", "--network", "host"], "echo yes"), "yes\n");
    // What a mapped one writes is seen as the other's.
    let donor = sleeping(app, "userns-donor", &["--ipc", "shareable"]);
    app.docker(["exec", "--user", "3:4", &donor, "touch", "/dev/shm/mark"]).succeeds();
    let joined = format!("container:{}", &*donor);
    let options = ["--userns", "host", "--ipc", &joined];
    assert_eq!(inside(app, &options, "stat -c %u:%g /dev/shm/mark"), "100003:100004\n");
}

#[test]
fn what_does_not_go_with_mapped_ids_is_refused() {
    let (app, _turn) = mapped!();
    let refused = |host: Value, text: &str| {
        let body = json!({ "Image": app.busybox(), "Cmd": ["true"], "HostConfig": host });
        let told = app.api().post_json("/containers/create", body).refuses(400, "").json()["message"].clone();
        assert_eq!(told, text);
    };
    refused(
        json!({ "Privileged": true }),
        "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace \
         when running privileged mode",
    );
    refused(
        json!({ "NetworkMode": "host" }),
        "cannot share the host's network namespace when user namespaces are enabled",
    );
    refused(
        json!({ "PidMode": "host" }),
        "cannot share the host PID namespace when user namespaces are enabled",
    );
    let info = app.api().get("/info").is(200).json();
    assert_eq!(
        info["SecurityOptions"],
        json!(["name=seccomp,profile=builtin", "name=userns", "name=cgroupns"])
    );
    assert_eq!(info["DockerRootDir"], "/var/lib/pinnace/100000.100000");
}

#[test]
fn namespaces_are_shared_with_their_owner() {
    let (app, _turn) = mapped!();
    let name = sleeping(app, "userns-shared", &["--ipc", "shareable"]);
    let user = app.docker(["exec", &name, "readlink", "/proc/1/ns/user"]).succeeds().word();
    app.docker(["exec", &name, "touch", "/dev/shm/mark"]).succeeds();
    let joined = format!("container:{}", &*name);
    let script =
        "readlink /proc/self/ns/user; stat -c %u /dev/shm/mark; test -d /sys/class/net/eth0 && echo net";
    assert_eq!(inside(app, &["--ipc", &joined], script), format!("{user}\n0\nnet\n"));
    let script = "readlink /proc/self/ns/user; cat /proc/1/comm; kill -0 1 && echo kills";
    assert_eq!(inside(app, &["--pid", &joined], script), format!("{user}\nsleep\nkills\n"));
    assert_eq!(inside(app, &["--pid", &joined, "--network", "none"], "cat /proc/1/comm"), "sleep\n");
    for (option, kind) in [("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup")] {
        let link = format!("readlink /proc/self/ns/{kind}");
        let machine = inside(app, &["--userns", "host", option, "host"], &link);
        assert_eq!(inside(app, &[option, "host"], &link), machine, "{option}");
    }
    assert_eq!(
        inside(
            app,
            &["--cgroupns", "host"],
            "(echo 1 > /sys/fs/cgroup/cgroup.procs) 2> /dev/null || echo no"
        ),
        "no\n"
    );
}

#[test]
fn a_container_outlives_its_engine() {
    let (app, _turn) = mapped!();
    if let Err(reason) = app.can_kill_engine() {
        skip!("{reason}");
    }
    let options = ["--health-cmd", "test $(id -u) = 0", "--health-interval", "200ms"];
    let name = sleeping(app, "userns-survivor", &options);
    let healthy = || {
        let status = app.inspect(&name)["State"]["Health"]["Status"].clone();
        (status == "healthy").then_some(())
    };
    eventually("it is healthy", app.patience(), healthy);
    let before = app.inspect(&name);
    app.kill_engine();
    let after = app.inspect(&name);
    assert_eq!(before["State"]["Pid"], after["State"]["Pid"]);
    app.docker(["exec", &name, "sh", "-c", "id -u; touch /mark; stat -c %u /mark"])
        .prints("0\n0\n")
        .succeeds();
    app.docker_fed("x", ["exec", "-i", &name, "sh", "-c", "cat > /fed"]).succeeds();
    let got = app.api().get(&format!("/containers/{}/archive?path=/fed", &*name)).is(200).body;
    assert_eq!(owners(&got), [("fed".to_owned(), (0, 0))]);
    eventually("it is healthy again", app.patience(), healthy);
    app.docker(["restart", "-t", "0", &name]).succeeds();
    app.docker(["exec", &name, "stat", "-c", "%u", "/fed"]).prints("0\n").succeeds();
    app.docker(["stop", "-t", "0", &name]).succeeds();
}

#[test]
fn a_restart_policy_starts_it_in_new_namespaces() {
    let (app, _turn) = mapped!();
    let (name, image) = (app.name("userns-restart"), app.busybox());
    let script = "echo run >> /runs; test $(wc -l < /runs) -ge 3 && exec sleep 600; exit 1";
    let words = ["run", "-d", "--name", &name, "--restart", "on-failure", &image, "sh", "-c", script];
    app.docker(words).succeeds();
    eventually("it came up", app.patience(), || {
        let seen = app.inspect(&name);
        (seen["RestartCount"] == 2 && seen["State"]["Status"] == "running").then_some(())
    });
    app.docker(["exec", &name, "id", "-u"]).prints("0\n").succeeds();
    let stats = app.api().get(&format!("/containers/{}/stats?stream=0&one-shot=1", &*name)).is(200).json();
    assert_eq!(stats["id"], app.inspect(&name)["Id"]);
}

/// The programs of a whole distribution, and many at one time.
#[test]
fn many_run_beside_each_other() {
    let (app, _turn) = mapped!();
    let image = app.image(Image::Debian);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let script =
                    "id -u; stat -c %u:%g /etc/shadow /usr/bin/passwd; su nobody -s /bin/sh -c 'id -u'";
                app.docker(["run", "--rm", &image, "sh", "-c", script])
                    .succeeds()
                    .prints("0\n0:42\n0:0\n65534\n");
            });
        }
    });
}

#[test]
fn images_are_kept_apart_from_unmapped_ones() {
    if mapped().is_none() {
        skip!("the reference engine is not booted by us");
    }
    let shared = appliance();
    let dir = tempfile::tempdir().expect("a folder for the test");
    let images = |app: &Appliance| app.docker(["images", "--quiet"]).succeeds().lines().len();
    let options = ["--userns-remap", "200000", "--memory", "1G"];
    let plain = Appliance::boot_with(shared.backend, dir.path(), &options[2..]);
    plain.busybox();
    assert_eq!(images(&plain), 1);
    plain.pinnace("down").run().succeeds();
    drop(plain);
    let other = Appliance::boot_with(shared.backend, dir.path(), &options);
    assert_eq!(images(&other), 0);
    assert_eq!(inside(&other, &[], "tr -s ' ' < /proc/self/uid_map; stat -c %u /"), " 0 200000 65536\n0\n");
    other.pinnace("down").run().succeeds();
    drop(other);
    let again = Appliance::boot_with(shared.backend, dir.path(), &options[2..]);
    assert_eq!(images(&again), 1);
    assert_eq!(inside(&again, &[], "tr -s ' ' < /proc/self/uid_map; stat -c %u /"), " 0 0 4294967295\n0\n");
    again.pinnace("down").args(["--purge"]).run().succeeds();
}

#[test]
fn volumes_belong_to_the_containers_ids() {
    let (app, _turn) = mapped!();
    let (name, memory, image) =
        (app.name("userns-volume"), app.name("userns-memory"), app.image(Image::Volumes));
    let run = |volume: &str, script: &str| {
        app.docker(["run", "--rm", "-v", volume, &image, "sh", "-c", script]).succeeds().text()
    };
    assert_eq!(run(&format!("{}:/new", &*name), "stat -c '%u %a' /new; echo text > /new/file"), "0 755\n");
    let copied = app.name("userns-copied");
    let script = "stat -c '%u %g %a' /data /data/own; cat /data/hard";
    assert_eq!(run(&format!("{}:/data", &*copied), script), "1000 1001 2750\n1000 1001 4755\nhello\n");
    let options = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=mode=777"];
    app.docker(["volume", "create"].into_iter().chain(options).chain([&*memory])).succeeds();
    assert_eq!(run(&format!("{}:/m", &*memory), "touch /m/file && ls /m"), "file\n");
    let mount = format!("type=image,source={image},target=/image");
    app.docker(["run", "--rm", "--mount", &mount, &image, "cat", "/image/data/file"])
        .prints("hello\n")
        .succeeds();
    app.docker(["volume", "rm", &name, &copied, &memory]).succeeds();
}

/// The sockets for names and the packet filter of a sandbox that belongs to another user namespace.
#[test]
fn networks_of_the_users_own_have_names() {
    let (app, _turn) = mapped!();
    let (net, name) = (app.name("userns-net"), app.name("userns-named"));
    app.docker(["network", "create", &net]).succeeds();
    app.docker(["run", "-d", "--name", &name, "--network", &net, &app.busybox(), "sleep", "600"]).succeeds();
    let script = format!("nslookup {} && ping -c 1 -W 3 {}", &*name, &*name);
    let told = inside(app, &["--network", &net], &script);
    assert!(told.contains("Address: ") && told.contains("1 packets received"), "{told}");
    let joined = format!("container:{}", &*name);
    assert!(inside(app, &["--network", &joined], "ip -4 -o addr show eth0").contains("inet "));
    app.docker(["rm", "-f", &name]).succeeds();
    app.docker(["network", "rm", &net]).succeeds();
}
