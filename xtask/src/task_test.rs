//! `cargo xtask test`: everything that proves the product, from unit tests to the real machine.

use crate::needs;
use crate::peers;
use crate::say;
use crate::task_image::{self, Image};
use crate::test_run::{Count, run_tests};
use crate::workspace::{Workspace, cargo};
use anyhow::{Result, bail};
use clap::ValueEnum;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What `cargo xtask test` takes.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Where the end-to-end tests run
    #[arg(long, value_enum, default_value_t = Backends::All)]
    backend: Backends,
    /// Fail when a test is skipped in the virtual machine that is not known to be
    #[arg(long)]
    strict: bool,
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// What the virtual machine cannot try, by the reason that a test gives. Everything else runs there.
const SKIPPED_IN_THE_VM: &[&str] = &[
    "only in namespaces can the engine be stopped from here",
    "there is no docker-compose for these tests",
    "only the namespace backend's data is a folder",
    "the processes of a virtual machine are out of sight",
    "this machine's control groups limit memory",
    "only namespaces share the host's folders",
];

impl Options {
    /// What CI runs.
    pub fn of_ci() -> Options {
        Options { strict: true, ..Options::default() }
    }
}

/// Open files that a login shell or a user's service has: what the suite must do with.
const USUAL_LIMIT: u32 = 1024;

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Backends {
    /// Both, one after the other
    #[default]
    All,
    /// New namespaces of this host's kernel; needs root
    Namespace,
    /// A virtual machine
    Qemu,
}

/// Installs what is missing, builds, tests, and tells what came of it.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    needs::meet_tests()?;
    let image = task_image::make(workspace)?;
    let compose = compose(workspace);
    let mut count = Count::default();
    unit_tests(workspace, options, &mut count)?;
    for backend in options.backend.words() {
        end_to_end(workspace, &image, backend, compose.as_deref(), options, &mut count)?;
    }
    count.broken.iter().for_each(|what| say::note(&format!("{what} failed otherwise than by a test")));
    count.unsteady.iter().for_each(|name| say::note(&format!("{name} failed at first, and passed alone")));
    say::note(&format!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped));
    match count.failed + count.broken.len() {
        0 => Ok(()),
        _ => bail!("the tests did not pass"),
    }
}

/// The real Compose. Without a mirror of the release that has it, its tests are skipped, and that is told.
fn compose(workspace: &Workspace) -> Option<PathBuf> {
    match peers::fetch(workspace) {
        Ok(root) => Some(root.join("usr/libexec/docker/cli-plugins/docker-compose")),
        Err(error) => {
            say::note(&format!("no docker-compose: {error:#}"));
            None
        }
    }
}

impl Backends {
    fn words(self) -> &'static [&'static str] {
        match self {
            Backends::All => &["namespace", "qemu"],
            Backends::Namespace => &["namespace"],
            Backends::Qemu => &["qemu"],
        }
    }
}

fn unit_tests(workspace: &Workspace, options: &Options, count: &mut Count) -> Result<()> {
    say::step("unit tests of all crates");
    let skips = Skips::begin(workspace, "unit")?;
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--exclude", "pinnace-tests", "--no-fail-fast", "--"]);
    run_tests("unit tests", skips.of(tests.args(&options.filter)).current_dir(&workspace.root), None, count)?;
    let mut vocabulary = cargo();
    vocabulary.args(["test", "-p", "pinnace-tests", "--lib", "--"]).args(&options.filter);
    run_tests("tests of the tests", skips.of(&mut vocabulary).current_dir(&workspace.root), None, count)?;
    count.skip(&skips.lines()?);
    Ok(())
}

/// The file in which tests say that they were skipped, and why.
struct Skips(PathBuf);

impl Skips {
    /// An empty one.
    fn begin(workspace: &Workspace, name: &str) -> Result<Skips> {
        let path = workspace.build(format!("test/{name}.skipped"));
        std::fs::create_dir_all(workspace.build("test"))?;
        std::fs::write(&path, "")?;
        Ok(Skips(path))
    }

    /// Tells a command's tests of it.
    fn of<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("PINNACE_SKIPS", &self.0)
    }

    fn lines(&self) -> Result<Vec<String>> {
        Ok(std::fs::read_to_string(&self.0)?.lines().map(str::to_owned).collect())
    }
}

fn end_to_end(
    workspace: &Workspace,
    image: &Image,
    backend: &str,
    compose: Option<&Path>,
    options: &Options,
    count: &mut Count,
) -> Result<()> {
    say::step(&format!("end to end, {backend}"));
    let _down = Down { pinnace: image.built.pinnace.clone(), dirs: dirs(workspace, backend) };
    let skips = Skips::begin(workspace, backend)?;
    let mut tests = at_the_usual_limit(&cargo());
    tests.args(["test", "-p", "pinnace-tests", "--test", "end_to_end", "--"]).args(&options.filter);
    tests.current_dir(&workspace.root);
    tests.env("PINNACE_BACKEND", backend).env("PINNACE_BIN", &image.built.pinnace);
    skips.of(&mut tests).env("PINNACE_IMAGE", &image.folder);
    tests.envs(compose.map(|program| ("PINNACE_COMPOSE", program)));
    // Most tests wait for somebody else most of the time.
    run_tests(&format!("end to end, {backend}"), &mut tests, Some(4), count)?;
    let skipped = skips.lines()?;
    count.skip(&skipped);
    if options.strict && backend == "qemu" {
        let unknown =
            skipped.iter().filter(|line| !SKIPPED_IN_THE_VM.iter().any(|known| line.ends_with(known)));
        count.broken.extend(unknown.map(|line| format!("in the virtual machine, {line}: that")));
    }
    Ok(())
}

/// The same program, with as many open files as a login shell has.
fn at_the_usual_limit(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -S -n {USUAL_LIMIT}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program());
    shell
}

/// The folders in which the tests boot: theirs, and the one whose engine they kill.
fn dirs(workspace: &Workspace, backend: &str) -> Vec<PathBuf> {
    [backend.to_owned(), format!("{backend}-mortal"), format!("{backend}-mapped")]
        .map(|name| workspace.build("test").join(name))
        .to_vec()
}

/// Powers off what the tests booted, whatever became of them.
struct Down {
    pinnace: PathBuf,
    dirs: Vec<PathBuf>,
}

impl Drop for Down {
    fn drop(&mut self) {
        for dir in self.dirs.iter().filter(|dir| dir.exists()) {
            let mut down = Command::new(&self.pinnace);
            // A name of their own, so that no context of the person's is theirs.
            down.args(["down", "--purge", "--name", "pinnace-test", "--dir"]).arg(dir).stderr(Stdio::null());
            if !down.status().is_ok_and(|status| status.success()) {
                say::note(&format!("{} could not be powered off", dir.display()));
            }
        }
    }
}
