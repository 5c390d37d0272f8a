//! What others need for a container of `true`: OCI runtimes with a bundle of the same files, and the bare kernel.

use crate::path;
use crate::sample::Sample;
use pinnace_tests::Program;
use pinnace_tests::images::{Compression, busybox_tree};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
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

/// `RUNTIME run` of the bundle; nothing where it is not installed.
pub fn runtime(program: &str, bundle: &Bundle, times: usize, sample: &mut Sample) {
    let mut number = 0;
    let mut once = || {
        number += 1;
        let name = format!("bench-{}-{number}", std::process::id());
        let mut run = Command::new(program);
        run.args(["run", "--bundle"])
            .arg(bundle.0.path())
            .arg(name)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let status = run.status().unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(status.success(), "{program} run: {status}");
    };
    once();
    sample.measure(times, once);
}

/// The kernel's median in milliseconds, as `floor.c` tells it; nothing where it was not compiled.
pub fn floor() -> Option<f64> {
    let program = path("PINNACE_BENCH_FLOOR")?;
    let busybox = pinnace_tests::build_folder("test-images/busybox-static").join("bin/busybox");
    let run =
        |busybox: &Path| Program::new(&program, Duration::from_secs(60)).args([busybox]).run().succeeds();
    Some(run(&busybox).word().parse().expect("floor prints milliseconds"))
}
