//! The way down, and what a boot is told: deadlines that reach everybody, words that are nobody else's.

use crate::{appliance, is_reference};
use pinnace_tests::{Appliance, Backend, Program, Running, pinnace, skip};
use std::time::Duration;

/// A program that needs so many seconds to end in order.
fn slow_to_end(app: &Appliance, name: &str, seconds: u32, options: &[&str]) {
    let script = format!("trap 'sleep {seconds}; exit 7' TERM; while :; do sleep 0.1; done");
    let image = app.busybox();
    let args = [&["run", "--detach", "--name", name], options, &[&image, "sh", "-c", &script]].concat();
    app.docker(args).succeeds();
}

fn exit_code(app: &Appliance, name: &str) -> Option<i64> {
    app.inspect(name)["State"]["ExitCode"].as_i64()
}

#[test]
fn a_container_has_its_own_time_within_that_of_down() {
    let shared = appliance();
    if is_reference(shared) {
        skip!("the reference engine is not powered off");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let app = Appliance::boot(shared.backend, dir.path());
    slow_to_end(&app, "patient", 12, &["--stop-timeout", "60"]);
    slow_to_end(&app, "usual", 600, &["--stop-timeout", "1"]);
    app.pinnace("down").args(["--timeout", "100"]).run().succeeds();
    let again = Appliance::boot(shared.backend, dir.path());
    assert_eq!(exit_code(&again, "patient"), Some(7), "it ended by itself");
    assert_eq!(exit_code(&again, "usual"), Some(137), "it had its second");
    slow_to_end(&again, "endless", 600, &["--stop-timeout", "600"]);
    again.pinnace("down").args(["--timeout", "3"]).run().succeeds();
    let last = Appliance::boot(shared.backend, dir.path());
    assert_eq!(exit_code(&last, "endless"), Some(137), "the machine's time goes before its own");
}

#[test]
fn a_second_down_shortens_the_first() {
    let shared = appliance();
    if is_reference(shared) {
        skip!("the reference engine is not powered off");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let app = Appliance::boot(shared.backend, dir.path());
    slow_to_end(&app, "endless", 600, &["--stop-timeout", "600"]);
    let first = Running::start(app.pinnace("down").args(["--timeout", "3600"]), app.patience());
    while !app.pinnace("status").run().text().contains("is powering off") {
        std::thread::sleep(Duration::from_millis(20));
    }
    app.pinnace("down").args(["--timeout", "1"]).run().succeeds();
    assert_eq!(first.finish().0, 0);
    let again = Appliance::boot(shared.backend, dir.path());
    assert_eq!(exit_code(&again, "endless"), Some(137), "the engine recorded it: nothing was cut off");
}

#[test]
fn down_says_when_it_had_to_kill() {
    let shared = appliance();
    if is_reference(shared) {
        skip!("the reference engine is not powered off");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let app = Appliance::boot(shared.backend, dir.path());
    let machine = app.status()["machine_pid"].as_u64().expect("a running machine").to_string();
    Program::new("kill", app.patience()).args(["-STOP", &machine]).run().succeeds();
    let down = app.pinnace("down").args(["--timeout", "1"]).run().succeeds();
    down.says_on_stderr("the guest did not power off within 16 s and was killed");
    app.pinnace("status").run().fails().mentions("is stopped").mentions("was killed");
}

#[test]
fn a_guest_that_gives_up_says_why() {
    let shared = appliance();
    if shared.backend != Backend::Qemu {
        skip!("in namespaces there is no disk that a boot could fail on");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    let disk = elsewhere.path().join("foreign.img");
    let foreign = [vec![0; 4096], b"somebody's data".repeat(8192)].concat();
    std::fs::write(&disk, &foreign).expect("a file of the test");
    let image = pinnace_tests::image_folder();
    let up = pinnace(dir.path(), "up").args(["--no-context", "--disk", &disk.to_string_lossy()]);
    let outcome = up.args(["--image", &image.to_string_lossy()]).within(300).run().fails();
    outcome.says_on_stderr("it gave up: boot failed: phase data disk failed");
    pinnace(dir.path(), "status").run().fails().mentions("failed").mentions("it gave up: boot failed");
    assert!(std::fs::read(&disk).expect("it is there").starts_with(&foreign), "nothing was written");
}

#[test]
fn a_mirrors_password_is_no_containers_to_read() {
    let shared = appliance();
    if is_reference(shared) {
        skip!("the reference engine has other settings");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mirror = "https://user:hush-hush@mirror.invalid";
    let app = Appliance::boot_with(shared.backend, dir.path(), &["--registry-mirror", mirror]);
    let mirrors = || app.docker(["info", "--format", "{{.RegistryConfig.Mirrors}}"]).succeeds();
    mirrors().mentions("mirror.invalid");
    let script = "cat /proc/cmdline /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' ' '";
    let image = app.busybox();
    let seen = app.docker(["run", "--rm", "--pid=host", "--privileged", &image, "sh", "-c", script]);
    seen.mentions("config=line").never_mentions("hush").succeeds();
    app.pinnace("logs").run().never_mentions("hush");
    // Every engine of this boot has the same configuration.
    if app.can_kill_engine().is_ok() {
        app.kill_engine();
        mirrors().mentions("mirror.invalid");
    }
}

#[test]
fn a_damaged_data_disk_is_told() {
    let shared = appliance();
    if shared.backend != Backend::Qemu {
        skip!("in namespaces the data is a folder of this machine");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let app = Appliance::boot(shared.backend, dir.path());
    assert_eq!(app.status()["guest"]["read_only"], false);
    let image = app.busybox();
    let damage = "echo damaged on purpose > /sys/fs/ext4/vda/trigger_fs_error";
    // Nothing is recorded any more, so it may have no answer.
    let client = app.docker_beside(["run", "--rm", "--privileged", &image, "sh", "-c", damage]);
    pinnace_tests::eventually("it is told", app.patience(), || {
        (app.status()["guest"]["read_only"] == true).then_some(())
    });
    app.pinnace("status").run().mentions("damaged: can only be read");
    client.kill();
}
