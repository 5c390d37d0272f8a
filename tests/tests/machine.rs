//! What only a machine of its own has: a disk that survives a cut of the power, and a clock.

use crate::{appliance, is_reference};
use pinnace_tests::{Appliance, Backend, Program, Running, eventually, image_folder, pinnace, skip};
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the super block lies on the disk, and its fields (Documentation/filesystems/ext4/super.rst).
const SUPER_BLOCK: u64 = 1024;
const STATE: u64 = SUPER_BLOCK + 0x3a;
const UUID: u64 = SUPER_BLOCK + 0x68;
const HASH_SEED: u64 = SUPER_BLOCK + 0xec;

/// Why these cannot run here, if so.
fn no_machine() -> Option<&'static str> {
    let app = appliance();
    if is_reference(app) {
        Some("the reference engine is not ours to switch off")
    } else {
        (app.backend != Backend::Qemu).then_some("only a virtual machine has a disk and a clock of its own")
    }
}

/// A machine in `dir`, with these options beside those of every test.
fn boot(dir: &Path, options: &[&str]) -> Appliance {
    Appliance::boot_with(Backend::Qemu, dir, options)
}

fn down(dir: &Path) {
    pinnace(dir, "down").run().succeeds();
}

/// The power goes: QEMU has no moment for anything.
fn cut_the_power(app: &Appliance) {
    let machine = app.status()["machine_pid"].as_u64().expect("it runs").to_string();
    Program::new("kill", app.patience()).args(["-KILL", &machine]).run().succeeds();
    eventually("the bridge notices", app.patience(), || {
        (app.pinnace("status").run().code != 0).then_some(())
    });
}

fn host_program(name: &str) -> Program {
    Program::new(name, Duration::from_secs(120)).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
}

/// What the host's own e2fsck finds when nothing may be repaired: nothing.
#[track_caller]
fn is_sound(disk: &Path) {
    host_program("e2fsck").args(["-f", "-n", &disk.to_string_lossy()]).run().exits(0);
}

/// Changes what the file system says of itself, with its checksums.
fn debugfs(disk: &Path, request: &str) {
    host_program("debugfs").args(["-w", "-R", request, &disk.to_string_lossy()]).run().succeeds();
}

fn bytes<const N: usize>(disk: &Path, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    File::open(disk).expect("the disk is there").read_exact_at(&mut bytes, at).expect("it is long enough");
    bytes
}

/// A container that writes numbers to a file, waits for the disk, and says so.
const WRITER: &str =
    "i=$(wc -l < /kept); while :; do i=$((i + 1)); echo $i >> /kept; sync; echo $i; usleep 1000; done";

/// Creates containers, removes every second one, and remembers what was acknowledged, until the machine is gone.
struct Busy {
    created: Vec<String>,
    removed: Vec<String>,
    /// Asked for and not answered: either may be.
    open: Vec<String>,
}

fn be_busy(app: &Appliance, round: u32, image: &str) -> Busy {
    let mut busy = Busy { created: Vec::new(), removed: Vec::new(), open: Vec::new() };
    let body = json!({ "Image": image, "Cmd": ["true"] }).to_string();
    let call = |head: String, body: &str| {
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        app.api().try_connect().and_then(|connection| connection.try_call(request.as_bytes()))
    };
    for number in 0.. {
        let name = format!("cut-{round}-{number}");
        match call(format!("POST /containers/create?name={name}"), &body) {
            Ok(line) if line.starts_with("HTTP/1.1 201") => busy.created.push(name.clone()),
            _ => {
                busy.open.push(name);
                return busy;
            }
        }
        if number % 2 == 1 {
            match call(format!("DELETE /containers/{name}"), "") {
                Ok(line) if line.starts_with("HTTP/1.1 204") => busy.removed.push(name),
                _ => {
                    busy.open.push(name);
                    return busy;
                }
            }
        }
    }
    busy
}

