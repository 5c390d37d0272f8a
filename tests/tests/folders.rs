//! Folders of the host in containers: `pinnace up --share`.

use crate::appliance;
use crate::volumes::create;
use pinnace_tests::images::Image;
use pinnace_tests::{Appliance, Backend, build_folder, skip};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

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

/// What programs do with files, each line one thing; perl calls mmap(2) by its number on x86-64.
const WHAT_PROGRAMS_DO: &str = r#"
set -eu
cd /app
ln -s nowhere dangling; [ "$(readlink dangling)" = nowhere ]
echo one > a; ln a b; [ "$(stat -c %h a)" = 2 ]; [ "$(stat -c %i a)" = "$(stat -c %i b)" ]
mv a c; echo two >> b; [ "$(cat c)" = "$(printf 'one\ntwo')" ]
exec 3< c; rm c b; [ "$(cat <&3)" = "$(printf 'one\ntwo')" ]; exec 3<&-
exec 4> gone; rm gone; echo x >&4; exec 4>&-
echo lower > case; echo upper > CASE; [ "$(cat case CASE)" = "$(printf 'lower\nupper')" ]
mkdir -p deep/er/est; mv deep moved; [ -d moved/er/est ]; rmdir moved/er/est; rm -r moved
echo 0123456789 > cut; truncate -s 4 cut; [ "$(cat cut)" = 0123 ]; truncate -s 8k cut; [ "$(stat -c %s cut)" = 8192 ]
touch -d 2001-02-03T04:05:06.789Z then; [ "$(stat -c %.3Y then)" = 981173106.789 ]
chmod 2751 then; [ "$(stat -c %a then)" = 2751 ]; chown 12:34 then; [ "$(stat -c %u:%g then)" = 12:34 ]
umask 077; touch private; [ "$(stat -c %a private)" = 600 ]; mkdir p; [ "$(stat -c %a p)" = 700 ]; umask 022
mkfifo pipe; (echo through > pipe &) ; [ "$(cat pipe)" = through ]
dd if=/dev/zero of=sparse bs=1 count=1 seek=1G 2>/dev/null; [ "$(stat -c %b sparse)" -lt 64 ]
fallocate -l 64k full; [ "$(stat -c %s full)" = 65536 ]
cp --reflink=never sparse copied 2>/dev/null; rm sparse copied
printf 'a b' > "$(printf 'new\nline')"; [ "$(cat new*line)" = 'a b' ]; rm new*line
perl -e 'use Fcntl ":flock"; open A, ">lock"; open B, ">lock"; flock(A, LOCK_EX|LOCK_NB) or die; flock(B, LOCK_EX|LOCK_NB) and die "twice"'
perl -e 'open F, "+>", "mapped"; print F "x" x 4096; close F; open F, "+<", "mapped"; open R, "<", "text"; 
  my $at = syscall(9, 0, 4096, 3, 1, fileno F, 0); die if $at <= 0; open R, "<", "case"; sysseek(R, 0, 0);
  syscall(0, fileno R, $at, 5) == 5 or die "read: $!"; syscall(26, $at, 4096, 4) == 0 or die "msync: $!"'
[ "$(head -c 5 mapped)" = lower ]
(for n in 1 2 3 4 5 6 7 8; do (for i in $(seq 50); do echo "$n $i" >> together; done) & done; wait)
[ "$(wc -l < together)" = 400 ]
"#;

/// O9: as a file system of the machine's own.
#[test]
fn programs_find_in_a_shared_folder_what_they_need() {
    let backend = Backend::of_this_run();
    if backend == Backend::Reference {
        skip!("the reference engine has no host beside its machine");
    }
    let shared = tempfile::tempdir().expect("a folder");
    let place = tempfile::tempdir_in(build_folder("test")).expect("a folder");
    let path = shared.path().to_str().expect("UTF-8");
    let app = Appliance::boot_with(backend, place.path(), &["--share", "none", "--share", path]);
    let bind = format!("{path}:/app");
    let debian = app.image(Image::Debian);
    app.docker(["run", "--rm", "-v", &bind, &debian, "bash", "-c", WHAT_PROGRAMS_DO]).succeeds();
    assert!(fs::read(shared.path().join("mapped")).expect("a file").starts_with(b"lower"));
    // A folder of many files, made there and seen here, made here and seen there.
    let many = "mkdir /app/many && cd /app/many && seq 2000 | xargs touch && ls | wc -l";
    assert_eq!(
        app.docker(["run", "--rm", "-v", &bind, &debian, "sh", "-c", many]).succeeds().text(),
        "2000\n"
    );
    for number in 2001..=4000 {
        fs::write(shared.path().join("many").join(number.to_string()), "").expect("a file");
    }
    let count = "ls -l /app/many | wc -l; rm -r /app/many";
    assert_eq!(
        app.docker(["run", "--rm", "-v", &bind, &debian, "sh", "-c", count]).succeeds().text(),
        "4001\n"
    );
    assert!(!shared.path().join("many").exists());
}

