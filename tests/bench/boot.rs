//! From the machine's start to the API's first answer; ours, and Debian's dockerd on the same kernel.

use crate::sample::{Sample, millis};
use crate::{Row, memory, path, rounds, say};
use pinnace_tests::api::Client;
use pinnace_tests::{Appliance, Backend, Program, image_folder, pinnace};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// After this long a machine does not boot any more.
const PATIENCE: Duration = Duration::from_secs(300);

/// Our boots.
struct Boots {
    /// From `pinnace up` to the first answer, polled from outside.
    outside: Sample,
    /// From QEMU's start to the first answer, as `pinnace status` tells.
    answer: Sample,
    /// From QEMU's start to PID 1's first instruction, in the same boots.
    instruction: Sample,
    /// The two divided, boot by boot.
    ratios: Vec<f64>,
    /// The words by which QEMU was told accelerator, processors and memory.
    machine: Vec<String>,
}

/// What the peer's machine has as ours has it.
const ALIKE: [&str; 4] = ["-accel", "-cpu", "-smp", "-m"];

/// The rows of the table.
pub fn rows() -> Vec<Row> {
    let (boots, memory) = ours();
    let peer = peer(&boots);
    let mut rows = vec![size()];
    rows.extend(boots.rows(&peer));
    rows.push(memory);
    rows
}

/// Kernel and initramfs on disk.
fn size() -> Row {
    let bytes = |name: &str| std::fs::metadata(image_folder().join(name)).expect("the image is built").len();
    let (kernel, initramfs) = (bytes("vmlinuz"), bytes("initramfs.zst"));
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let ours = format!("{:.1} MiB", mebibytes(kernel + initramfs));
    let parts = format!("{:.1} + {:.1} MiB", mebibytes(kernel), mebibytes(initramfs));
    Row::new("kernel and initramfs on disk", "24 MiB", ours, parts)
}

/// Boots the VM again and again; the first boot, which makes the data disk, is not counted. Measures the idle guest's
/// memory in the last.
fn ours() -> (Boots, Row) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut boots = Boots::default();
    let mut memory = None;
    for round in 0..=rounds() {
        say(&format!("our VM, boot {round} of {}", rounds()));
        let outside = boot(dir.path());
        if round > 0 {
            boots.add(outside, &status(dir.path()));
        }
        if round == rounds() {
            boots.machine = machine_words(&status(dir.path()));
            // The same appliance as the tests see it.
            memory = Some(memory::of_guest(&Appliance::adopt(Backend::Qemu, dir.path())));
        }
        pinnace(dir.path(), "down").run().succeeds();
    }
    (boots, memory.expect("there is a last round"))
}

fn boot(dir: &Path) -> Duration {
    let start = Instant::now();
    let socket = dir.join("docker.sock");
    let image = image_folder();
    let answered = std::thread::spawn(move || first_answer(&Client::unix(&socket, PATIENCE), start));
    let up = pinnace(dir, "up").args([
        "--backend",
        "qemu",
        "--no-context",
        "--insecure-registry",
        "10.0.0.0/8",
        "--image",
    ]);
    up.args([image.as_os_str()]).within(PATIENCE.as_secs()).run().succeeds();
    answered.join().expect("polling does not panic")
}

fn status(dir: &Path) -> serde_json::Value {
    let outcome = pinnace(dir, "status").args(["--format", "json"]).run().succeeds();
    serde_json::from_slice(&outcome.stdout).expect("status is JSON")
}

/// The options [`ALIKE`] with their values, from QEMU's command line.
fn machine_words(status: &serde_json::Value) -> Vec<String> {
    let pid = status["machine_pid"].as_u64().expect("status tells the machine's process");
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("the machine runs");
    let words: Vec<&str> = line.split('\0').collect();
    let pairs = words.windows(2).filter(|pair| ALIKE.contains(&pair[0]));
    pairs.flatten().map(|word| (*word).to_owned()).collect()
}

