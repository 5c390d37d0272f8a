//! `cargo xtask fuzz`: everything that reads a stranger's bytes, fed with arbitrary ones by libFuzzer.
//!
//! The targets are `fuzz/fuzz_targets/*.rs`; `fuzz` is a workspace of its own. They are instrumented for coverage by flags of the
//! stable compiler, so neither a nightly toolchain nor another cargo command is needed; `cargo fuzz` finds the folder as it expects it.

use crate::needs;
use crate::say;
use crate::workspace::{Workspace, cargo, run as run_command};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// An explicit target keeps the instrumentation away from build scripts and proc macros.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What libFuzzer needs of a program (LLVM's SanitizerCoverage documentation).
const INSTRUMENTATION: &str = "--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Targets at a time: as many as the smallest machine has processors.
const AT_ONCE: usize = 2;

/// What `cargo xtask fuzz` takes.
#[derive(clap::Args)]
pub struct Options {
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only these targets
    targets: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options { seconds: 60, targets: Vec::new() }
    }
}

/// Builds the targets and runs each for a while; fails with the first inputs that break one.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    needs::meet_fuzz()?;
    let targets = targets(workspace, options)?;
    say::step(&format!("building the fuzz targets {}", targets.join(", ")));
    let built = build(workspace)?;
    seed_archives(&corpus(workspace, "archive")?)?;
    let mut broken = Vec::new();
    for pair in targets.chunks(AT_ONCE) {
        say::step(&format!("fuzzing {} for {} seconds", pair.join(" and "), options.seconds));
        let running = pair.iter().map(|name| start(workspace, &built, name, options.seconds));
        for (name, mut child) in pair.iter().zip(running.collect::<Result<Vec<_>>>()?) {
            if !child.wait()?.success() {
                broken.push(name.as_str());
            }
        }
    }
    match broken.is_empty() {
        true => Ok(()),
        false => bail!("{} broke; build/fuzz has the log and the input of each", broken.join(", ")),
    }
}

/// The names of the targets that are wanted, sorted.
fn targets(workspace: &Workspace, options: &Options) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(workspace.root.join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).context("a target's name is text")?;
        names.push(name.to_owned());
    }
    names.sort();
    if let Some(unknown) = options.targets.iter().find(|name| !names.contains(name)) {
        bail!("there is no fuzz target {unknown}: there are {}", names.join(", "));
    }
    names.retain(|name| options.targets.is_empty() || options.targets.contains(name));
    Ok(names)
}

/// Builds all targets; returns the folder of the programs.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let target = workspace.target.join("fuzz");
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "--target", TARGET, "--target-dir"]).arg(&target);
    build.current_dir(workspace.root.join("fuzz")).env("RUSTFLAGS", INSTRUMENTATION);
    run_command(&mut build)?;
    Ok(target.join(TARGET).join("release"))
}

/// Where a target's inputs are kept from run to run.
fn corpus(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let folder = workspace.build("fuzz").join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Arbitrary bytes are hardly ever an archive, whose headers have checksums: it begins with real ones, of the targets' own
/// sources.
fn seed_archives(folder: &Path) -> Result<()> {
    for (form, pack) in [("gnu", ""), ("pax", "--gzip"), ("ustar", "--zstd")] {
        let seed = folder.join(format!("seed-{form}"));
        let mut tar = Command::new("tar");
        tar.arg(format!("--format={form}")).args((!pack.is_empty()).then_some(pack));
        run_command(tar.arg("-cf").arg(seed).args([
            "-C",
            env!("CARGO_MANIFEST_DIR"),
            "src/main.rs",
            "Cargo.toml",
        ]))?;
    }
    Ok(())
}

fn start(workspace: &Workspace, built: &Path, name: &str, seconds: u32) -> Result<Child> {
    let corpus = corpus(workspace, name)?;
    let log = std::fs::File::create(workspace.build("fuzz").join(format!("{name}.log")))?;
    let mut program = Command::new(built.join(name));
    program.arg(format!("-max_total_time={seconds}")).arg("-timeout=20").arg("-rss_limit_mb=2048");
    program.arg(format!("-artifact_prefix={}/{name}-", workspace.build("fuzz").display())).arg(corpus);
    program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    program.spawn().with_context(|| format!("cannot start the fuzz target {name}"))
}