/// Prints what inotify(7) tells of /app: the mask's lower bits and the name. The calls are by their numbers on x86-64.
const WAITS_FOR_CHANGES: &str = r#"
$| = 1; my $fd = syscall(294, 0); open(I, "<&=", $fd) or die; my $app = "/app"; syscall(254, $fd, $app, 0x3ce) > 0 or die;
opendir(D, "/app"); print "ready ", join(" ", sort map { (-s "/app/$_") . $_ } grep { !/^\./ } readdir D), "\n";
while (sysread(I, my $b, 65536)) {
    while (length $b) {
        my ($w, $mask, $cookie, $length) = unpack("iIII", $b);
        printf "%x %s\n", $mask & 0xfff, unpack("Z*", substr($b, 16, $length));
        $b = substr($b, 16 + $length);
    }
}"#;

/// O9: code reloads on save.
#[test]
fn what_changes_on_the_host_wakes_who_waits_for_it() {
    let backend = Backend::of_this_run();
    if backend == Backend::Reference {
        skip!("the reference engine has no host beside its machine");
    }
    let shared = tempfile::tempdir().expect("a folder");
    let place = tempfile::tempdir_in(build_folder("test")).expect("a folder");
    let here = shared.path();
    fs::write(here.join("page"), "first").expect("a file");
    let path = here.to_str().expect("UTF-8");
    let app = Appliance::boot_with(backend, place.path(), &["--share", "none", "--share", path]);
    let debian = app.image(Image::Debian);
    let bind = format!("{path}:/app");
    let mut waits =
        app.docker_beside(["run", "--name", "waits", "-v", &bind, &debian, "perl", "-e", WAITS_FOR_CHANGES]);
    assert_eq!(waits.next_line(), "ready 5page");
    let file = |name: &str| here.join(name);
    fs::write(file("page"), "second").expect("a file");
    waits.reads_until("2 page");
    waits.reads_until("8 page");
    fs::write(file("new"), "new").expect("a file");
    waits.reads_until("100 new");
    fs::rename(file("new"), file("named")).expect("a file");
    waits.reads_until("40 new");
    waits.reads_until("80 named");
    // As editors save.
    fs::write(file(".page.swp"), "third").expect("a file");
    fs::rename(file(".page.swp"), file("page")).expect("a file");
    waits.reads_until("80 page");
    fs::set_permissions(file("page"), fs::Permissions::from_mode(0o600)).expect("a file");
    waits.reads_until("4 page");
    fs::create_dir(file("folder")).expect("a folder");
    waits.reads_until("100 folder");
    fs::remove_dir(file("folder")).expect("a folder");
    waits.reads_until("200 folder");
    fs::remove_file(file("named")).expect("a file");
    waits.reads_until("200 named");
    if app.can_kill_engine().is_ok() {
        app.kill_engine();
        fs::write(file("after"), "the engine's end").expect("a file");
        app.docker(["exec", "waits", "true"]).succeeds();
        waits = app.docker_beside(["logs", "-f", "waits"]);
        waits.reads_until("100 after");
    }
    // What was told was not done again.
    let left = app.docker(["exec", "waits", "cat", "/app/page"]).succeeds().text();
    assert_eq!(
        (left, fs::read_to_string(file("page")).expect("a file")),
        ("third".to_owned(), "third".to_owned())
    );
    assert!(!file("named").exists() && !file("folder").exists());
    waits.kill();
}
