//! What others need for a container of `true`: OCI runtimes with a bundle of the same files, and the bare kernel.

use crate::path;
use crate::sample::Sample;
use pinnace_tests::Program;
use pinnace_tests::images::{Compression, busybox_tree};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A folder with `config.json` and `rootfs`, as the OCI runtime specification has it.
pub struct Bundle(tempfile::TempDir);

impl Bundle {
    /// Unpacks busybox, and asks runc for its own default configuration, without a terminal.
    pub fn new() -> Bundle {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let rootfs = folder.path().join("rootfs");
        let layer = busybox_tree().finish(Compression::Gzip);
        tar::Archive::new(flate2::read::GzDecoder::new(&layer.bytes[..]))
            .unpack(&rootfs)
            .expect("our own layer");
        let bundle = folder.path().to_string_lossy().into_owned();
        Program::new("runc", Duration::from_secs(60)).args(["spec", "--bundle", &bundle]).run().succeeds();
        let config = folder.path().join("config.json");
        let text = std::fs::read(&config).expect("runc made it");
        let mut json: Value = serde_json::from_slice(&text).expect("runc writes JSON");
        json["process"]["terminal"] = json!(false);
        json["process"]["args"] = json!(["true"]);
        std::fs::write(&config, json.to_string()).expect("the folder is ours");
        Bundle(folder)
    }
}

/// `PROGRAM run` of the bundle, `at_once` beside each other, measured in a process of its own.
///
/// On a host with both versions of control groups crun 1.8 refuses to run: version 2 is hidden from everyone there.
pub fn runtime(program: &str, bundle: &Bundle, times: usize, at_once: usize, sample: &mut Sample) {
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" \"$@\"";
    let own = std::env::current_exe().expect("this program has a path").to_string_lossy().into_owned();
    let bundle = bundle.0.path().to_string_lossy().into_owned();
    let (times, at_once) = (times.to_string(), at_once.to_string());
    let args = ["--mount", "sh", "-c", script, &own, TURN_OF_RUNTIME, program, &bundle, &times, &at_once];
    let outcome = Program::new("unshare", Duration::from_secs(300)).args(args).run().succeeds();
    for line in outcome.lines() {
        sample.push(Duration::from_nanos(line.parse().expect("nanoseconds")));
    }
}

/// First argument of this program where it is the process of [`runtime`].
pub const TURN_OF_RUNTIME: &str = "turn-of-runtime";

/// The process of [`runtime`]: prints nanoseconds, one run a line.
pub fn turn(args: &[String]) {
    let [program, bundle, times, at_once] = args else { panic!("expected PROGRAM BUNDLE TIMES AT-ONCE") };
    let number = AtomicUsize::new(0);
    let once = || {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let mut run = Command::new(program);
        run.args(words_of(program, bundle, number)).stdin(Stdio::null()).stdout(Stdio::null());
        let status = run.status().unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(status.success(), "{program} run: {status}");
    };
    let beside = || {
        let mut sample = Sample::default();
        once();
        sample.measure(times.parse().expect("a number"), once);
        sample.nanos().map(|nanos| format!("{nanos}\n")).collect::<String>()
    };
    let at_once: usize = at_once.parse().expect("a number");
    let lines: String = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(beside)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no run panics")).collect()
    });
    std::io::stdout().write_all(lines.as_bytes()).expect("standard output takes the times");
}

/// What makes `program` run `true` in the bundle's files, without network, and remove it.
fn words_of(program: &str, bundle: &str, number: usize) -> Vec<String> {
    let name = format!("bench-{}-{number}", std::process::id());
    let line = match program {
        // Limits it may set everywhere: raising the host's needs a capability.
        "podman" => format!(
            "--root {bundle}/podman --runroot {bundle}/podman-run --cgroup-manager cgroupfs \
             run --rm --network none --ulimit nofile=1024:4096 --ulimit nproc=1024:1024 --rootfs {bundle}/rootfs true"
        ),
        _ => format!("run --bundle {bundle} {name}"),
    };
    line.split_whitespace().map(str::to_owned).collect()
}

/// Whether `program` is installed.
pub fn installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// The kernel's median in milliseconds, as `floor.c` tells it; nothing where it was not compiled.
pub fn floor() -> Option<f64> {
    let program = path("PINNACE_BENCH_FLOOR")?;
    let busybox = pinnace_tests::build_folder("test-images/busybox-static").join("bin/busybox");
    let run =
        |busybox: &Path| Program::new(&program, Duration::from_secs(60)).args([busybox]).run().succeeds();
    Some(run(&busybox).word().parse().expect("floor prints milliseconds"))
}