fn first_answer(client: &Client, start: Instant) -> Duration {
    loop {
        let call =
            client.try_connect().and_then(|c| c.try_call(b"GET /_ping HTTP/1.1\r\nHost: bench\r\n\r\n"));
        if call.is_ok_and(|line| line.starts_with("HTTP/1.1 200")) {
            return start.elapsed();
        }
        assert!(start.elapsed() < PATIENCE, "no answer within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Default for Boots {
    fn default() -> Boots {
        let none = Sample::default;
        let (ratios, machine) = (Vec::new(), Vec::new());
        Boots { outside: none(), answer: none(), instruction: none(), ratios, machine }
    }
}

impl Boots {
    fn add(&mut self, outside: Duration, status: &serde_json::Value) {
        let told =
            |key: &str| Duration::from_millis(status[key].as_u64().expect("status tells the boot's times"));
        let (answer, instruction) = (told("first_answer_millis"), told("first_instruction_millis"));
        self.outside.push(outside);
        self.answer.push(answer);
        self.instruction.push(instruction);
        self.ratios.push(answer.as_secs_f64() / instruction.as_secs_f64());
    }

    fn rows(&self, peer: &Result<Sample, String>) -> Vec<Row> {
        let mut ratios = self.ratios.clone();
        ratios.sort_by(f64::total_cmp);
        let ratio = format!("{:.2}", ratios[ratios.len() / 2]);
        let sides =
            format!("{:.0} ms / {:.0} ms", millis(self.answer.median()), millis(self.instruction.median()));
        let what = "QEMU's start to first API answer, divided by QEMU's start to PID 1's first instruction";
        let boot = Row::new(what, "1.5", ratio, sides);
        let seconds = |sample: &Sample| sample.median().as_secs_f64();
        let (ours, beside) = match peer {
            Ok(peer) => (
                format!("{:.1} times faster", seconds(peer) / seconds(&self.outside)),
                format!("{:.2} s / {:.2} s", seconds(peer), seconds(&self.outside)),
            ),
            Err(reason) => (format!("{:.2} s", seconds(&self.outside)), format!("pending: {reason}")),
        };
        let own =
            |answer: &Sample, instruction: &Sample| millis(answer.median()) - millis(instruction.median());
        let own = format!("{:.0} ms", own(&self.answer, &self.instruction));
        vec![
            boot,
            Row::new(
                "PID 1's first instruction to first API answer",
                "",
                own,
                "medians of the same boots".to_owned(),
            ),
            Row::new(
                "first API answer, beside a VM with Debian's dockerd on the same kernel",
                "8 times faster",
                ours,
                beside,
            ),
        ]
    }
}

/// Boots the peer a few times, on a machine like ours, each time with a blank disk as a new user has it.
fn peer(ours: &Boots) -> Result<Sample, String> {
    let folder = path("PINNACE_BENCH_PEER").ok_or("no peer VM was built")?;
    let mut sample = Sample::default();
    for round in 1..=rounds().min(3) {
        say(&format!("the peer VM, boot {round}"));
        sample.push(boot_peer(&folder, &ours.machine));
    }
    Ok(sample)
}

fn boot_peer(folder: &Path, machine: &[String]) -> Duration {
    let port = pinnace_tests::free_port();
    let disk = folder.join("data.img");
    let _ = std::fs::remove_file(&disk);
    Program::new("truncate", PATIENCE).args(["-s", "8G", &disk.to_string_lossy()]).run().succeeds();
    let start = Instant::now();
    let mut machine = Machine(qemu(folder, &disk, port).args(machine).spawn().expect("QEMU is installed"));
    let answer = first_answer(&Client::tcp(&format!("127.0.0.1:{port}"), Duration::from_secs(5)), start);
    machine.end();
    answer
}

fn qemu(folder: &Path, disk: &Path, port: u16) -> Command {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-machine",
        "q35",
        "-display",
        "none",
        "-serial",
        "none",
        "-monitor",
        "none",
        "-no-reboot",
        "-append",
        "quiet panic=-1",
    ]);
    qemu.arg("-kernel").arg(folder.join("kernel")).arg("-initrd").arg(folder.join("initrd"));
    qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio", disk.display()));
    qemu.arg("-netdev").arg(format!("user,id=n,hostfwd=tcp:127.0.0.1:{port}-:2375"));
    qemu.args(["-device", "virtio-net-pci,netdev=n"]).stdin(Stdio::null()).stdout(Stdio::null());
    qemu
}

/// Ends with its scope, also in a panic.
struct Machine(Child);

impl Machine {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}
