//! `cargo xtask bench`: measures what SPECIFICATION.md promises, with everyone we are measured beside, and writes the
//! table there.

use crate::needs;
use crate::peers;
use crate::say;
use crate::task_image::{self, Image};
use crate::workspace::{Workspace, cargo, output, run as run_command};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BEGIN: &str = "<!-- bench: begin -->\n";
const END: &str = "<!-- bench: end -->";
/// The README shows it.
const PICTURE: &str = "docs/beside-dockerd.svg";

/// What `cargo xtask bench` takes.
#[derive(clap::Args)]
pub struct Options {
    /// How often everything is repeated
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Leave out the peer VM, which takes minutes
    #[arg(long)]
    no_peer: bool,
    /// Print the table and leave SPECIFICATION.md alone
    #[arg(long)]
    dry_run: bool,
    /// Measure only these parts, and leave SPECIFICATION.md alone
    #[arg(long, value_parser = ["boot", "containers", "pull", "streams", "crowd", "crowd-in-the-vm"])]
    only: Vec<String>,
}

/// Builds all sides, measures, writes.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    needs::meet_bench()?;
    let image = task_image::make(workspace)?;
    let mut bench = Command::new(program(workspace)?);
    bench.env("PINNACE_BIN", &image.built.pinnace).env("PINNACE_IMAGE", &image.folder);
    bench
        .env("PINNACE_BENCH_FLOOR", floor(workspace)?)
        .env("PINNACE_BENCH_ROUNDS", options.rounds.to_string());
    bench.args(&options.only);
    let dockerd = peers::fetch(workspace)?;
    if !options.no_peer && (options.only.is_empty() || options.only.iter().any(|part| part == "boot")) {
        bench.env("PINNACE_BENCH_PEER", peer(workspace, &image, &dockerd)?);
    }
    bench.env("PINNACE_BENCH_DOCKERD", &dockerd);
    let whole = !options.dry_run && options.only.is_empty();
    if whole {
        bench.env("PINNACE_BENCH_PICTURE", workspace.root.join(PICTURE));
    }
    say::step("measuring; leave the machine alone");
    let table = format!("{}\n\n{}", circumstances(&image)?, output(&mut bench)?);
    say::output(&table);
    if whole { keep(&workspace.root.join("SPECIFICATION.md"), &table) } else { Ok(()) }
}

/// The measuring program, built as the tests are.
fn program(workspace: &Workspace) -> Result<PathBuf> {
    let build = ["build", "--quiet", "-p", "pinnace-tests", "--bin", "bench"];
    run_command(cargo().args(build).current_dir(&workspace.root))?;
    Ok(workspace.target.join("debug/bench"))
}

fn floor(workspace: &Workspace) -> Result<PathBuf> {
    let program = workspace.build("bench/floor");
    std::fs::create_dir_all(workspace.build("bench"))?;
    let source = workspace.root.join("xtask/bench/floor.c");
    run_command(Command::new("cc").args(["-O2", "-Wall", "-o"]).arg(&program).arg(source))?;
    Ok(program)
}

/// The peer VM, made anew when its recipe or our kernel changed.
fn peer(workspace: &Workspace, image: &Image, dockerd: &Path) -> Result<PathBuf> {
    let folder = workspace.build("bench/peer");
    let recipe = workspace.root.join("xtask/bench/peer-vm.sh");
    let package = kernel_package(workspace, image)?;
    let made = std::fs::metadata(folder.join("initrd")).and_then(|made| made.modified());
    let newest = [&recipe, &package].into_iter().map(|path| path.metadata()?.modified());
    let newest = newest.collect::<std::io::Result<Vec<_>>>()?;
    if !made.is_ok_and(|made| newest.iter().all(|source| *source < made)) {
        say::step("making the peer VM");
        run_command(Command::new(&recipe).args([&package, &folder]).arg(dockerd).stdin(Stdio::null()))?;
    }
    anyhow::ensure!(
        std::fs::read(folder.join("kernel"))? == std::fs::read(image.folder.join("vmlinuz"))?,
        "the peer's kernel is not ours: remove {} and try again",
        folder.display()
    );
    Ok(folder)
}

/// What the image says of itself.
fn manifest(image: &Image) -> Result<serde_json::Value> {
    Ok(serde_json::from_str(&std::fs::read_to_string(image.folder.join("manifest.json"))?)?)
}

/// The package that the image's kernel came from, as apt fetched it.
fn kernel_package(workspace: &Workspace, image: &Image) -> Result<PathBuf> {
    let manifest = manifest(image)?;
    let name = manifest["kernel_package"].as_str().context("the image's manifest lacks kernel_package")?;
    Ok(workspace.build("apt").join(name))
}

/// When, where and with what.
fn circumstances(image: &Image) -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism()?;
    let date = output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let host = output(Command::new("uname").arg("-r"))?;
    let qemu = output(Command::new("qemu-system-x86_64").arg("--version"))?;
    let qemu = qemu.lines().next().unwrap_or_default().split(" (").next().unwrap_or_default().to_owned();
    let manifest = manifest(image)?;
    let guest = manifest["kernel_release"].as_str().context("the image's manifest lacks kernel_release")?;
    Ok(format!(
        "Taken on {}, {cores} cores{}, host kernel {}, {qemu}, guest kernel {guest}.",
        date.trim(),
        model.replacen("\t: ", " of ", 1),
        host.trim()
    ))
}

/// Puts the table between its marks.
fn keep(path: &Path, table: &str) -> Result<()> {
    let text = std::fs::read_to_string(path)?;
    std::fs::write(path, between_marks(&text, table).context("SPECIFICATION.md has lost its bench marks")?)?;
    Ok(())
}

fn between_marks(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = format!("a\n{BEGIN}old\n{END}\nb\n");
        assert_eq!(between_marks(&text, "new\n").unwrap(), format!("a\n{BEGIN}new\n{END}\nb\n"));
        assert_eq!(between_marks("a", "new"), None);
    }
}
