//! Bad input to `pinnace`, with the real QEMU: each is one line that says what to do and an exit code, and leaves nothing
//! behind. The guests are a few bytes of machine code in the form of a kernel.

mod bench;

use bench::{Bench, Guest};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn an_image_that_is_not_there() {
    let bench = Bench::new();
    bench.up_from(Path::new("/no/such/image"), &[]).fails_in_one_line("--image");
}

#[test]
fn a_kernel_that_is_none() {
    let bench = Bench::new();
    let image = bench.image(Guest::Silent);
    std::fs::write(image.join("vmlinuz"), "hello").unwrap();
    bench.up_from(&image, &[]).fails_in_one_line("vmlinuz is not a Linux kernel");
}

#[test]
fn an_initramfs_that_is_none() {
    let bench = Bench::new();
    let image = bench.image(Guest::Silent);
    std::fs::write(image.join("initramfs.zst"), "hello").unwrap();
    bench.up_from(&image, &[]).fails_in_one_line("is not a zstd-compressed initramfs");
}

#[test]
fn an_image_that_was_cut_short() {
    let bench = Bench::new();
    let image = bench.image(Guest::Silent);
    std::fs::write(image.join("manifest.json"), r#"{"files":{"initramfs.zst":{"bytes":99}}}"#).unwrap();
    bench.up_from(&image, &[]).fails_in_one_line("of the size its manifest.json tells");
}

#[test]
fn a_host_without_qemu() {
    let bench = Bench::new();
    let image = bench.image(Guest::Silent);
    bench
        .command("up")
        .arg("--image")
        .arg(image)
        .env("PATH", "/nowhere")
        .run()
        .fails_in_one_line("apt-get install");
}

#[test]
fn a_guest_that_never_answers() {
    let bench = Bench::new();
    let begun = Instant::now();
    bench.up(Guest::Silent, &["--timeout", "1"]).fails("did not answer within 1 s");
    assert!(begun.elapsed() < Duration::from_secs(20));
    bench.leaves_nothing();
    bench.command("status").run().fails_saying_on_stdout("did not answer within 1 s");
}

#[test]
fn a_guest_that_switches_itself_off() {
    let bench = Bench::new();
    bench.up(Guest::PowersOff, &[]).fails("ended before its API answered: it switched itself off");
    bench.leaves_nothing();
}

#[test]
fn a_guest_that_resets_itself() {
    let bench = Bench::new();
    bench.up(Guest::Resets, &[]).fails("ended before its API answered: it reset itself");
    bench.leaves_nothing();
}

#[test]
fn a_machine_that_is_killed_while_it_boots() {
    let bench = Bench::new();
    let up = bench.start_up(Guest::Silent, &["--timeout", "60"]);
    bench.kill("qemu-system");
    up.end().fails("SIGKILL");
    bench.leaves_nothing();
}

#[test]
fn a_bridge_that_is_killed_takes_its_machine_along() {
    let bench = Bench::new();
    let up = bench.start_up(Guest::Silent, &["--timeout", "60"]);
    bench.wait_for("qemu-system");
    bench.kill_bridge();
    up.end().fails("the bridge ended without a word");
    bench.no_process_left();
    bench.command("down").run().succeeds();
    bench.leaves_nothing();
}

#[test]
fn down_while_it_boots() {
    let bench = Bench::new();
    let up = bench.start_up(Guest::Silent, &["--timeout", "60"]);
    bench.wait_for("qemu-system");
    bench.command("down").args(&["--timeout", "1"]).run().succeeds();
    up.end().fails("");
    bench.leaves_nothing();
}

#[test]
fn down_of_what_does_not_run() {
    let bench = Bench::new();
    bench.command("down").run().succeeds();
    bench.command("status").run().fails_saying_on_stdout("is stopped");
    bench.command("logs").run().fails_in_one_line("pinnace up");
    bench.command("console").run().fails_in_one_line("pinnace up");
}

#[test]
fn two_ups_at_once_do_not_meet() {
    let bench = Bench::new();
    let first = bench.start_up(Guest::Silent, &["--timeout", "2"]);
    bench.wait_for("qemu-system");
    let second = bench.start_up(Guest::Silent, &["--timeout", "2"]);
    first.end().fails("did not answer");
    second.end().fails("did not answer");
    bench.leaves_nothing();
}

#[test]
fn a_socket_that_another_program_has() {
    let bench = Bench::new();
    let _other = UnixListener::bind(bench.dir().join("docker.sock")).unwrap();
    bench.up(Guest::Silent, &[]).fails_in_one_line("another program listens on");
    assert!(bench.dir().join("docker.sock").exists(), "it is still the other program's");
}

#[test]
fn a_socket_that_nobody_has_any_more() {
    let bench = Bench::new();
    drop(UnixListener::bind(bench.dir().join("docker.sock")).unwrap());
    bench.up(Guest::PowersOff, &[]).fails("it switched itself off");
    bench.leaves_nothing();
}

#[test]
fn a_file_where_the_socket_shall_be() {
    let bench = Bench::new();
    std::fs::write(bench.dir().join("docker.sock"), "mine").unwrap();
    bench.up(Guest::Silent, &[]).fails_in_one_line("is not a socket");
}

#[test]
fn a_disk_in_a_folder_that_is_not_there() {
    let bench = Bench::new();
    bench
        .up(Guest::Silent, &["--disk", "/no/such/folder/data.img"])
        .fails_in_one_line("its folder does not exist");
}

#[test]
fn a_disk_that_is_a_folder() {
    let bench = Bench::new();
    bench.up(Guest::Silent, &["--disk", "/tmp"]).fails_in_one_line("is not a regular file");
}

#[test]
fn a_disk_that_cannot_be() {
    let bench = Bench::new();
    bench.up(Guest::Silent, &["--disk-size", "1M"]).fails_in_one_line("at least 256M");
    bench.up(Guest::Silent, &["--disk-size", "8000000T"]).fails_in_one_line("cannot use the data disk");
    assert!(!bench.dir().join("data.img").exists());
    let disk = bench.dir().join("data.img");
    std::fs::File::create(&disk).unwrap().set_len(1 << 30).unwrap();
    bench.up(Guest::Silent, &["--disk-size", "512M"]).fails_in_one_line("a disk cannot be cut");
    assert_eq!(disk.metadata().unwrap().len(), 1 << 30);
}

#[test]
fn a_disk_on_a_full_file_system() {
    let bench = Bench::new();
    let Some(small) = bench.small_file_system() else { return };
    let disk = small.path().join("data.img");
    let disk = disk.to_str().unwrap();
    bench.up(Guest::Silent, &["--disk", disk]).fails_in_one_line("lies on a full file system");
}

#[test]
fn a_disk_that_another_machine_uses() {
    let (bench, other) = (Bench::new(), Bench::new());
    let disk = bench.dir().join("shared.img");
    let disk = disk.to_str().unwrap();
    let up = bench.start_up(Guest::Silent, &["--timeout", "60", "--disk", disk]);
    bench.wait_until_booting();
    other.up(Guest::Silent, &["--disk", disk]).fails_in_one_line("is used by another appliance");
    other.leaves_nothing();
    bench.command("down").args(&["--timeout", "1"]).run().succeeds();
    up.end().fails("");
}

#[test]
fn a_folder_that_cannot_be_made() {
    let bench = Bench::new();
    bench.up(Guest::Silent, &["--dir", "/proc/nowhere"]).fails_in_one_line("--dir");
    let long = format!("/tmp/{}", "x".repeat(100));
    bench.up(Guest::Silent, &["--dir", &long]).fails_in_one_line("--dir");
}

#[test]
fn a_user_who_may_not() {
    let bench = Bench::new();
    let Some(nobody) = bench.as_nobody("up") else { return };
    let locked = bench.dir().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o700)).unwrap();
    nobody.arg("--dir").arg(locked.join("x")).run().fails_in_one_line("Permission denied");
}

#[test]
fn namespaces_without_root() {
    let bench = Bench::new();
    let Some(nobody) = bench.as_nobody("up") else { return };
    let image = bench.image(Guest::Silent);
    let own = tempfile::tempdir().unwrap();
    std::fs::set_permissions(own.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let up =
        nobody.args(&["--backend", "namespace", "--dir"]).arg(own.path().join("x")).arg("--image").arg(image);
    up.run().fails_in_one_line("needs root");
}

#[test]
fn words_that_are_none() {
    let bench = Bench::new();
    for (option, value) in [
        ("--insecure-registry", "a b"),
        ("--registry-mirror", ""),
        ("--name", "A/B"),
        ("--memory", "lots"),
        ("--cpus", "0"),
        ("--timeout", "0"),
        ("--backend", "xen"),
        ("--userns-remap", "0"),
        ("--userns-remap", "somebody"),
    ] {
        bench.up(Guest::Silent, &[option, value]).fails(option);
    }
    bench.leaves_nothing();
}