impl Busy {
    #[track_caller]
    fn is_kept(&self, app: &Appliance) {
        let found = app.docker(["ps", "-a", "--format", "{{.Names}}"]).succeeds().lines();
        let open = |name: &&String| !self.open.contains(name);
        let gone: Vec<_> =
            self.created.iter().filter(open).filter(|name| !self.removed.contains(name)).collect();
        for name in gone {
            assert!(found.contains(name), "{name} was acknowledged and is lost; there are {found:?}");
        }
        for name in self.removed.iter().filter(open) {
            assert!(!found.contains(name), "{name} was removed and is back");
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_a_power_cut() {
    if let Some(reason) = no_machine() {
        skip!("{reason}");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut app = boot(dir.path(), &[]);
    // An appliance that goes out of scope is switched off, and they share a folder.
    let mut earlier = Vec::new();
    let image = app.busybox();
    let writer = ["run", "--detach", "--name", "writer", "--restart", "always", &image];
    app.docker(writer.into_iter().chain(["sh", "-c", &format!("touch /kept; {WRITER}")])).succeeds();
    let mut last = 0;
    for round in 0..3 {
        let mut output =
            Running::start(app.docker_program(["logs", "--follow", "--tail", "0", "writer"]), app.patience());
        output.next_line();
        let (busy, said) = std::thread::scope(|scope| {
            let busy = scope.spawn(|| be_busy(&app, round, &image));
            let said = scope.spawn(|| {
                let mut said = 0;
                while let Some(line) = output.try_next_line() {
                    said = line.trim().parse().unwrap_or(said);
                }
                said
            });
            // Somewhere among them, at another moment in each round.
            std::thread::sleep(Duration::from_millis(1500 + 700 * u64::from(round)));
            cut_the_power(&app);
            (busy.join().expect("it ends with the machine"), said.join().expect("it ends with the machine"))
        });
        assert!(busy.created.len() > 3, "nothing was going on: {}", busy.created.len());
        last = std::cmp::max(last, said);
        earlier.push(std::mem::replace(&mut app, boot(dir.path(), &[])));
        busy.is_kept(&app);
        eventually("the writer goes on by itself", app.patience(), || {
            (app.inspect("writer")["State"]["Running"] == true).then_some(())
        });
        let kept =
            app.docker(["exec", "writer", "head", "-n", &last.to_string(), "/kept"]).succeeds().lines();
        let want: Vec<String> = (1..=last).map(|number: u32| number.to_string()).collect();
        assert_eq!(kept, want, "every number that was synced and told");
    }
    assert!(last > 10, "the writer wrote little: {last}");
    app.docker(["rm", "--force", "writer"]).succeeds();
    down(dir.path());
    is_sound(&dir.path().join("data.img"));
}

/// A container that writes the name of each new volume into it, waits for the disk, and says so.
const FILLER: &str = "while :; do for v in /volumes/cut-*; do f=$v/_data/name; \
    if [ -d $v/_data ] && ! [ -e $f ]; then echo ${v##*/} > $f && sync && echo ${v##*/}; fi; done; usleep 1000; done";

/// Makes volumes, removes every third one, and remembers what was acknowledged, until the machine is gone.
fn be_busy_with_volumes(app: &Appliance, round: u32) -> Busy {
    let mut busy = Busy { created: Vec::new(), removed: Vec::new(), open: Vec::new() };
    let call = |head: String, body: &str| {
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        app.api().try_connect().and_then(|connection| connection.try_call(request.as_bytes()))
    };
    for number in 0.. {
        let name = format!("cut-{round}-{number}");
        match call("POST /volumes/create".to_owned(), &json!({ "Name": name }).to_string()) {
            Ok(line) if line.starts_with("HTTP/1.1 201") => busy.created.push(name.clone()),
            _ => {
                busy.open.push(name);
                return busy;
            }
        }
        if number % 3 == 2 {
            match call(format!("DELETE /volumes/{name}"), "") {
                Ok(line) if line.starts_with("HTTP/1.1 204") => busy.removed.push(name),
                _ => {
                    busy.open.push(name);
                    return busy;
                }
            }
        }
        // The one that fills them is to come along.
        std::thread::sleep(Duration::from_millis(10));
    }
    busy
}

#[test]
fn volumes_and_what_was_synced_in_them_outlive_a_power_cut() {
    if let Some(reason) = no_machine() {
        skip!("{reason}");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut app = boot(dir.path(), &[]);
    // An appliance that goes out of scope is switched off, and they share a folder.
    let mut earlier = Vec::new();
    let image = app.busybox();
    let folders = "/var/lib/pinnace/volumes:/volumes";
    let filler = ["run", "--detach", "--name", "filler", "--restart", "always", "-v", folders, &image];
    app.docker(filler.into_iter().chain(["sh", "-c", FILLER])).succeeds();
    let mut filled_ever = 0;
    for round in 0..3 {
        let mut output =
            Running::start(app.docker_program(["logs", "--follow", "--tail", "0", "filler"]), app.patience());
        let (busy, filled) = std::thread::scope(|scope| {
            let busy = scope.spawn(|| be_busy_with_volumes(&app, round));
            let filled = scope.spawn(|| {
                let mut filled = Vec::new();
                while let Some(line) = output.try_next_line() {
                    filled.push(line.trim().to_owned());
                }
                filled
            });
            std::thread::sleep(Duration::from_millis(2500 + 700 * u64::from(round)));
            cut_the_power(&app);
            (busy.join().expect("it ends with the machine"), filled.join().expect("it ends with the machine"))
        });
        assert!(busy.created.len() > 3, "nothing was going on: {}", busy.created.len());
        earlier.push(std::mem::replace(&mut app, boot(dir.path(), &[])));
        let found = app.docker(["volume", "ls", "--quiet"]).succeeds().lines();
        let open = |name: &&String| !busy.open.contains(name);
        for name in busy.created.iter().filter(open) {
            let there = found.contains(name);
            assert_eq!(there, !busy.removed.contains(name), "{name}, of {found:?}");
        }
        eventually("the filler goes on by itself", app.patience(), || {
            (app.inspect("filler")["State"]["Running"] == true).then_some(())
        });
        let script = "cd /volumes && for v in cut-*; do echo $v $(cat $v/_data/name); done";
        let all = app.docker(["exec", "filler", "sh", "-c", script]).succeeds().lines();
        // Each volume has a folder, and each folder is a volume's.
        eventually("what was half is gone", app.patience(), || {
            let mut folders = app.docker(["exec", "filler", "ls", "-A", "/volumes"]).succeeds().lines();
            folders.sort_unstable();
            let mut known = found.clone();
            known.sort_unstable();
            (folders == known).then_some(())
        });
        for name in filled.iter().filter(|name| found.contains(name)) {
            let line = format!("{name} {name}");
            assert!(all.contains(&line), "{name} was filled and synced; there are {all:?}");
        }
        filled_ever += filled.len();
    }
    assert!(filled_ever > 10, "few were filled: {filled_ever}");
    app.docker(["rm", "--force", "filler"]).succeeds();
    down(dir.path());
    is_sound(&dir.path().join("data.img"));
}

#[test]
fn a_disk_grows_and_has_an_identity_of_its_own() {
    if let Some(reason) = no_machine() {
        skip!("{reason}");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let disk = dir.path().join("data.img");
    let app = boot(dir.path(), &["--disk-size", "512M"]);
    let image = app.busybox();
    let size = |app: &Appliance| {
        let blocks = app.docker(["run", "--rm", &image, "stat", "-f", "-c", "%b", "/"]).succeeds().word();
        blocks.parse::<u64>().expect("a number") * 4096
    };
    let (small, uuid, seed) = (size(&app), bytes::<16>(&disk, UUID), bytes::<16>(&disk, HASH_SEED));
    assert!((256 << 20..512 << 20).contains(&small), "{small}");
    down(dir.path());
    is_sound(&disk);
    let app = boot(dir.path(), &["--disk-size", "3G"]);
    let grown = size(&app);
    assert!(grown > 5 * small, "{grown} after {small}");
    down(dir.path());
    is_sound(&disk);
    assert_eq!((bytes(&disk, UUID), bytes(&disk, HASH_SEED)), (uuid, seed));
    let other = tempfile::tempdir().expect("a temporary folder");
    boot(other.path(), &[]);
    let disk = other.path().join("data.img");
    assert_ne!(bytes::<16>(&disk, UUID), uuid);
    assert_ne!(bytes::<16>(&disk, HASH_SEED), seed);
    down(other.path());
}

#[test]
fn another_ones_disk_is_refused_and_left_as_it_is() {
    if let Some(reason) = no_machine() {
        skip!("{reason}");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    let disk = elsewhere.path().join("theirs.img");
    File::create(&disk).expect("the folder is there").set_len(300 << 20).expect("there is room");
    host_program("mkfs.ext4").args(["-q", "-F", "-L", "theirs", &disk.to_string_lossy()]).run().succeeds();
    let digest = || host_program("sha256sum").args([&*disk.to_string_lossy()]).run().succeeds().word();
    let before = digest();
    let up = pinnace(dir.path(), "up").args(["--backend", "qemu", "--no-context", "--disk"]).args([&disk]);
    up.args(["--image".as_ref(), image_folder().as_os_str()]).within(300).run().fails();
    pinnace(dir.path(), "logs").run().mentions("holds another file system and is left alone");
    assert_eq!(digest(), before);
}

#[test]
fn a_broken_file_system_is_repaired_by_the_machine_itself() {
    if let Some(reason) = no_machine() {
        skip!("{reason}");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let disk = dir.path().join("data.img");
    let app = boot(dir.path(), &[]);
    let image = app.busybox();
    app.docker(["create", "--name", "old", &image, "true"]).succeeds();
    let damage = |how: &dyn Fn()| {
        down(dir.path());
        how();
        let app = boot(dir.path(), &[]);
        app.docker(["start", "--attach", "old"]).exits(0);
        app.pinnace("logs").run().mentions("is repaired: this may take a while");
    };
    // The kernel saw a fault in an earlier boot, and there is one: a count that is wrong.
    damage(&|| {
        debugfs(&disk, "set_super_value free_inodes_count 7");
        debugfs(&disk, "set_super_value state 2");
        assert_eq!(bytes(&disk, STATE), [2, 0]);
    });
    down(dir.path());
    is_sound(&disk);
    // It cannot even be mounted.
    boot(dir.path(), &[]);
    damage(&|| {
        let file = OpenOptions::new().write(true).open(&disk).expect("the disk is there");
        // The first descriptor of a block group, whose checksum is its last field but one.
        file.write_all_at(&[0xff; 2], 4096 + 0x1e).expect("it can be written");
    });
    down(dir.path());
    is_sound(&disk);
}

/// Seconds since 1970.
fn host_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs()
}

#[test]
fn the_clock_follows_the_hosts() {
    if let Some(reason) = no_machine() {
        skip!("{reason}");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let app = boot(dir.path(), &[]);
    let image = app.busybox();
    app.docker(["run", "--detach", "--privileged", "--name", "clock", &image, "sleep", "1000000"]).succeeds();
    let inside = |script: &str| app.docker(["exec", "clock", "sh", "-c", script]).succeeds().word();
    let off = || {
        let (before, guest) = (host_time(), inside("date +%s").parse::<u64>().expect("a number"));
        // Nanoseconds are cut off on both sides.
        guest.saturating_sub(host_time()).max((before - 1).saturating_sub(guest))
    };
    inside("date -s @$(($(date +%s) + 3600))");
    assert!(off() > 3000, "it was not set");
    eventually("the clock is right", app.patience(), || (off() == 0).then_some(()));
    // What is small is worked off: the next time it is told, the kernel leads the clock.
    eventually("the clock is led", app.patience(), || {
        let status = inside("adjtimex");
        (status.contains("PLL") && !status.contains("UNSYNC")).then_some(())
    });
    let machine = app.status()["machine_pid"].as_u64().expect("it runs").to_string();
    let kill = |signal: &str| {
        Program::new("kill", app.patience()).args([signal, &machine]).run().succeeds();
    };
    kill("-STOP");
    std::thread::sleep(Duration::from_secs(15));
    kill("-CONT");
    eventually("the clock is right after a pause", app.patience(), || (off() == 0).then_some(()));
    app.docker(["rm", "--force", "clock"]).succeeds();
    down(dir.path());
}
